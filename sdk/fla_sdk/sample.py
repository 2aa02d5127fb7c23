"""`Sample`: one moment of one robot, in the robot's own terms."""

from collections.abc import Callable, Mapping
from typing import Any

import attrs
import numpy as np
from numpy.typing import NDArray


@attrs.frozen(kw_only=True, eq=False)
class PendingImage:
    """An image that is decoded when it is needed, into where it is needed: a batch is then written once."""

    shape: tuple[int, int, int]
    """`(H, W, 3)`."""

    into: Callable[[NDArray[np.uint8]], None]
    """Writes the image, uint8 RGB, to an array of `shape`."""

    def decoded(self) -> NDArray[np.uint8]:
        """`[H, W, 3]`."""
        image = np.empty(self.shape, np.uint8)
        self.into(image)
        return image

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        """What numpy makes of it."""
        return self.decoded() if dtype is None else self.decoded().astype(dtype)


@attrs.frozen(kw_only=True, eq=False)
class Sample:
    """What a dataset row and a robot's observation both become before the codec sees them.

    Units are the embodiment's: radians, metres, gripper fractions as its `Space`s declare them.
    """

    images: Mapping[str, NDArray[np.uint8] | PendingImage]
    """Camera name -> `[H, W, 3]`, RGB; a camera that gave no image is absent. Training reads them pending."""

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
