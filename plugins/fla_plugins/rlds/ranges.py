"""Where samples may begin, as openpi's file for DROID says it.

{"<recording_folderpath>--<file_path>": [[first, end], ...], ...}      steps of the episode of this name
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fla_plugins.rlds.columns import Columns
from fla_plugins.rlds.schema import Leaf, Schema
from fla_sdk.errors import DataError
from fla_sdk.policy.fetch import fetch

Ranges = Mapping[str, Sequence[tuple[int, int]]]

_NAME = ("episode_metadata/recording_folderpath", "episode_metadata/file_path")


def read_ranges(source: str) -> Ranges:
    """From a path or URI. Raises `DataError` for a file of something else."""
    path = fetch(source)
    try:
        declared = json.loads(path.read_text())
        return {str(name): [(int(first), int(end)) for first, end in pairs] for name, pairs in declared.items()}
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise DataError(f'{path} is not a file of ranges, {{"<recording>": [[first, end], ...]}} ({error})') from error


def name_leaves(schema: Schema, root: Path) -> list[Leaf]:
    """The features that make up the name of an episode. Raises `DataError` when there are none."""
    leaves = {leaf.key: leaf for leaf in schema.episode}
    for key in _NAME:
        if key not in leaves:
            raise DataError(f"{root}: ranges need {key!r}, which the dataset does not have")
    return [leaves[key] for key in _NAME]


def starts(ranges: Ranges, columns: Columns, leaves: Sequence[Leaf], bounds: NDArray[np.int64]) -> NDArray[np.int64]:
    """Rows within the ranges, rising; `bounds` are those of the episodes. Raises `DataError` when there are none."""
    names = ["--".join(parts) for parts in zip(*map(columns.of_episodes, leaves), strict=True)]
    kept = np.zeros(int(bounds[-1, 1]), np.bool_)
    for (first, end), name in zip(bounds.tolist(), names, strict=True):
        for begin, stop in ranges.get(name, ()):
            kept[first + max(begin, 0) : min(first + stop, end)] = True
    if not kept.any():
        raise DataError(
            f"the file of ranges leaves nothing of the dataset: it names {next(iter(ranges), 'nothing')!r}, "
            f"the dataset {next(filter(None, names), 'nothing')!r}"
        )
    return np.flatnonzero(kept)
