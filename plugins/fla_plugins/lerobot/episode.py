"""`Episode`: the episode being recorded, checked moment by moment."""

from collections.abc import Mapping
from typing import Any

import attrs
import numpy as np
from numpy.typing import NDArray

from fla_sdk.errors import DataError


@attrs.frozen(kw_only=True)
class Moment:
    """One checked moment: what the robot sensed and did."""

    images: Mapping[str, NDArray[np.uint8]]
    state: NDArray[np.float32]
    action: NDArray[np.float32]
    task: str


def check_moment(
    observation: Mapping[str, Any],
    action: Any,
    *,
    where: str,
    state_names: tuple[str, ...],
    action_names: tuple[str, ...],
    sizes: Mapping[str, tuple[int, int] | None],
) -> Moment:
    """A moment that fits the dataset. `sizes` has `(height, width)` per camera, None before the first frame.

    Raises `DataError` with both sides when a key is missing, or a width, dtype or image size differs.
    """
    for key in ("state", "task", *(f"images/{camera}" for camera in sizes)):
        if key not in observation:
            raise DataError(f"{where}: the observation has no {key!r} (it has {', '.join(sorted(observation))})")
    task = observation["task"]
    if not isinstance(task, str) or not task.strip():
        raise DataError(f"{where}: task is {task!r}, but must say in words what the robot shall do")
    return Moment(
        images={camera: _image(where, camera, observation[f"images/{camera}"], size) for camera, size in sizes.items()},
        state=_vector(where, "state", observation["state"], state_names),
        action=_vector(where, "action", action, action_names),
        task=task,
    )


def _vector(where: str, kind: str, value: Any, names: tuple[str, ...]) -> NDArray[np.float32]:
    array = np.asarray(value)
    if not np.issubdtype(array.dtype, np.floating):
        raise DataError(f"{where}: {kind} is {array.dtype}, but must be a floating type; convert it with astype")
    if array.shape != (len(names),):
        raise DataError(
            f"{where}: {kind} has shape {list(array.shape)}, but must be [{len(names)}]: {', '.join(names)}"
        )
    if not np.isfinite(array).all():
        name = names[int(np.argmin(np.isfinite(array)))]
        raise DataError(f"{where}: {kind} {name!r} is {array[names.index(name)]}; a sensor or command gave no number")
    return array.astype(np.float32)  # a copy: environments may reuse their buffers


def _image(where: str, camera: str, value: Any, size: tuple[int, int] | None) -> NDArray[np.uint8]:
    array = np.asarray(value)
    if array.dtype != np.uint8 or array.ndim != 3 or array.shape[2] != 3:
        raise DataError(
            f"{where}: image of camera {camera!r} is {array.dtype} {list(array.shape)}, but must be"
            " uint8 [height, width, 3] in RGB"
        )
    if size is not None and array.shape[:2] != size:
        raise DataError(
            f"{where}: image of camera {camera!r} is {list(array.shape[:2])}, but the dataset has {list(size)}"
            " (height, width); resize it, or record another dataset"
        )
    return array
