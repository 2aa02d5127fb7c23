"""What a dataset is to the rest of the SDK: columns, frames, episodes and tasks, whatever the format on disk."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import attrs
import numpy as np
from numpy.typing import NDArray


@attrs.frozen(kw_only=True)
class Feature:
    """One column: `dtype` is a numpy name, or `image` / `video` for camera frames `[H, W, 3]`."""

    dtype: str
    shape: tuple[int, ...]
    names: tuple[str, ...] | None = None

    @property
    def is_camera(self) -> bool:
        return self.dtype in ("image", "video")


class Dataset(Protocol):
    """Demonstrations that can be read at random. Row `i` is one moment; rows of an episode are contiguous.

    Opening reads metadata alone, contacts no network and creates nothing. All methods may be called from any thread.
    A dataset may also have `starts`: the rows that samples may begin at, rising; without it, or where it is None, all.
    """

    path: Path
    fps: float
    features: Mapping[str, Feature]
    episode_bounds: NDArray[np.int64]
    """`[E, 2]`: first row and one past the last row of each episode."""

    damaged: Mapping[int, str]
    """Episodes known from the start to be unreadable, and why: "missing file ...". Their columns hold zeros."""

    @property
    def fingerprint(self) -> str:
        """Changes when states, actions, tasks or episode bounds change. The first time it may read all columns."""
        ...

    def __len__(self) -> int:
        """Number of rows."""
        ...

    def column(self, name: str) -> NDArray[Any]:
        """A whole low-dimensional column, `[N, *shape]`; in memory or mapped from disk, not to be written to."""
        ...

    def frame(self, name: str, row: int) -> NDArray[np.uint8]:
        """One camera frame, RGB `[H, W, 3]`. Rising rows of one episode are the cheapest order.

        Raises `EpisodeError` when the frame cannot be had, naming file, episode and frame.
        """
        ...

    def frames_fingerprint(self, name: str) -> str:
        """Changes when frames of a camera change or belong to other rows. Reads no frame: `files_fingerprint` of the
        files that hold them, and of those that say which rows are where, is enough.
        """
        ...

    def task(self, row: int) -> str:
        """What the robot was told to do."""
        ...


class EpisodeDraft(Protocol):
    """One episode in the making, filled by one thread."""

    def add_row(self, row: Mapping[str, Any], *, task: str) -> None:
        """A value for every column of the dataset; images as uint8 `[H, W, 3]`."""
        ...

    def abort(self) -> None:
        """Forget it."""
        ...


class EpisodeWriter(Protocol):
    """Records episodes; an episode is on disk whole or not at all."""

    @property
    def episodes(self) -> int:
        """How many the dataset has."""
        ...

    def add(self, observation: Mapping[str, Any], action: NDArray[np.floating]) -> None:
        """One moment of the current episode: `Environment.observe()` and the action `[A]` taken from there."""
        ...

    def add_row(self, row: Mapping[str, Any], *, task: str) -> None:
        """One row of the current episode: a value for every column; images as uint8 `[H, W, 3]`."""
        ...

    def save_episode(self) -> None:
        """Commit the current episode."""
        ...

    def discard_episode(self) -> None:
        """Forget the current episode."""
        ...

    def begin(self) -> EpisodeDraft:
        """An episode besides the current one; several may be filled at once, each in its own thread."""
        ...

    def commit(self, episode: Any) -> None:
        """Make what `begin` gave the next episode of the dataset."""
        ...

    def close(self) -> None:
        """Finish the dataset; an uncommitted episode is forgotten."""
        ...
