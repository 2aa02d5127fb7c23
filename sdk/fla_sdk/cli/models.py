"""`fla models [FAMILY[/VARIANT]]`: model families, one with the sizes of its variants, or one variant in full."""

import argparse
import math
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from fla_sdk.errors import CheckpointError, UnknownNameError
from fla_sdk.plugins import Registry
from fla_sdk.records import Command, ModelFamily


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", nargs="?", help="FAMILY, or FAMILY/VARIANT; all families are listed without it")


def run(arguments: argparse.Namespace, registry: Registry) -> None:
    if arguments.name is None:
        for name, family in registry.models.items():
            print(f"{name:12} {family.description}  (variants: {', '.join(family.variants)})")
        return
    name, slash, variant = arguments.name.partition("/")
    family = registry.model(name)
    if slash and variant not in family.variants:
        raise UnknownNameError(f"variant of model {name!r}", variant, family.variants)
    for line in _in_full(family, variant) if slash else _overview(family):
        print(line)


def _overview(family: ModelFamily) -> Iterator[str]:
    yield f"{family.name}: {family.description}"
    for variant in family.variants:
        counts = parameter_counts(family, variant)
        yield f"  {family.name}/{variant}: {sum(counts.values()):,} parameters"
        yield f"      {', '.join(f'{group} {count:,}' for group, count in sorted(counts.items()))}"
        yield f"      {_shape(family, variant)}"


def _in_full(family: ModelFamily, variant: str) -> Iterator[str]:
    counts = parameter_counts(family, variant)
    yield f"{family.name}/{variant}: {_shape(family, variant)}"
    yield f"  {'parameters':15} {'number':>15} {'bfloat16':>12} {'float32':>12}"
    for group, count in (*sorted(counts.items()), ("all", sum(counts.values()))):
        yield f"  {group:15} {count:15,} {2 * count / 1e9:9.3f} GB {4 * count / 1e9:9.3f} GB"
    fitting = list(_fitting(family, variant))
    yield "  published weights that fit" if fitting else "  no published weights are known to fit"
    yield from fitting


def _shape(family: ModelFamily, variant: str) -> str:
    spec = family.spec(family.variants[variant])
    height, width = spec.image_size
    return (
        f"{len(spec.image_slots)} cameras at {height}x{width}, {spec.action_dim} dimensions, "
        f"chunks of {spec.horizon}, {spec.max_tokens} tokens, {spec.normalization} normalization"
    )


def _fitting(family: ModelFamily, variant: str) -> Iterator[str]:
    """A line for each of the family's published weights that training can start from, with what else it takes."""
    from fla_sdk.policy.loading import plan

    expected = _abstract(family, variant)
    trees = {one.variant: _abstract(family, one.variant) for one in family.published}
    for one in family.published:
        given = {p: leaf for p, leaf in trees[one.variant].items() if not one.groups or family.group(p) in one.groups}
        fresh = sorted({family.group(path) for path in expected} - {family.group(path) for path in given})
        try:
            plan(expected, given, group=family.group, fresh=fresh, where=one.uri)
        except CheckpointError:
            continue
        notes = [" ".join(f"--init-fresh {group}" for group in fresh)] if fresh else []
        notes += [", ".join(f"{field}={value}" for field, value in one.options.items())] if one.options else []
        notes += ["to start from, not to serve"] if one.unfit else []
        yield f"    {one.uri}{'  (' + '; '.join(notes) + ')' if notes else ''}"


def parameter_counts(family: ModelFamily, variant: str) -> Counter[str]:
    """Group -> number of parameters, without making any of them."""
    counts: Counter[str] = Counter()
    for path, leaf in _abstract(family, variant).items():
        counts[family.group(path)] += math.prod(leaf.shape)
    return counts


def _abstract(family: ModelFamily, variant: str) -> Mapping[str, Any]:
    from fla_sdk.policy import parameters

    return parameters.abstract(family, family.variants[variant])[1]


COMMAND = Command(name="models", help="list model families, or describe one", configure=configure, run=run)
