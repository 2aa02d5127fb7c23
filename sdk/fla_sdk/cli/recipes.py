"""`fla recipes [NAME]`: named training configs, or one of them explained; `fla recipes new`: one to write in."""

import argparse
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from fla_sdk.errors import ConfigError
from fla_sdk.plugins import Registry
from fla_sdk.records import Command, Recipe

if TYPE_CHECKING:
    from fla_sdk.training.config import TrainConfig

NEW = "new"
TEMPLATE = "pi05_frozen_backbone"
WIDTH = 110
"""Columns of an explanation."""


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", nargs="?", help="recipe to explain; all are listed without it. `new` writes one")
    parser.add_argument("called", nargs="?", metavar="RUN", help="with `new`: what to call the run")
    parser.add_argument("--out", type=Path, metavar="FILE", help="with `new`: YAML file to write (default: RUN.yaml)")
    parser.add_argument("--from", dest="template", metavar="RECIPE", help=f"with `new`: to begin with ({TEMPLATE})")
    parser.add_argument(
        "--data", action="append", default=[], metavar="DIR", help="with `new`: dataset; may be repeated"
    )
    parser.add_argument("--embodiment", action="append", default=[], metavar="NAME", help="with `new`: its robot")


def run(arguments: argparse.Namespace, registry: Registry) -> None:
    if arguments.name == NEW:
        _write(arguments, registry)
    elif arguments.name is None:
        longest = max(map(len, registry.recipes), default=0)
        for name, recipe in registry.recipes.items():
            print(f"{name:{longest}}  {recipe.description}")
    else:
        from fla_sdk.training.config import to_yaml

        recipe = registry.recipe(arguments.name)
        config = recipe.config()
        print(f"# {recipe.name}: {recipe.description}\n#")
        for subject, text in _explained(recipe, config):
            for line in textwrap.wrap(f"{subject:10}{text}", WIDTH, subsequent_indent=" " * 10, break_on_hyphens=False):
                print(f"# {line}")
        print(f"#\n{to_yaml(config)}", end="")


def _explained(recipe: Recipe, config: "TrainConfig") -> Iterator[tuple[str, str]]:
    """What the config does, in words: subjects, and what is said about each."""
    o = config.optimizer
    yield "model", ", ".join([config.model, *(f"{name} {value}" for name, value in config.model_options.items())])
    yield "trained", f"everything but {' and '.join(config.freeze)}" if config.freeze else "everything"
    yield "weights", ", then ".join((config.init, *config.init_also))
    if config.init_fresh:
        yield "", f"anew: {', '.join(config.init_fresh)}"
    for place, source in enumerate(config.sources):
        share = f", weight {source.weight:g}" if len(config.sources) > 1 else ""
        told = "" if source.prompt == "{task}" else f', told "{source.prompt}"'
        yield "" if place else "data", f"{source.blank or source.data} of {source.embodiment}{share}{told}"
    if not config.sources:
        yield "data", "yours"
    if len(config.sources) > 1 and config.sampling != "weight":
        yield "", f"drawn from by {config.sampling}"
    for embodiment, place in config.stats.items():
        yield "", f"statistics of {embodiment} from {place}"
    yield (
        "training",
        f"{config.steps:,} steps of {config.batch_size} samples; {o.kind}, gradient clipped at {o.clip_norm}",
    )
    yield "", f"learning rate {o.peak_lr:g} after {o.warmup_steps:,} steps{_ending(config)}"
    yield "served", "the last parameters" if config.ema_decay is None else f"their average, decay {config.ema_decay}"
    if recipe.notes:
        yield "note", recipe.notes
    blanks = [source for source in config.sources if source.blank]
    data = " --data DIR" * len(blanks) if config.sources else " --data DIR --embodiment NAME"
    yield "begin", f"fla train {recipe.name}{data} --out DIR --dry-run"


def _ending(config: "TrainConfig") -> str:
    o = config.optimizer
    if o.schedule == "rsqrt":
        return f", then by the inverse square root, {o.timescale:,} steps wide"
    if o.schedule == "constant" or o.end_lr == o.peak_lr:
        return ", then even"
    return f", then along a cosine to {o.end_lr:g} at {o.decay_steps:,}"


def _write(arguments: argparse.Namespace, registry: Registry) -> None:
    from fla_sdk.training.template import commented

    if arguments.called is None:
        raise ConfigError("what shall the run be called? fla recipes new RUN")
    out = arguments.out or Path(f"{arguments.called}.yaml")
    if out.suffix not in (".yaml", ".yml"):
        raise ConfigError(f"--out {out}: `fla train` knows a config by its ending, .yaml")
    if out.exists():
        raise ConfigError(f"{out} exists already; choose another --out, or delete it")
    for name in arguments.embodiment:
        registry.embodiment(name)
    recipe = registry.recipe(arguments.template or TEMPLATE)
    text = commented(recipe, run=arguments.called, data=arguments.data, embodiments=arguments.embodiment)
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(text, encoding="utf-8")
    print(f"{out}: look it over, then fla train {out} --dry-run")


COMMAND = Command(name="recipes", help="list training recipes, explain one, or write one", configure=configure, run=run)
