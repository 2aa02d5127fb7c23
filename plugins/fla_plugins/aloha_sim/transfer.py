"""Demonstrates the handover: the right arm picks the cube up, the left arm takes hold of it in the air."""

from typing import Any

import attrs
import numpy as np
from numpy.typing import NDArray

from fla_plugins.aloha_sim.kinematics import ArmKinematics, rotation_matrix
from fla_plugins.aloha_sim.motion import CLOSED, OPEN, Demonstrator, Pose, Track, Waypoint, blend

_CUBE_CENTRE = 0.02
_MEETING_POINT = np.array([0.0, 0.5, 0.25])


class TransferPlan:
    """The hands' way through one handover, in steps of 20 ms; `rng` varies its pace, height, angle and place."""

    def __init__(
        self, physics: Any, left: ArmKinematics, right: ArmKinematics, rng: np.random.Generator
    ) -> None:
        pace = rng.uniform(0.92, 1.12)
        self._cube = physics.data.ptr.body("box").xpos
        self._seen: NDArray[np.float64] | None = None
        self._look, self._arrive, self._grasp, self._held = (pace * t for t in (150, 180, 186, 200))
        meeting = _MEETING_POINT + rng.uniform(-0.015, 0.015, 3)

        down = rotation_matrix(np.array([0.0, -np.deg2rad(rng.uniform(46, 54)), 0.0])) @ right.start_rotation
        cube = np.array([self._cube[0], self._cube[1], _CUBE_CENTRE - 0.005])
        start = Pose(position=right.start_position, rotation=right.start_rotation, gripper=CLOSED)
        above = Pose(
            position=cube + np.array([0.0, 0.0, rng.uniform(0.09, 0.12)]), rotation=down, gripper=OPEN
        )
        around = attrs.evolve(above, position=cube)
        holding = attrs.evolve(around, gripper=CLOSED)
        lifted = attrs.evolve(holding, position=meeting)
        self._right = Track(
            Waypoint(pace * step, pose)
            for step, pose in ((0, start), (55, above), (80, around), (100, holding), (145, lifted))
        )

        # Turned a quarter about its own axis, so that its fingers close above and below the cube, not on the others.
        upright = rotation_matrix(np.array([np.pi / 2, 0.0, 0.0])) @ left.start_rotation
        self._start = Pose(position=left.start_position, rotation=left.start_rotation, gripper=CLOSED)
        self._beside = Pose(position=meeting - np.array([0.16, 0.0, 0.03]), rotation=upright, gripper=OPEN)
        self._left = Track([Waypoint(0, self._start), Waypoint(pace * 70, self._beside)])

    def __call__(self, step: int) -> tuple[Pose, Pose]:
        """Left and right hand at `step`."""
        right = self._right.at(step)
        if step < self._look:
            return self._left.at(step), right
        if self._seen is None:
            # Where the cube hangs in the gripper depends on the grasp, so the left hand goes where it really is.
            self._seen = self._cube.copy()
        at_cube = attrs.evolve(self._beside, position=self._seen - np.array([0.005, 0.0, 0.0]))
        if step < self._grasp:
            progress = (step - self._look) / (self._arrive - self._look)
            return blend(self._beside, at_cube, progress), right
        progress = (step - self._grasp) / (self._held - self._grasp)
        return blend(at_cube, attrs.evolve(at_cube, gripper=CLOSED), progress), right


def transfer_expert(physics: Any, rng: np.random.Generator) -> Demonstrator:
    """An expert for the handover, from the state in `physics` after `reset`."""
    left, right = ArmKinematics(physics, "left"), ArmKinematics(physics, "right")
    return Demonstrator(left, right, TransferPlan(physics, left, right, rng))
