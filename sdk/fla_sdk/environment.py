"""`Environment`: a robot, real or simulated, that can be reset, observed and moved."""

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray


class Environment(Protocol):
    """One robot with one task. Time advances by one control period per `step`."""

    task: str
    """What to do in this episode, in words; set by `reset`."""

    success: bool
    """Whether the task is done; the benchmark says what that means."""

    def reset(self, seed: int) -> None:
        """Begin a new episode. The same seed gives the same episode."""
        ...

    def observe(self) -> Mapping[str, Any]:
        """What the robot senses now: `images/<camera>` uint8 `[H, W, 3]`, `state` float32 `[S]`, `task` str.

        Rendering happens here, so call it only when the images are needed.
        """
        ...

    def step(self, action: NDArray[np.floating]) -> bool:
        """Apply one action `[A]` in the embodiment's units; True when the episode is over (solved or failed)."""
        ...

    def render(self) -> NDArray[np.uint8]:
        """A picture `[H, W, 3]` for people."""
        ...

    def close(self) -> None:
        """Free the simulator or the robot."""
        ...
