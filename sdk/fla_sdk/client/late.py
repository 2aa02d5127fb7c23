"""What a robot does in control steps for which no action has come in time."""

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from fla_sdk.client.description import RobotLike, dimensions
from fla_sdk.errors import ConfigError

WhenLate = Literal["hold", "decelerate"]


class Waiting:
    """Stands still, at once or within some steps.

    Of positions, `hold` repeats the last one, and `decelerate` goes on with a velocity that falls evenly to zero. Steps
    and rates are velocities themselves: `hold` makes them zero, `decelerate` lets them fall. The opening of a gripper
    is repeated either way, for it may have jumped.
    """

    def __init__(self, when_late: WhenLate = "hold", *, steps: int = 5, robot: RobotLike | None = None) -> None:
        """`steps` is how long the deceleration takes. Without a `robot` all actions are taken for positions."""
        if when_late not in ("hold", "decelerate"):
            raise ConfigError(f"when_late is {when_late!r}, must be hold or decelerate")
        if steps < 1:
            raise ConfigError(f"decelerate_steps is {steps}, must be at least 1")
        self._steps = steps if when_late == "decelerate" else 0
        self._rates, self._continuous = np.array(False), np.array(True)
        if robot is not None:
            actions = dimensions(robot, "action")
            self._rates = np.array([one.representation != "absolute" for one in actions])
            self._continuous = np.array([not one.unit.startswith(("open_", "close")) for one in actions])
        self.reset()

    def reset(self) -> None:
        """Forget what was executed."""
        self._before: NDArray[np.floating] | None = None
        self._last: NDArray[np.floating] | None = None
        self._velocity: NDArray[np.floating] | None = None
        self._waited = 0

    def executed(self, action: NDArray[np.floating]) -> None:
        """An action `[A]` came in time."""
        self._before, self._last, self._waited = self._last, action.copy(), 0

    def next(self) -> NDArray[np.floating] | None:
        """The action `[A]` for a step that has none; None before there was any."""
        if self._last is None:
            return None
        if self._waited == 0 or self._velocity is None:
            before = self._last if self._before is None else self._before
            self._velocity = np.where(self._rates, self._last, (self._last - before) * self._continuous)
        self._waited += 1
        velocity = self._velocity * max(0.0, 1 - self._waited / (self._steps + 1))
        self._before = self._last = np.where(self._rates, velocity, self._last + velocity).astype(self._last.dtype)
        return self._last.copy()
