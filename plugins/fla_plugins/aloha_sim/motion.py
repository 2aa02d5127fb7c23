"""What both experts share: waypoints for two arms, and a clock that turns them into joint targets."""

from collections.abc import Iterable
from typing import Protocol

import attrs
import numpy as np
from numpy.typing import NDArray

from fla_plugins.aloha_sim.kinematics import ArmKinematics, rotation_matrix, rotation_vector

OPEN, CLOSED = 1.0, 0.0


@attrs.frozen(kw_only=True)
class Pose:
    """Where the point between the fingers is (m, world's frame), how the hand is turned, how open it is (0 to 1)."""

    position: NDArray[np.float64]
    rotation: NDArray[np.float64]
    gripper: float


@attrs.frozen
class Waypoint:
    """A pose to be at, at a time in control steps."""

    step: float
    pose: Pose


class Track:
    """Waypoints in time, joined by motions that start and end at rest."""

    def __init__(self, waypoints: Iterable[Waypoint]) -> None:
        self._waypoints = tuple(waypoints)

    def at(self, step: float) -> Pose:
        """The pose at `step`; before the first and after the last waypoint, that waypoint's."""
        later = next((i for i, point in enumerate(self._waypoints) if point.step > step), None)
        if later is None:
            return self._waypoints[-1].pose
        if later == 0:
            return self._waypoints[0].pose
        before, after = self._waypoints[later - 1 : later + 1]
        return blend(before.pose, after.pose, (step - before.step) / (after.step - before.step))


def blend(a: Pose, b: Pose, progress: float) -> Pose:
    """The pose at `progress` (clipped to 0..1) of a smooth motion from `a` to `b`."""
    u = float(np.clip(progress, 0.0, 1.0))
    u = u * u * (3 - 2 * u)
    return Pose(
        position=a.position + u * (b.position - a.position),
        rotation=rotation_matrix(u * rotation_vector(b.rotation @ a.rotation.T)) @ a.rotation,
        gripper=a.gripper + u * (b.gripper - a.gripper),
    )


class Plan(Protocol):
    """Where the left and the right hand should be at a step; may look at how the objects lie by then."""

    def __call__(self, step: int) -> tuple[Pose, Pose]: ...


class Demonstrator:
    """Follows a plan with both arms, one control step per call: an `Expert`."""

    def __init__(self, left: ArmKinematics, right: ArmKinematics, plan: Plan) -> None:
        self._arms = (left, right)
        self._plan = plan
        self._step = 0

    def __call__(self) -> NDArray[np.float32]:
        """The next action `[14]`, as `AlohaSim` takes it."""
        poses = self._plan(self._step)
        self._step += 1
        commands = [
            np.append(arm.solve(pose.position, pose.rotation), pose.gripper)
            for arm, pose in zip(self._arms, poses, strict=True)
        ]
        return np.concatenate(commands).astype(np.float32)
