"""`fla models [FAMILY]`: model families, or one of them with the parameter counts of its variants."""

import argparse
import math
from collections import Counter
from typing import Any

from fla_sdk.plugins import Registry
from fla_sdk.records import Command, ModelFamily


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", nargs="?", help="family to describe; all are listed without it")


def run(arguments: argparse.Namespace, registry: Registry) -> None:
    if arguments.name is None:
        for name, family in registry.models.items():
            print(f"{name:12} {family.description}  (variants: {', '.join(family.variants)})")
        return
    family = registry.model(arguments.name)
    print(f"{family.name}: {family.description}")
    for variant, config in family.variants.items():
        spec = family.spec(config)
        counts = parameter_counts(family, variant)
        print(f"  {family.name}/{variant}: {sum(counts.values()):,} parameters")
        print(f"      {', '.join(f'{group} {count:,}' for group, count in sorted(counts.items()))}")
        height, width = spec.image_size
        print(
            f"      {len(spec.image_slots)} cameras at {height}x{width}, {spec.action_dim} dimensions, "
            f"chunks of {spec.horizon}, {spec.max_tokens} tokens, {spec.normalization} normalization"
        )


def parameter_counts(family: ModelFamily, variant: str) -> Counter[str]:
    """Group -> number of parameters, without making any of them."""
    import jax

    from fla_sdk.policy import parameters

    config = family.variants[variant]
    abstract: Any = jax.eval_shape(lambda: family.build(config, 0))  # pyright: ignore[reportUnknownMemberType]
    _, flat = parameters.split(abstract)
    counts: Counter[str] = Counter()
    for path, leaf in flat.items():
        counts[family.group(path)] += math.prod(leaf.shape)
    return counts


COMMAND = Command(name="models", help="list model families, or describe one", configure=configure, run=run)
