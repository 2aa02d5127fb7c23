"""Where an arm's joints must be for its fingers to be somewhere: damped least squares on the simulator's own model.

Rotations are 3x3 matrices, or rotation vectors (axis times angle, rad) where they are added or scaled.
"""

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

ARM_JOINTS = 6
ARM_QPOS = {"left": 0, "right": 8}
"""First joint of each arm in MuJoCo's `qpos`: six joints and two fingers per arm."""

_ORIENTATION_WEIGHT = 0.3
_DAMPING = 2e-3
# Where wrist_angle passes zero the axes of forearm_roll and wrist_rotate line up, and half a turn of one undoes half a
# turn of the other. Preferring a straight forearm costs a degree of orientation and keeps them from flipping.
_STRAIGHT_FOREARM = np.diag([0.0, 0.0, 0.0, 1e-3, 0.0, 0.0])
_LARGEST_UPDATE = 0.2
_TOLERANCE = 1e-5


class ArmKinematics:
    """Inverse kinematics of one arm for the point between its fingers. Solutions continue from the last one."""

    def __init__(self, physics: Any, side: Literal["left", "right"]) -> None:
        """Starts at the arm's pose in `physics` (dm_control), whose state is never touched."""
        import mujoco

        self._mujoco: Any = mujoco
        self._model = physics.model.ptr
        self._data = self._mujoco.MjData(self._model)
        self._data.qpos[:] = physics.data.qpos
        self._joints = np.arange(ARM_QPOS[side], ARM_QPOS[side] + ARM_JOINTS)
        self._low, self._high = self._model.jnt_range[self._joints].T
        self._base = self._data.body(f"vx300s_{side}")
        self._gripper = self._data.body(f"vx300s_{side}/gripper_link")
        self._mujoco.mj_kinematics(self._model, self._data)
        fingers = [self._data.geom(f"vx300s_{side}/10_{finger}_gripper_finger").xpos for finger in ("left", "right")]
        self._tool = self._rotation().T @ (np.mean(fingers, axis=0) - self._gripper.xpos)
        self.start_position: NDArray[np.float64] = np.mean(fingers, axis=0)
        self.start_rotation: NDArray[np.float64] = self._rotation().copy()

    def facing(self, position: NDArray[np.float64], *, pitch: float, roll: float = 0.0) -> NDArray[np.float64]:
        """Rotation `[3, 3]` of a hand at `position` that points away from the arm's base.

        The hand is tipped down by `pitch` and turned about its own axis by `roll` (rad). Such poses need no turn of
        the forearm, so that the arm moves between them without passing through a singularity.
        """
        x, y, _ = self._base.xmat.reshape(3, 3).T @ (position - self._base.xpos)
        turns = ([0.0, 0.0, np.arctan2(y, x)], [0.0, pitch, 0.0], [roll, 0.0, 0.0])
        yawed, tipped, rolled = (rotation_matrix(np.array(turn)) for turn in turns)
        return self._base.xmat.reshape(3, 3) @ yawed @ tipped @ rolled

    def solve(
        self, position: NDArray[np.float64], rotation: NDArray[np.float64], *, iterations: int = 20
    ) -> NDArray[np.float64]:
        """Joint angles `[6]` (rad, within limits) that bring the point between the fingers closest to the pose.

        `position` `[3]` in metres and `rotation` `[3, 3]` are in the world's frame. A pose out of reach is
        approached as far as it goes.
        """
        origin = position - rotation @ self._tool
        weights = np.repeat([1.0, _ORIENTATION_WEIGHT], 3)
        jacobian = np.zeros((6, self._model.nv))
        for _ in range(iterations):
            self._mujoco.mj_kinematics(self._model, self._data)
            self._mujoco.mj_comPos(self._model, self._data)
            turn = rotation_vector(rotation @ self._rotation().T)
            error = weights * np.concatenate([origin - self._gripper.xpos, turn])
            self._mujoco.mj_jacBody(self._model, self._data, jacobian[:3], jacobian[3:], self._gripper.id)
            # The joints before the objects are hinges and slides, so dof and qpos indices agree.
            slope = weights[:, None] * jacobian[:, self._joints]
            joints = self._data.qpos[self._joints]
            update = np.linalg.solve(
                slope.T @ slope + _DAMPING * np.eye(ARM_JOINTS) + _STRAIGHT_FOREARM,
                slope.T @ error - _STRAIGHT_FOREARM @ joints,
            )
            update = np.clip(update, -_LARGEST_UPDATE, _LARGEST_UPDATE)
            self._data.qpos[self._joints] = np.clip(joints + update, self._low, self._high)
            if np.abs(update).max() < _TOLERANCE:
                break
        return self._data.qpos[self._joints].copy()

    def _rotation(self) -> NDArray[np.float64]:
        return self._gripper.xmat.reshape(3, 3)


def rotation_matrix(vector: NDArray[np.float64]) -> NDArray[np.float64]:
    """Rotation vector `[3]` (rad) to matrix `[3, 3]` (Rodrigues)."""
    angle = np.linalg.norm(vector)
    if angle < 1e-12:
        return np.eye(3)
    x, y, z = vector / angle
    cross = np.array([[0.0, -z, y], [z, 0.0, -x], [-y, x, 0.0]])
    return np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * (cross @ cross)


def rotation_vector(matrix: NDArray[np.float64]) -> NDArray[np.float64]:
    """Matrix `[3, 3]` to rotation vector `[3]`, of an angle below pi (half turns are not told apart)."""
    twice_sine = np.array([matrix[2, 1] - matrix[1, 2], matrix[0, 2] - matrix[2, 0], matrix[1, 0] - matrix[0, 1]])
    sine, cosine = np.linalg.norm(twice_sine) / 2, (np.trace(matrix) - 1) / 2
    if sine < 1e-12:
        return np.zeros(3)
    return twice_sine / (2 * sine) * np.arctan2(sine, cosine)
