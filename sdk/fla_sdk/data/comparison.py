"""`compare`: whether a copy of a dataset holds what it was copied from."""

from collections.abc import Mapping, Sequence

import attrs
import numpy as np
from numpy.typing import NDArray

from fla_sdk.data.dataset import Dataset
from fla_sdk.data.selection import Selection
from fla_sdk.errors import DataError

EPISODES = 16
"""Whose first, middle and last frames are compared."""


@attrs.frozen(kw_only=True)
class FrameQuality:
    """Of the frames of one camera that were compared."""

    frames: int
    worst_db: float
    """Lowest peak signal-to-noise ratio, decibels; infinite where every frame is equal."""

    mean_db: float
    worst_row: int
    """Row of the source whose frame it is."""

    def __str__(self) -> str:
        if np.isinf(self.worst_db):
            return f"{self.frames} frames compared, all equal"
        return f"{self.frames} frames compared, PSNR {self.mean_db:.1f} dB, at worst {self.worst_db:.1f} dB"


@attrs.frozen(kw_only=True)
class Comparison:
    """Numbers, tasks and lengths are equal, or `compare` would have raised."""

    columns: int
    frames: Mapping[str, FrameQuality]
    """By camera."""


def compare(selection: Selection, copy: Dataset, numbers: Sequence[int]) -> Comparison:
    """Compare all numbers and a sample of frames; `numbers` are the episodes of the selection that the copy has.

    Raises `DataError` at the first difference, other than that of frames stored as video.
    """
    if len(copy.episode_bounds) != len(numbers):
        raise DataError(f"{copy.path} has {len(copy.episode_bounds)} episodes, but {len(numbers)} were converted")
    columns = [name for name, feature in selection.features.items() if not feature.is_camera]
    for position, number in enumerate(numbers):
        _compare_episode(selection, copy, columns, position, number)
    cameras = [name for name, feature in selection.features.items() if feature.is_camera]
    return Comparison(
        columns=len(columns), frames={name: _compare_frames(selection, copy, name, numbers) for name in cameras}
    )


def _compare_episode(selection: Selection, copy: Dataset, columns: Sequence[str], position: int, number: int) -> None:
    where = f"{copy.path}: episode {position} is not episode {number} of {selection.dataset.path}"
    rows = selection.rows(number)
    first, end = copy.episode_bounds[position].tolist()
    if end - first != len(rows):
        raise DataError(f"{where}: it has {end - first} rows instead of {len(rows)}; convert again")
    for name in columns:
        expected, found = selection.numbers(name, number), copy.column(name)[first:end]
        if not np.array_equal(expected, found, equal_nan=expected.dtype.kind == "f"):
            raise DataError(f"{where}: column {name!r} differs; convert again")
    for row, copied in zip(rows, range(first, end), strict=True):
        if selection.task(row) != copy.task(copied):
            raise DataError(f"{where}: the task is {copy.task(copied)!r} instead of {selection.task(row)!r}")


def _compare_frames(selection: Selection, copy: Dataset, name: str, numbers: Sequence[int]) -> FrameQuality:
    ratios: dict[int, float] = {}
    chosen = sorted({round(place * (len(numbers) - 1) / (EPISODES - 1)) for place in range(EPISODES)})
    for position in chosen:
        rows = selection.rows(numbers[position])
        for frame in sorted({0, len(rows) // 2, len(rows) - 1}):
            copied = copy.frame(name, int(copy.episode_bounds[position, 0]) + frame)
            ratios[rows[frame]] = peak_ratio(selection.frame(name, rows[frame]), copied)
    worst = min(ratios, key=lambda row: ratios[row])
    if selection.features[name].dtype == "image" and np.isfinite(ratios[worst]):
        raise DataError(f"{copy.path}: {name!r} differs from row {worst} of {selection.dataset.path}; convert again")
    return FrameQuality(
        frames=len(ratios), worst_db=ratios[worst], mean_db=float(np.mean([*ratios.values()])), worst_row=worst
    )


def peak_ratio(image: NDArray[np.uint8], other: NDArray[np.uint8]) -> float:
    """Peak signal-to-noise ratio of two pictures `[H, W, 3]` in decibels; infinite when they are equal."""
    error = float(np.mean(np.square(image.astype(np.float32) - other.astype(np.float32))))
    return float("inf") if error == 0 else 10 * float(np.log10(255.0**2 / error))
