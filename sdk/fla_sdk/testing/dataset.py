"""`MemoryDataset`: demonstrations in arrays, for tests that need no files."""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fla_sdk.data.dataset import Feature
from fla_sdk.embodiment import Embodiment
from fla_sdk.normalization import fingerprint
from fla_sdk.testing.motion import random_vectors


class MemoryDataset:
    """A `Dataset` of given columns and camera frames; rows of an episode follow each other."""

    def __init__(
        self,
        columns: Mapping[str, NDArray[Any]],
        *,
        lengths: Sequence[int],
        fps: float,
        cameras: Mapping[str, NDArray[np.uint8]] | None = None,
        names: Mapping[str, tuple[str, ...]] | None = None,
        task: str = "do something",
    ) -> None:
        """`columns` are `[N, *shape]`, `cameras` `[N, H, W, 3]`; `lengths` are the rows of each episode, N in all.

        `names` gives the dimension names of columns that shall have them. Raises `ValueError` when lengths disagree.
        """
        self._columns, self._frames, self._task = dict(columns), dict(cameras or {}), task
        ends = np.cumsum(np.asarray(lengths, np.int64))
        for name, array in (*self._columns.items(), *self._frames.items()):
            if len(array) != ends[-1]:
                raise ValueError(f"{name} has {len(array)} rows, the episodes have {ends[-1]}")
        self.path = Path("memory")
        self.fps = fps
        vectors = {
            name: Feature(dtype=str(array.dtype), shape=array.shape[1:], names=(names or {}).get(name))
            for name, array in self._columns.items()
        }
        images = {name: Feature(dtype="image", shape=frames.shape[1:]) for name, frames in self._frames.items()}
        self.features: Mapping[str, Feature] = {**vectors, **images}
        self.episode_bounds = np.stack([ends - np.asarray(lengths, np.int64), ends], axis=1)
        self.damaged: Mapping[int, str] = {}
        content = {name: array.tolist() for name, array in self._columns.items()}
        self.fingerprint = fingerprint({"columns": content, "lengths": list(lengths), "task": task})

    @classmethod
    def of(cls, embodiment: Embodiment, *, lengths: Sequence[int], seed: int = 0) -> "MemoryDataset":
        """Random motion within the limits of `embodiment`, seen by all its cameras, under LeRobot's keys."""
        rng = np.random.default_rng(seed)
        rows = sum(lengths)
        cameras = {
            camera.keys[-1]: rng.integers(0, 256, (rows, *embodiment.image_shape, 3), dtype=np.uint8)
            for camera in embodiment.cameras
        }
        columns = {
            "observation.state": random_vectors(embodiment.state, rows, seed=seed),
            "action": random_vectors(embodiment.action, rows, seed=seed + 1),
        }
        names = {"observation.state": embodiment.state.names, "action": embodiment.action.names}
        return cls(
            columns,
            lengths=lengths,
            fps=embodiment.control_hz,
            cameras=cameras,
            names=names,
            task=embodiment.example_task,
        )

    def __len__(self) -> int:
        return int(self.episode_bounds[-1, 1])

    def column(self, name: str) -> NDArray[Any]:
        """A whole column, `[N, *shape]`."""
        return self._columns[name]

    def frame(self, name: str, row: int) -> NDArray[np.uint8]:
        """One camera frame, RGB `[H, W, 3]`."""
        return self._frames[name][row]

    def frames_fingerprint(self, name: str) -> str:
        """Over the frames of a camera and the bounds of the episodes."""
        digest = hashlib.sha256(np.ascontiguousarray(self._frames[name]).data).hexdigest()
        return fingerprint({"frames": digest, "bounds": self.episode_bounds.tolist()})

    def task(self, row: int) -> str:
        """The same for every row."""
        del row
        return self._task
