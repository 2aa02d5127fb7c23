"""UR5 and UR5e: six joints and a gripper, 20 Hz, as openpi's example and base models have them.

Joints in radians, the gripper 0 open and 1 closed (openpi's docs/norm_stats.md). So the statistics of the base models
fit: `--stats ur5=gs://openpi-assets/checkpoints/pi05_base#ur5e`.
"""

from collections.abc import Iterator

import fla_sdk as fla

JOINTS = ("shoulder_pan", "shoulder_lift", "elbow", "wrist_1", "wrist_2", "wrist_3")

UR5 = fla.Embodiment(
    name="ur5",
    description="UR5 or UR5e arm with a gripper, joint positions predicted relative to the present ones",
    state=fla.Space(
        fla.joints(*JOINTS, aliases=("joints",)),
        fla.gripper(unit="closed_fraction", aliases=("gripper",)),
    ),
    action=fla.Space(fla.joints(*JOINTS, predict="relative"), fla.gripper(unit="closed_fraction")),
    cameras=(
        fla.Camera("base", slot="base_0_rgb", aliases=("base_rgb", "image")),
        fla.Camera("wrist", slot="left_wrist_0_rgb", aliases=("wrist_rgb", "wrist_image")),
    ),
    control_hz=20,
    control_mode="joint_position",
    example_task="put the carrot in the bowl",
)


@fla.hookimpl
def fla_embodiments() -> Iterator[fla.Embodiment]:
    yield UR5
