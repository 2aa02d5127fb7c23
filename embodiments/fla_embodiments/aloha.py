"""ALOHA: two ViperX arms with grippers, 50 Hz.

`aloha` speaks openpi's convention to the model (published pi0 and pi0.5 checkpoints need it): five joints change sign,
and gripper openings are converted to the angle of the gripper that the base models were trained with.
`aloha_native` gives the model ALOHA's own numbers. `aloha_sim` is the MuJoCo version of gym-aloha: one camera, absolute
joint positions.
"""

from collections.abc import Callable, Iterator
from functools import partial

import numpy as np
from numpy.typing import NDArray

import fla_sdk as fla

Floats = NDArray[np.floating]

JOINTS = ("waist", "shoulder", "elbow", "forearm_roll", "wrist_angle", "wrist_rotate")
SIGNS = np.array([1, -1, -1, 1, 1, 1, 1] * 2)
"""Joints that turn the other way in the base models."""

GRIPPERS = [6, 13]
LINEAR_CLOSED, LINEAR_OPEN = 0.01844, 0.05800
"""Finger position of ALOHA's gripper, metres."""
HORN_RADIUS, ARM_LENGTH = 0.022, 0.036
"""Crank of the gripper, metres."""
ANGLE_CLOSED, ANGLE_OPEN = 0.5476, 1.6296
"""Range of the base models' gripper angle, radians."""
LEADER_CLOSED, LEADER_OPEN = -0.6213, 1.4910
"""Range of the leader gripper's joint, radians; actions were recorded from it."""


def opening_to_angle(opening: Floats) -> Floats:
    """ALOHA's gripper state, 0 closed to 1 open -> fraction of the base models' angle range (openpi-compatible)."""
    position = opening * (LINEAR_OPEN - LINEAR_CLOSED) + LINEAR_CLOSED
    cosine = (HORN_RADIUS**2 + position**2 - ARM_LENGTH**2) / (2 * HORN_RADIUS * position)
    return (np.arcsin(np.clip(cosine, -1.0, 1.0)) - ANGLE_CLOSED) / (ANGLE_OPEN - ANGLE_CLOSED)


def command_to_angle(command: Floats) -> Floats:
    """ALOHA's gripper action -> what the base models predict. Unlike the state, only shifted (openpi-compatible)."""
    return command * (LEADER_OPEN - LEADER_CLOSED) + LEADER_CLOSED - ANGLE_CLOSED


def angle_to_command(angle: Floats) -> Floats:
    """The inverse of `command_to_angle`."""
    return (angle + ANGLE_CLOSED - LEADER_CLOSED) / (LEADER_OPEN - LEADER_CLOSED)


def _converted(vectors: Floats, gripper: Callable[[Floats], Floats]) -> Floats:
    """Vectors `[..., 14]` with the signs turned and `gripper` applied to the two openings; a copy."""
    flipped = vectors * SIGNS
    flipped[..., GRIPPERS] = gripper(flipped[..., GRIPPERS])
    return flipped


def _arm_fields(*, relative: bool) -> Iterator[fla.Field]:
    for side in ("left", "right"):
        names = [f"{side}_{joint}" for joint in JOINTS]
        yield fla.joints(*names, predict="relative" if relative else "as_is", limits=(-np.pi, np.pi))
        yield fla.gripper(f"{side}_gripper")


STATE = fla.Space(*_arm_fields(relative=False))
CAMERAS = (
    fla.Camera("cam_high", slot="base_0_rgb", aliases=("observation.images.top",)),
    fla.Camera("cam_left_wrist", slot="left_wrist_0_rgb", required=False),
    fla.Camera("cam_right_wrist", slot="right_wrist_0_rgb", required=False),
    fla.Camera("cam_low", slot=None, required=False),
)

ALOHA = fla.Embodiment(
    name="aloha",
    description="ALOHA in openpi's convention: relative joints, flipped signs, gripper angles",
    state=STATE,
    action=fla.Space(*_arm_fields(relative=True)),
    cameras=CAMERAS,
    control_hz=50,
    control_mode="joint_position",
    conversion=fla.Conversion(
        state_to_model=partial(_converted, gripper=opening_to_angle),
        actions_to_model=partial(_converted, gripper=command_to_angle),
        actions_from_model=partial(_converted, gripper=angle_to_command),
    ),
    example_task="fold the towel",
)

ALOHA_NATIVE = fla.Embodiment(
    name="aloha_native",
    description="ALOHA with its own joint signs and gripper openings; relative joints",
    state=STATE,
    action=fla.Space(*_arm_fields(relative=True)),
    cameras=CAMERAS,
    control_hz=50,
    control_mode="joint_position",
    example_task="fold the towel",
)

ALOHA_SIM = fla.Embodiment(
    name="aloha_sim",
    description="ALOHA in MuJoCo (gym-aloha): one camera from above, absolute joint positions",
    state=STATE,
    action=fla.Space(*_arm_fields(relative=False)),
    cameras=(fla.Camera("top", slot="base_0_rgb"),),
    control_hz=50,
    control_mode="joint_position",
    example_task="transfer the cube from the right arm to the left arm",
)


@fla.hookimpl
def fla_embodiments() -> Iterator[fla.Embodiment]:
    yield ALOHA
    yield ALOHA_NATIVE
    yield ALOHA_SIM
