"""`Sample`: one moment of one robot, in the robot's own terms."""

from collections.abc import Mapping

import attrs
import numpy as np
from numpy.typing import NDArray


@attrs.frozen(kw_only=True, eq=False)
class Sample:
    """What a dataset row and a robot's observation both become before the codec sees them.

    Units are the embodiment's: radians, metres, gripper fractions as its `Space`s declare them.
    """

    images: Mapping[str, NDArray[np.uint8]]
    """Camera name -> `[H, W, 3]`, RGB. A camera that gave no image is absent."""

    state: NDArray[np.floating]
    """`[S]`, in the order of `Embodiment.state`."""

    task: str
    """What the robot shall do, as a person would say it."""

    actions: NDArray[np.floating] | None = None
    """`[T, A]`, the action at this moment and the T-1 after it; None when only observing."""

    actions_is_pad: NDArray[np.bool_] | None = None
    """`[T]`, True where the episode had already ended and the last action is repeated."""

    advantage: bool | None = None
    """Whether these actions were better than expected (RECAP, arXiv:2511.14759); the prompt says so. None: unknown, and
    the prompt is silent."""

    returns: float | None = None
    """Sum of the rewards from here to the end of the episode, divided by the longest episode of the task: -1 far from
    success, 0 done (RECAP). None: unknown."""
