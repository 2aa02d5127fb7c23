"""`TemporalEnsemble`: every control step asks, and executes the mean of what all overlapping chunks want."""

from collections import deque
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fla_sdk.client.chunk import ActionChunk
from fla_sdk.errors import ConfigError

if TYPE_CHECKING:
    from fla_sdk.policy.interface import PolicyLike


class TemporalEnsemble:
    """Of the chunks that say something about this moment, the i-th oldest weighs `exp(-decay * i)`: the older the
    heavier, so that new pictures change a movement little by little (ACT, arXiv:2304.13705, section IV-B).

    Blocking, and it asks in every step: for policies that answer within a control period. A mean of rotations written
    as quaternions, or of a gripper's commands, need not be what any of the chunks meant.
    """

    def __init__(self, policy: "PolicyLike", *, decay: float = 0.01) -> None:
        """`decay` 0 weighs all chunks alike."""
        if not decay >= 0:
            raise ConfigError(f"decay is {decay}, must be at least 0")
        self._policy, self._decay = policy, decay
        self._chunks: deque[NDArray[np.floating]] = deque()
        """The oldest first; the last one was asked for in this step, the one before it a step ago."""

    def act(self, observe: Callable[[], Mapping[str, Any]]) -> NDArray[np.floating]:
        """The next action `[A]`. Raises what `infer` raises; the next call then asks again."""
        chunk = ActionChunk.from_reply(self._policy.infer(observe())).actions
        self._chunks.append(chunk)
        while len(self._chunks[0]) < len(self._chunks):
            self._chunks.popleft()
        # A chunk that was asked for n steps ago has its action for this moment at n.
        ages = range(len(self._chunks) - 1, -1, -1)
        wanted = [one[age] for one, age in zip(self._chunks, ages, strict=True)]
        weights = np.exp(-self._decay * np.arange(len(wanted)))
        return np.average(wanted, axis=0, weights=weights).astype(chunk.dtype)

    def reset(self) -> None:
        """Forget the chunks: call it between episodes."""
        self._chunks.clear()
