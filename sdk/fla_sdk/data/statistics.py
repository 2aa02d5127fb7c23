"""Statistics of demonstrations, exact, from states and actions alone: no image is decoded."""

from collections.abc import Sequence

import numpy as np

from fla_sdk.data.demonstrations import Demonstrations
from fla_sdk.errors import StatsError
from fla_sdk.normalization import NormStats, Stats, fingerprint

MIN_RANGE = 1e-3
"""Smallest spread, in the embodiment's units, that is taken for motion rather than noise."""


def compute(parts: Sequence[Demonstrations]) -> NormStats:
    """Statistics of one embodiment over all its datasets, each row weighing the same.

    States in the model's convention; actions converted and relative, over every real step of every chunk. Raises
    `StatsError` when the parts belong to different embodiments or hold fewer than two rows.
    """
    names = sorted({part.embodiment.name for part in parts})
    if len(names) != 1:
        raise StatsError(f"statistics belong to one embodiment, got {', '.join(names) or 'none'}")
    states = np.concatenate([part.model_states() for part in parts])
    actions = np.concatenate([part.model_actions() for part in parts])
    return NormStats(
        state=Stats.of(states, min_range=MIN_RANGE),
        actions=Stats.of(actions, min_range=MIN_RANGE),
        count=len(states),
        fingerprint=fingerprint({"parts": [part.fingerprint for part in parts]}),
    )
