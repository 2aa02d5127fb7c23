"""What a lerobot policy looks at, found in the observation of a robot."""

from collections.abc import Mapping
from typing import Any

import attrs
import numpy as np
from numpy.typing import NDArray

from fla_sdk.embodiment import Embodiment
from fla_sdk.errors import CheckpointError, ObservationError
from fla_sdk.space import default_aliases
from fla_sdk.transforms import flatten_keys, resize_with_pad, to_image

STATE = "observation.state"
_IMAGES = "observation.images."
_EMPTY = "empty_camera"
"""In the names of cameras that lerobot's models have room for and do without."""


@attrs.frozen(kw_only=True)
class Features:
    """Names and sizes of what goes into a policy and comes out, as its `config.json` has them."""

    images: Mapping[str, tuple[int, int]]
    """Key -> height and width; in the policy's order."""

    vectors: Mapping[str, int]
    """Key -> width: the state, and what else there is that is no image."""

    action: int
    """Width of an action."""

    def example(self) -> dict[str, NDArray[Any]]:
        """Something of the right shapes."""
        images = {key: np.zeros((*size, 3), np.uint8) for key, size in self.images.items()}
        return {**images, **{key: np.zeros(width, np.float32) for key, width in self.vectors.items()}}


def cameras(features: Features, robot: Embodiment, *, where: str) -> dict[str, str]:
    """The policy's key of each image -> camera of the robot. A robot's own name counts before its aliases.

    Raises `CheckpointError` with both sides when the policy was made for another robot.
    """
    problems: list[str] = []
    for what, own, space in (
        ("state", features.vectors.get(STATE), robot.state),
        ("action", features.action, robot.action),
    ):
        if own is not None and own != space.width:
            problems.append(
                f"{what}: {own} numbers in the policy, {space.width} in {robot.name} ({', '.join(space.names)})"
            )
    found = {
        f"{_IMAGES}{camera.name}": camera.name
        for camera in robot.cameras
        if f"{_IMAGES}{camera.name}" in features.images
    }
    for key in features.images:
        free = [camera for camera in robot.cameras if camera.name not in found.values()]
        known = next((camera.name for camera in free if key in camera.keys), None)
        if key not in found and known is not None:
            found[key] = known
        elif key not in found and _EMPTY not in key:
            listing = "; ".join(f"{camera.name} ({', '.join(camera.keys)})" for camera in free) or "none"
            problems.append(f"{key!r} in the policy is no camera of {robot.name}; left of its cameras: {listing}")
    if problems:
        raise CheckpointError(
            "\n  ".join([f"{where} does not fit embodiment {robot.name!r}:", *problems])
            + "\nName another embodiment, or add the policy's key to the aliases of the camera"
        )
    return found


class Inputs:
    """Reads observations, of one robot or under the policy's own names."""

    def __init__(self, features: Features, robot: Embodiment | None, *, needs_task: bool, where: str) -> None:
        self._features, self._robot, self._needs_task = features, robot, needs_task
        self._cameras = {} if robot is None else cameras(features, robot, where=where)

    def read(self, observation: Mapping[str, Any]) -> tuple[dict[str, NDArray[Any]], str]:
        """Key -> image uint8 `[H, W, 3]` of the policy's size, or vector float32; and the task.

        Raises `ObservationError` with both sides.
        """
        if not self._needs_task:
            observation = {"task": "", **observation}
        return self._of_robot(self._robot, observation) if self._robot else self._by_name(observation)

    def _of_robot(self, robot: Embodiment, observation: Mapping[str, Any]) -> tuple[dict[str, NDArray[Any]], str]:
        sample = robot.observe(observation)
        record = flatten_keys(observation)
        read: dict[str, NDArray[Any]] = {}
        for key, camera in self._cameras.items():
            if camera not in sample.images:
                raise ObservationError(f"{robot.name}: this policy needs camera {camera!r}, which it calls {key!r}")
            read[key] = self._sized(key, np.asarray(sample.images[camera]))
        for key in self._features.vectors:
            read[key] = sample.state.astype(np.float32) if key == STATE else self._vector(key, record)
        return read, sample.task

    def _by_name(self, observation: Mapping[str, Any]) -> tuple[dict[str, NDArray[Any]], str]:
        record = flatten_keys(observation)
        read: dict[str, NDArray[Any]] = {}
        for key in self._features.images:
            names = (key, f"images/{key.removeprefix(_IMAGES)}")
            if (name := next((one for one in names if one in record), None)) is not None:
                read[key] = self._sized(key, to_image(record[name], where=repr(name)))
            elif _EMPTY not in key:
                raise _missing(names, record)
        for key in self._features.vectors:
            read[key] = self._vector(key, record)
        task = next((record[name] for name in ("task", "prompt") if record.get(name) is not None), None)
        if not isinstance(task, str):
            raise ObservationError("no task; send what to do as a string under 'task' or 'prompt'")
        return read, task

    def _vector(self, key: str, record: Mapping[str, Any]) -> NDArray[np.float32]:
        names = (key, *(default_aliases("state") if key == STATE else ()))
        if (name := next((one for one in names if one in record), None)) is None:
            raise _missing(names, record)
        vector, width = np.asarray(record[name]), self._features.vectors[key]
        if vector.dtype.kind not in "fiu" or vector.shape != (width,) or not np.isfinite(vector).all():
            raise ObservationError(
                f"{name!r} must be {width} finite numbers, got shape {vector.shape} and dtype {vector.dtype}"
                + (" with NaN or infinity" if vector.dtype.kind == "f" and vector.shape == (width,) else "")
            )
        return vector.astype(np.float32)

    def _sized(self, key: str, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        return resize_with_pad(image, *self._features.images[key])


def _missing(names: tuple[str, ...], record: Mapping[str, Any]) -> ObservationError:
    wanted = " or ".join(repr(name) for name in dict.fromkeys(names))
    return ObservationError(f"{wanted} is missing; got keys {', '.join(sorted(record)) or 'none'}")
