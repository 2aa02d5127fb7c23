"""Statistics of demonstrations from states and actions alone, block by block: no image is decoded."""

from collections.abc import Callable, Sequence
from functools import reduce
from operator import add

import numpy as np
from numpy.typing import NDArray

from fla_sdk.codec import model_state
from fla_sdk.data.demonstrations import Demonstrations
from fla_sdk.data.distribution import Distribution
from fla_sdk.data.partial_stats import Basis, PartialStats
from fla_sdk.errors import StatsError
from fla_sdk.normalization import NormStats

BLOCK = 65_536
"""Rows at a time."""


def compute(parts: Sequence[Demonstrations]) -> NormStats:
    """Statistics of one embodiment over all its datasets, each row weighing the same."""
    return collect(parts).norm_stats()


def collect(parts: Sequence[Demonstrations], *, advance: Callable[[int], None] = lambda _: None) -> PartialStats:
    """The distributions behind `compute`, to be pooled with those of other data; `advance` hears of samples done.

    States in the model's convention; actions converted and relative, over every real step of every chunk. Raises
    `StatsError` when the parts belong to different embodiments or hold fewer than two samples.
    """
    names = sorted({part.embodiment.name for part in parts})
    if len(names) != 1:
        raise StatsError(f"statistics belong to one embodiment, got {', '.join(names) or 'none'}")
    if (count := sum(map(len, parts))) < 2:
        paths = ", ".join(str(part.dataset.path) for part in parts)
        raise StatsError(f"statistics need at least 2 rows, {paths} has {count}")
    return reduce(add, (_collect(part, advance) for part in parts))


def _collect(part: Demonstrations, advance: Callable[[int], None]) -> PartialStats:
    embodiment, reference = part.embodiment, part.embodiment.relative_to()
    as_is, relative = np.flatnonzero(reference < 0), np.flatnonzero(reference >= 0)
    state, actions = _Totals(embodiment.state.width), _Totals(embodiment.action.width)
    uses = _uses(part)
    for first in range(0, len(uses), BLOCK):
        # What the chunks that begin in this block reach: `[A, n]`.
        reached = part.actions[first : first + BLOCK + part.horizon - 1]
        converted = reached if embodiment.conversion is None else embodiment.conversion.actions_to_model(reached)
        columns = np.ascontiguousarray(converted.T)
        used = np.flatnonzero(uses[first : first + BLOCK])
        for dimension in as_is:
            actions.count(dimension, columns[dimension, used], uses[first + used])
        begins = part.rows[slice(*np.searchsorted(part.rows, (first, first + BLOCK)))]
        now = np.ascontiguousarray(model_state(embodiment, part.states[begins]).T)
        for dimension, values in enumerate(now):
            state.count(dimension, values)
        left, place = part.episode_end(begins) - begins, begins - first
        for step in range(part.horizon if len(relative) else 0):
            if not (real := left > step).all():
                now, left, place = now[:, real], left[real], place[real]
            for dimension in relative:
                actions.count(dimension, columns[dimension, place + step] - now[reference[dimension]])
        advance(len(begins))
    basis = Basis.of(embodiment, horizon=part.horizon)
    return PartialStats(basis=basis, parts=(part.fingerprint,), state=state.all(), actions=actions.all())


def _uses(part: Demonstrations) -> NDArray[np.int64]:
    """`[N]`: how many chunks have a row of the dataset among their real steps."""
    ends = np.minimum(part.rows + part.horizon, part.episode_end(part.rows))
    change = np.bincount(part.rows, minlength=len(part.dataset) + 1)
    change -= np.bincount(ends, minlength=len(change))
    return np.cumsum(change)[:-1]


class _Totals:
    """Distributions of all dimensions so far."""

    def __init__(self, width: int) -> None:
        self._found: list[Distribution | None] = [None] * width

    def count(self, dimension: int, values: NDArray[np.floating], weights: NDArray[np.int64] | None = None) -> None:
        if len(values):
            found, before = Distribution.of(values, weights), self._found[dimension]
            self._found[dimension] = found if before is None else before + found

    def all(self) -> tuple[Distribution, ...]:
        return tuple(found for found in self._found if found is not None)
