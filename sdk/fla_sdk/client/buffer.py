"""`ChunkBuffer`: which action to execute next, and where a chunk that was asked for earlier belongs. Pure counting.

The actions that a robot executes are numbered. A chunk that was asked for when `n` of them had been executed begins
with number `n`, because its first action is for the moment of its observation. So it does not matter how long the
answer took: those of its actions whose numbers have passed are left out, and the next one is the one that is due. A
control step in which there is nothing to execute has no number.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


class Asked(NamedTuple):
    """What the policy must know to continue, besides the observation."""

    executed: int
    """Actions executed before the observation was taken."""

    step: int
    """Control steps before that; more than `executed` when some had nothing to execute."""

    rest: NDArray[np.floating] | None
    """`[n, A]`: what was left of the chunk; None when there was nothing left."""

    delay: int
    """How many of `rest` will have been executed when the answer is there."""


class ChunkBuffer:
    """The chunk that is being executed. Not for several threads at once."""

    def __init__(self) -> None:
        self.executed = 0
        """Actions taken."""
        self.steps = 0
        """Control steps: actions taken, and times when there was none to take."""
        self._actions: NDArray[np.floating] | None = None
        self._first = 0
        """Number of the chunk's first action."""

    @property
    def left(self) -> int:
        """Actions that can still be taken."""
        return 0 if self._actions is None else max(len(self._actions) - self.done, 0)

    @property
    def done(self) -> int:
        """Actions of the chunk whose moment has passed, including those that passed before it came."""
        return self.executed - self._first

    @property
    def begun(self) -> bool:
        """Whether there has been a chunk."""
        return self._actions is not None

    def due(self, *, execute: int | None, forecast: int) -> bool:
        """Whether it is time to ask for the next chunk.

        That is after `execute` actions of this one, None for half of them, and not before a delay of `forecast` steps
        may be told (d <= s); but as long as so many actions are left as will be executed until the answer comes
        (d <= H - s, both of arXiv:2506.07339, section 3).
        """
        if self._actions is None or self.left == 0:
            return True
        horizon = len(self._actions)
        return self.done >= max(min(max(execute or horizon // 2, forecast), horizon - forecast), 1)

    def ask(self, *, forecast: int) -> Asked:
        """What to send with an observation that is taken now; `forecast` is the delay to expect, in control steps."""
        if self._actions is None or self.left == 0:
            return Asked(self.executed, self.steps, None, 0)
        rest = self._actions[self.done :].copy()
        return Asked(self.executed, self.steps, rest, min(forecast, self.left, self.done))

    def merge(self, actions: NDArray[np.floating], asked: Asked) -> int:
        """Put the answer `[T, A]` to `asked` in the place of what is being executed; how many steps it took."""
        self._actions, self._first = actions, asked.executed
        return self.steps - asked.step

    def take(self) -> NDArray[np.floating] | None:
        """The action `[A]` of this control step; None when there is none: the answer is late."""
        self.steps += 1
        if self._actions is None or self.left == 0:
            return None
        action = self._actions[self.done].copy()
        self.executed += 1
        return action
