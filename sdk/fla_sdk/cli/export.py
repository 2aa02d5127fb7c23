"""`fla export CHECKPOINT --format FORMAT --out PATH`: a checkpoint in a layout that other programs read."""

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fla_sdk.cli.options import add_options, parse_options
from fla_sdk.config import override
from fla_sdk.embodiment import Embodiment
from fla_sdk.errors import CheckpointError, ConfigError, UnknownNameError
from fla_sdk.normalization import NormStats
from fla_sdk.plugins import Registry
from fla_sdk.records import Command, ModelFamily


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("checkpoint", help="checkpoint, folder of a run, gs://... or hf://...")
    parser.add_argument("--format", required=True, help="safetensors, lerobot, ... as the model's family offers")
    parser.add_argument("--out", type=Path, required=True, metavar="PATH", help="new file or folder")
    parser.add_argument("--embodiment", metavar="NAME", help="only this robot, of those it was trained for")
    parser.add_argument("--merge-lora", action="store_true", help="merge adapters into the weights they adapt")
    add_options(parser, "model, such as horizon=10", flag="--model-option")


def run(arguments: argparse.Namespace, registry: Registry) -> None:
    from fla_sdk.policy import checkpoint, parameters
    from fla_sdk.policy.fetch import fetch

    folder = checkpoint.find(fetch(arguments.checkpoint))
    options = parse_options(arguments.model_option, flag="--model-option")
    family, config, robots = _describe(folder, registry, options)
    if arguments.format not in family.exporters:
        raise UnknownNameError(f"export format of {family.name!r}", arguments.format, family.exporters)
    if arguments.embodiment is not None:
        if arguments.embodiment not in robots:
            raise UnknownNameError(f"embodiment of checkpoint {folder}", arguments.embodiment, robots)
        robots = {arguments.embodiment: robots[arguments.embodiment]}
    _, expected = parameters.abstract(family, config)
    values: Mapping[str, Any] = checkpoint.read_params(folder)
    parameters.check(values, expected, where=str(folder))
    if arguments.merge_lora:
        if family.for_serving is None:
            raise ConfigError(f"model family {family.name!r} has no adapters to merge")
        config, values = family.for_serving(config, values)
    family.exporters[arguments.format](config, values, list(robots.values()), arguments.out)
    print(f"exported {len(values)} parameters of {family.name} to {arguments.out}")


def _describe(
    folder: Path, registry: Registry, options: Mapping[str, Any]
) -> tuple[ModelFamily, Any, dict[str, tuple[Embodiment, NormStats]]]:
    """Family, config and robots of a checkpoint. One of openpi's does not say whose its statistics are: no robots."""
    from fla_sdk.policy import checkpoint
    from fla_sdk.policy.policy import model_of

    if (folder / "fla.json").exists():
        manifest = checkpoint.read_manifest(folder)
        robots: dict[str, tuple[Embodiment, NormStats]] = {}
        for name in manifest.embodiments:
            robot = registry.embodiment(name)
            checkpoint.check_embodiment(robot, manifest, where=folder)
            robots[name] = (robot, checkpoint.read_stats(folder, name))
        family, config = model_of(manifest, registry, where=folder)
        return family, override(config, options, where="--model-option"), robots
    shapes = {path: tuple(leaf.shape) for path, leaf in checkpoint.read_shapes(folder).items()}
    for family in registry.models.values():
        if family.recognise is not None and (config := family.recognise(shapes)) is not None:
            return family, config if family.complete is None else family.complete(config, folder, options), {}
    raise CheckpointError(f"{folder} has no fla.json, and its parameters are those of no installed model family")


COMMAND = Command(name="export", help="write a checkpoint in another layout", configure=configure, run=run)
