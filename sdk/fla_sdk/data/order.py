"""`WindowOrder`: rows in random order, but near each other for a while, for disks that hate to jump."""

import functools
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

PASSES = 1 << 20
"""A stream of so many passes is as good as endless."""


class WindowOrder(Sequence[int]):
    """Endless passes over rows: episodes in random order, and the rows of every `window` of them shuffled together.

    What a shuffle buffer does in a stream, as a function of the place alone: nothing to fill, nothing to save, and any
    process can take any part. A reader that keeps `window` episodes at hand reads each of them once in a pass.
    """

    def __init__(self, rows: NDArray[np.int64], *, ends: NDArray[np.int64], window: int, seed: int) -> None:
        """`rows` rise; `ends` are the ends of all episodes that they may lie in."""
        episode = np.searchsorted(ends, rows, side="right")
        self._rows = rows
        self._starts = np.flatnonzero(np.diff(episode, prepend=-1))
        self._lengths = np.diff(self._starts, append=len(rows))
        self._window, self._seed = window, seed
        self._pass = functools.lru_cache(maxsize=2)(self._plan)
        self._block = functools.lru_cache(maxsize=8)(self._shuffle)

    def __len__(self) -> int:
        return len(self._rows) * PASSES

    def __getitem__(self, place: int) -> int:  # pyright: ignore[reportIncompatibleMethodOverride]
        which, within = divmod(place, len(self._rows))
        _, ends = self._pass(which)
        block = int(np.searchsorted(ends, within, side="right"))
        return int(self._block(which, block)[within - (int(ends[block - 1]) if block else 0)])

    def _plan(self, which: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The episodes of a pass in their order, and where each window ends."""
        order = np.random.default_rng([self._seed, which]).permutation(len(self._starts))
        ends = np.cumsum(self._lengths[order])
        last = np.minimum(np.arange(self._window, len(order) + self._window, self._window), len(order)) - 1
        return order, ends[last]

    def _shuffle(self, which: int, block: int) -> NDArray[np.int64]:
        order, _ = self._pass(which)
        chosen = order[block * self._window : (block + 1) * self._window]
        rows = np.concatenate([self._rows[self._starts[e] : self._starts[e] + self._lengths[e]] for e in chosen])
        return np.random.default_rng([self._seed, which, block]).permutation(rows)
