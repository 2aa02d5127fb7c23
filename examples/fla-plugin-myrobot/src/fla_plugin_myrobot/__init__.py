"""MyRobot: a six-joint arm with a gripper, an overview camera and a wrist camera, 30 Hz."""

from collections.abc import Iterator

import numpy as np

import fla_sdk as fla

JOINTS = ("base", "shoulder", "elbow", "wrist_1", "wrist_2", "wrist_3")
LIMITS = (-np.pi, np.pi)

MYROBOT = fla.Embodiment(
    name="myrobot",
    description="six-joint arm with a gripper and two cameras",
    # What the robot measures, in the order of its recordings: radians, and 0 closed to 1 open.
    state=fla.Space(fla.joints(*JOINTS, limits=LIMITS), fla.gripper()),
    # What it is told: target positions. The model learns joints as steps from where they are now.
    action=fla.Space(fla.joints(*JOINTS, limits=LIMITS, predict="relative"), fla.gripper()),
    cameras=(
        fla.Camera("overview", slot="base_0_rgb", aliases=("observation.images.top",)),
        fla.Camera("wrist", slot="left_wrist_0_rgb", required=False),
    ),
    control_hz=30,
    control_mode="joint_position",
    prompt="MyRobot, one arm: {task}",
    image_shape=(120, 160),
    example_task="put the cup on the shelf",
)


@fla.hookimpl
def fla_embodiments() -> Iterator[fla.Embodiment]:
    yield MYROBOT
