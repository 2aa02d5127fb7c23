"""Franka arms (Panda, FR3) with a gripper, 20 Hz, outside of DROID's set-up.

`franka` is moved by joint positions, in the convention of openpi's base models: radians, the gripper 0 open and 1
closed (openpi's docs/norm_stats.md), so that their statistics fit:
`--stats franka=gs://openpi-assets/checkpoints/pi05_base`. `franka_eef` is moved by steps of its end effector in the
frame of its base. Franka's own interface has the gripper's width; divide it by the widest.
"""

from collections.abc import Iterator

import fla_sdk as fla

JOINTS = tuple(f"joint{i}" for i in range(1, 8))
POSITION, ROTATION = ("x", "y", "z"), ("rx", "ry", "rz")
CAMERAS = (
    fla.Camera("base", slot="base_0_rgb", aliases=("image",)),
    fla.Camera("wrist", slot="left_wrist_0_rgb", required=False, aliases=("wrist_image",)),
)

FRANKA = fla.Embodiment(
    name="franka",
    description="Franka arm with a gripper, joint positions predicted relative to the present ones",
    state=fla.Space(fla.joints(*JOINTS), fla.gripper(unit="closed_fraction")),
    action=fla.Space(fla.joints(*JOINTS, predict="relative"), fla.gripper(unit="closed_fraction")),
    cameras=CAMERAS,
    control_hz=20,
    control_mode="joint_position",
    example_task="open the drawer",
)

FRANKA_EEF = fla.Embodiment(
    name="franka_eef",
    description="Franka arm with a gripper, moved by steps of its end effector",
    state=fla.Space(
        fla.Field(names=POSITION, unit="m"),
        fla.Field(names=ROTATION, unit="rad", rotation="axis_angle"),
        fla.gripper(unit="closed_fraction"),
    ),
    action=fla.Space(
        fla.Field(names=POSITION, unit="m", representation="delta"),
        fla.Field(names=ROTATION, unit="rad", representation="delta", rotation="axis_angle"),
        fla.gripper(unit="closed_fraction"),
    ),
    cameras=CAMERAS,
    control_hz=20,
    control_mode="end_effector_delta",
    example_task="open the drawer",
)


@fla.hookimpl
def fla_embodiments() -> Iterator[fla.Embodiment]:
    yield FRANKA
    yield FRANKA_EEF
