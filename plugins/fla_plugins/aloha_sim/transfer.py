"""Demonstrates the handover: the right arm picks the cube up, the left arm takes hold of it in the air."""

from typing import Any

import attrs
import numpy as np
from numpy.typing import NDArray

from fla_plugins.aloha_sim.kinematics import ArmKinematics
from fla_plugins.aloha_sim.motion import CLOSED, OPEN, Demonstrator, Pose, Track, Waypoint

_CUBE_HEIGHT = 0.018
# How far in front of the point between the fingers (m) each hand holds the cube. Deeper in the hand, the right one
# would reach the table before the cube, and the left one the right hand.
_RIGHT_REACH, _LEFT_REACH = 0.028, 0.045
_MEETING_POINT = np.array([0.0, 0.5, 0.25])


class TransferPlan:
    """The hands' way through one handover, in steps of 20 ms; `rng` varies its pace, height, angle and place."""

    def __init__(self, physics: Any, left: ArmKinematics, right: ArmKinematics, rng: np.random.Generator) -> None:
        self._cube = physics.data.ptr.body("box").xpos
        pace, meeting = rng.uniform(0.92, 1.12), _MEETING_POINT + rng.uniform(-0.015, 0.015, 3)
        pitch, hover = np.deg2rad(rng.uniform(46, 54)), rng.uniform(0.09, 0.12)
        self._look, self._arrive, self._grasp, self._held = (pace * step for step in (150, 180, 186, 200))

        def hold(cube: NDArray[np.float64], gripper: float) -> Pose:
            rotation = right.facing(cube, pitch=pitch)
            return Pose(position=cube - _RIGHT_REACH * rotation[:, 0], rotation=rotation, gripper=gripper)

        cube = np.array([self._cube[0], self._cube[1], _CUBE_HEIGHT])
        start = Pose(position=right.start_position, rotation=right.start_rotation, gripper=CLOSED)
        above = hold(cube + np.array([0.0, 0.0, hover]), OPEN)
        around, holding, lifted = hold(cube, OPEN), hold(cube, CLOSED), hold(meeting, CLOSED)
        self._right = Track(
            Waypoint(pace * step, pose)
            for step, pose in ((0, start), (55, above), (80, around), (100, holding), (145, lifted))
        )

        # Rolled a quarter, so that its fingers close above and below the cube and not on the other fingers.
        beside = meeting - np.array([0.16, 0.0, 0.03])
        upright = left.facing(beside, pitch=0.0, roll=np.pi / 2)
        start = Pose(position=left.start_position, rotation=left.start_rotation, gripper=CLOSED)
        self._beside = Pose(position=beside, rotation=upright, gripper=OPEN)
        self._approach = Track([Waypoint(0, start), Waypoint(pace * 70, self._beside)])
        self._take: Track | None = None

    def __call__(self, step: int) -> tuple[Pose, Pose]:
        """Left and right hand at `step`."""
        right = self._right.at(step)
        if step < self._look:
            return self._approach.at(step), right
        if self._take is None:
            # How the cube lies in the right hand depends on the grasp, so the left hand goes to where it really is.
            position = self._cube - _LEFT_REACH * self._beside.rotation[:, 0]
            self._take = Track(
                [
                    Waypoint(self._look, self._beside),
                    Waypoint(self._arrive, attrs.evolve(self._beside, position=position)),
                    Waypoint(self._grasp, attrs.evolve(self._beside, position=position)),
                    Waypoint(self._held, attrs.evolve(self._beside, position=position, gripper=CLOSED)),
                ]
            )
        return self._take.at(step), right


def transfer_expert(physics: Any, rng: np.random.Generator) -> Demonstrator:
    """An expert for the handover, from the state in `physics` after `reset`."""
    left, right = ArmKinematics(physics, "left"), ArmKinematics(physics, "right")
    return Demonstrator(left, right, TransferPlan(physics, left, right, rng))
