"""Demonstrates the insertion: each arm picks one object up, then the peg is pushed into the socket in the air."""

from typing import Any

import attrs
import numpy as np
from numpy.typing import NDArray

from fla_plugins.aloha_sim.kinematics import ArmKinematics, rotation_matrix
from fla_plugins.aloha_sim.motion import CLOSED, OPEN, Demonstrator, Pose, Track, Waypoint

_MEETING_POINT = np.array([0.0, 0.5, 0.25])
_ALONG_X = np.array([1.0, 0.0, 0.0])
# Heights at which the fingers close, with the objects (half as thick as 0.01 m and 0.022 m) lying on the table.
_PEG_GRIP, _SOCKET_GRIP = 0.01, 0.012
# Objects' centres to the meeting point while still apart, and at the end: 0.06 m is half an object's length.
_APART, _JOINED = 0.12, 0.035


class InsertionPlan:
    """The hands' way through one insertion, in steps of 20 ms; `rng` varies its pace, height, angle and place."""

    def __init__(self, physics: Any, left: ArmKinematics, right: ArmKinematics, rng: np.random.Generator) -> None:
        pace = rng.uniform(0.94, 1.08)
        peg, socket = (physics.data.ptr.body(name) for name in ("peg", "socket"))
        self._meeting = _MEETING_POINT + rng.uniform(-0.015, 0.015, 3)
        self._servo_from, self._join_from, self._join_until = (pace * t for t in (172, 195, 270))
        pitch, hover = np.deg2rad(rng.uniform(38, 42)), rng.uniform(0.08, 0.1)
        times = [pace * t for t in (0, 55, 80, 100, 170)]

        def track(arm: ArmKinematics, grip: NDArray[np.float64], outwards: float) -> Track:
            def hold(position: NDArray[np.float64], gripper: float) -> Pose:
                return Pose(position=position, rotation=arm.facing(position, pitch=pitch), gripper=gripper)

            start = Pose(position=arm.start_position, rotation=arm.start_rotation, gripper=CLOSED)
            above = hold(grip + np.array([0.0, 0.0, hover]), OPEN)
            around, holding = hold(grip, OPEN), hold(grip, CLOSED)
            lifted = hold(self._meeting + outwards * 0.2 * _ALONG_X, CLOSED)
            return Track(
                Waypoint(time, pose) for time, pose in zip(times, (start, above, around, holding, lifted), strict=True)
            )

        # Gripped 2 cm behind the centre, so that the hands keep clear of each other.
        self._left = track(left, np.array([socket.xpos[0] - 0.02, socket.xpos[1], _SOCKET_GRIP]), -1.0)
        self._right = track(right, np.array([peg.xpos[0] + 0.02, peg.xpos[1], _PEG_GRIP]), 1.0)
        self._left_servo, self._right_servo = Servo(socket), Servo(peg)

    def __call__(self, step: int) -> tuple[Pose, Pose]:
        """Left and right hand at `step`."""
        left, right = self._left.at(step), self._right.at(step)
        if step < self._servo_from:
            return left, right
        progress = np.clip((step - self._join_from) / (self._join_until - self._join_from), 0.0, 1.0)
        offset = (_APART + progress * (_JOINED - _APART)) * _ALONG_X
        return self._left_servo(left, self._meeting - offset), self._right_servo(right, self._meeting + offset)


class Servo:
    """Corrects a hand until the object in it is where it should be, however it was grasped."""

    gain = 0.08
    """Share of the remaining error that is added in each step."""

    def __init__(self, body: Any) -> None:
        self._body = body
        self._shift, self._turn = np.zeros(3), np.zeros(3)

    def __call__(self, hand: Pose, goal: NDArray[np.float64]) -> Pose:
        """`hand` moved so that the object's centre nears `goal` `[3]` (m) and its x axis the world's."""
        pointing = self._body.xmat.reshape(3, 3)[:, 0]
        # A dropped object cannot be corrected for: the limits keep the hand near its way.
        self._shift = np.clip(self._shift + self.gain * (goal - self._body.xpos), -0.3, 0.3)
        self._turn = np.clip(self._turn + self.gain * np.cross(pointing, _ALONG_X), -0.6, 0.6)
        rotation = rotation_matrix(self._turn) @ hand.rotation
        return attrs.evolve(hand, position=hand.position + self._shift, rotation=rotation)


def insertion_expert(physics: Any, rng: np.random.Generator) -> Demonstrator:
    """An expert for the insertion, from the state in `physics` after `reset`."""
    left, right = ArmKinematics(physics, "left"), ArmKinematics(physics, "right")
    return Demonstrator(left, right, InsertionPlan(physics, left, right, rng))
