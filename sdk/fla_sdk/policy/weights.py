"""Weights wherever they are: a checkpoint of ours or of openpi, or a file that the model's family can read."""

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from fla_sdk.errors import CheckpointError
from fla_sdk.plugins import Registry
from fla_sdk.policy import checkpoint, loading, parameters
from fla_sdk.policy.loading import LoadReport
from fla_sdk.policy.parameters import Flat
from fla_sdk.records import ModelFamily


def read(path: Path, family: ModelFamily, config: Any) -> Flat:
    """The parameters at `path`, by the family's paths, in the types of the file. Raises `CheckpointError`."""
    if checkpoint.is_checkpoint(path):
        return checkpoint.read_params(checkpoint.find(path))
    if family.read_weights is not None and (found := family.read_weights(path, config)) is not None:
        return dict(found)
    raise CheckpointError(
        f"{path} holds no weights that {family.name} can read: it is neither a checkpoint with params/, nor a file "
        "in a layout that this family knows"
    )


def check(
    paths: Sequence[Path],
    family: ModelFamily,
    config: Any,
    *,
    model: str,
    registry: Registry,
    fresh: Collection[str] = (),
    resize: bool = False,
) -> LoadReport | None:
    """What `load` will do with the checkpoints at `paths`, the first of them before all others. Raises
    `CheckpointError` when they do not fit.

    Shapes alone are read, and only where that is cheap: files in other layouts are checked when they are loaded, and
    None is what is known of them.
    """
    if not all(map(checkpoint.is_checkpoint, paths)):
        return None
    folders = [checkpoint.find(path) for path in paths]
    where, given = _together([(folder, checkpoint.read_shapes(folder)) for folder in folders], registry)
    _, expected = parameters.abstract(family, config)
    return loading.plan(expected, given, group=family.group, fresh=fresh, resize=resize, where=where, model=model)


def load(
    paths: Sequence[Path],
    family: ModelFamily,
    config: Any,
    *,
    seed: int,
    model: str,
    registry: Registry,
    fresh: Collection[str] = (),
    resize: bool = False,
) -> tuple[Any, Flat, LoadReport]:
    """The model's static part, its parameters, and what became of each.

    They are those at the first of `paths`, those at the next that it lacks and the model has, and so on; and new ones
    of `seed` where `loading.fill` allows it. No others are made. Raises `CheckpointError`.
    """
    graph, expected = parameters.abstract(family, config)
    where, given = _together([(path, read(path, family, config)) for path in paths], registry)
    report = loading.plan(expected, given, group=family.group, fresh=fresh, resize=resize, where=where, model=model)
    begun = [leaf.path for leaf in report.of("initialised")]
    if begun:
        _, made = parameters.initialise(lambda: family.build(config, seed), only=begun)
        expected |= made
    flat, report = loading.fill(
        expected, given, group=family.group, fresh=fresh, resize=resize, where=where, model=model
    )
    return graph, flat, report


def _together(sources: Sequence[tuple[Path, Mapping[str, Any]]], registry: Registry) -> tuple[str, dict[str, Any]]:
    """What to call them, and their parameters; the first that has one gives it."""
    where = " and ".join(f"{path} ({name(path, given, registry)})" for path, given in sources)
    return where, {path: leaf for _, given in reversed(sources) for path, leaf in given.items()}


def name(path: Path, given: Mapping[str, Any], registry: Registry) -> str:
    """`family/variant` of what is at `path`, for people to read."""
    if checkpoint.is_checkpoint(path) and (checkpoint.find(path) / "fla.json").is_file():
        manifest = checkpoint.read_manifest(checkpoint.find(path))
        return f"{manifest.family}/{manifest.variant}"
    shapes = {path: tuple(leaf.shape) for path, leaf in given.items()}
    for family in registry.models.values():
        if family.recognise is None or (config := family.recognise(shapes)) is None:
            continue
        for variant, known in family.variants.items():
            if family.recognise(parameters.shapes(family, known)) == config:
                return f"{family.name}/{variant}"
        return f"a {family.name}"
    return "of no known model"
