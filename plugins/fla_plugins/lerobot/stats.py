"""The statistics that LeRobot keeps beside the data: exact, not its histogram estimates.

They are written so that the lerobot library can train on our recordings. The SDK itself never reads them: it computes
its own over the mixture it trains on.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs
import numpy as np
from numpy.typing import NDArray

from fla_plugins.lerobot.layout import BOOKKEEPING, read_layout
from fla_sdk.data.dataset import Dataset

QUANTILES = {"q01": 0.01, "q10": 0.10, "q50": 0.50, "q90": 0.90, "q99": 0.99}
GRID = 128
"""Images with a side longer than twice this are sampled on a regular grid for their statistics."""

SAMPLED = 100
"""Frames that are decoded for the statistics of a camera that was recorded before."""

Stats = Mapping[str, list[Any]]


def vector_stats(values: NDArray[Any]) -> Stats:
    """Per dimension over the rows of `[N, D]`."""
    exact = values.astype(np.float64)
    quantiles = np.quantile(exact, list(QUANTILES.values()), axis=0)
    return {
        "min": exact.min(0).tolist(),
        "max": exact.max(0).tolist(),
        "mean": exact.mean(0).tolist(),
        "std": exact.std(0).tolist(),
        "count": [len(exact)],
        **{name: quantiles[i].tolist() for i, name in enumerate(QUANTILES)},
    }


@attrs.define
class ColorCounts:
    """How often each of the 256 values occurs in each colour channel. Counts of episodes add up without error."""

    counts: NDArray[np.int64] = attrs.field(factory=lambda: np.zeros((3, 256), np.int64))
    frames: int = 0

    def add(self, image: NDArray[np.uint8]) -> None:
        """Count one frame `[H, W, 3]`."""
        step = max(1, max(image.shape[:2]) // GRID)
        pixels = image[::step, ::step].reshape(-1, 3)
        offset = pixels + np.array([0, 256, 512], np.int64)
        self.counts += np.bincount(offset.ravel(), minlength=768).reshape(3, 256)
        self.frames += 1

    def merge(self, other: "ColorCounts") -> None:
        self.counts += other.counts
        self.frames += other.frames

    def stats(self) -> Stats:
        """In LeRobot's terms: colours scaled to [0, 1], shapes `[3, 1, 1]`, `count` in frames."""
        levels = np.arange(256) / 255.0
        weights = self.counts / self.counts.sum(1, keepdims=True)
        mean = weights @ levels
        std = np.sqrt(np.maximum(weights @ levels**2 - mean**2, 0))
        present = self.counts > 0
        ranks = np.cumsum(self.counts, axis=1)

        def quantile(q: float) -> NDArray[np.float64]:
            return levels[[int(np.searchsorted(rank, q * rank[-1])) for rank in ranks]]

        return {
            "min": _per_channel(levels[present.argmax(1)]),
            "max": _per_channel(levels[255 - present[:, ::-1].argmax(1)]),
            "mean": _per_channel(mean),
            "std": _per_channel(std),
            "count": [self.frames],
            **{name: _per_channel(quantile(q)) for name, q in QUANTILES.items()},
        }


def all_stats(vectors: Mapping[str, NDArray[Any]], colors: Mapping[str, ColorCounts]) -> dict[str, Stats]:
    """Of the robot's own columns of numbers; nothing is ever normalized by a row number."""
    own = {
        name: vector_stats(values)
        for name, values in vectors.items()
        if name not in BOOKKEEPING and values.dtype != object
    }
    return own | {camera: counts.stats() for camera, counts in colors.items()}


def sampled_colors(dataset: Dataset, camera: str, *, frames: int = SAMPLED) -> ColorCounts:
    """Colours of a recorded camera, of so many of its frames, evenly spaced, each counted for those around it."""
    colors = ColorCounts()
    rows = np.unique(np.linspace(0, len(dataset) - 1, min(frames, len(dataset))).astype(int))
    for row in rows.tolist():
        colors.add(dataset.frame(camera, row))
    colors.counts *= max(1, round(len(dataset) / len(rows)))
    colors.frames = len(dataset)
    return colors


def dataset_stats(path: Path) -> dict[str, Stats]:
    """Of a recorded dataset: exact for numbers, from `SAMPLED` frames for cameras."""
    from fla_plugins.lerobot.reader import LeRobotDataset

    dataset, depth = LeRobotDataset(path), read_layout(path).depth
    vectors: dict[str, NDArray[Any]] = {}
    colors: dict[str, ColorCounts] = {}
    for name, feature in dataset.features.items():
        if feature.is_camera and name not in depth:
            colors[name] = sampled_colors(dataset, name)
        elif not feature.is_camera and feature.dtype not in ("string", "language"):
            vectors[name] = dataset.column(name)
    return all_stats(vectors, colors)


def _per_channel(values: NDArray[np.floating]) -> list[Any]:
    return values.reshape(3, 1, 1).tolist()
