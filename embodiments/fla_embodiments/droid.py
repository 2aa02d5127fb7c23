"""DROID: a Franka arm with a Robotiq gripper, 15 Hz.

`droid` is moved by joint velocities, as openpi's DROID checkpoints are; `droid_jointpos` by joint positions.
"""

from collections.abc import Iterator

import fla_sdk as fla

JOINTS = tuple(f"joint{i}" for i in range(1, 8))

STATE = fla.Space(
    fla.joints(*JOINTS, aliases=("observation/joint_position",)),
    fla.gripper(unit="closed_fraction", aliases=("observation/gripper_position",)),
)
CAMERAS = (
    fla.Camera("exterior_image_1_left", slot="base_0_rgb", aliases=("observation/exterior_image_1_left",)),
    fla.Camera("wrist_image_left", slot="left_wrist_0_rgb", aliases=("observation/wrist_image_left",)),
)

DROID = fla.Embodiment(
    name="droid",
    description="Franka arm of the DROID set-up, moved by joint velocities",
    state=STATE,
    action=fla.Space(
        # The recorded commands are joint velocities scaled to about -1 to 1.
        fla.joints(*JOINTS, unit="normalized", representation="velocity", limits=(-1.0, 1.0)),
        fla.gripper(unit="closed_fraction"),
        aliases=("action/joint_velocity",),
    ),
    cameras=CAMERAS,
    control_hz=15,
    control_mode="joint_velocity",
    image_shape=(180, 320),
    example_task="pick up the fork",
)

DROID_JOINTPOS = fla.Embodiment(
    name="droid_jointpos",
    description="Franka arm of the DROID set-up, moved by joint positions predicted relative to the present ones",
    state=STATE,
    action=fla.Space(
        fla.joints(*JOINTS, predict="relative"),
        fla.gripper(unit="closed_fraction"),
        aliases=("action/joint_position",),
    ),
    cameras=CAMERAS,
    control_hz=15,
    control_mode="joint_position",
    image_shape=(180, 320),
    example_task="pick up the fork",
)


@fla.hookimpl
def fla_embodiments() -> Iterator[fla.Embodiment]:
    yield DROID
    yield DROID_JOINTPOS
