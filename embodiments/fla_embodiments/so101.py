"""SO-100 and SO-101: LeRobot's arms of five joints and a gripper.

`so100` and `so101` are what LeRobot records unless told otherwise: joints in degrees from the middle of their
calibrated range, the gripper from 0 to 100 of its own. `so100_percent` and `so101_percent` are recordings with
`use_degrees=false`, joints from -100 to 100. Names and units are those of `SOFollower` and `MotorsBus` of lerobot
0.6.1; that 0 is a closed gripper follows from the arm's calibration. Cameras are called whatever their owner called
them: names that LeRobot's own examples use are known here.
"""

from collections.abc import Iterator

import fla_sdk as fla

JOINTS = tuple(f"{joint}.pos" for joint in ("shoulder_pan", "shoulder_lift", "elbow_flex", "wrist_flex", "wrist_roll"))
GRIPPER = fla.gripper("gripper.pos", unit="open_percent", limits=(0.0, 100.0))
CAMERAS = (
    fla.Camera(
        "front", slot="base_0_rgb", aliases=tuple(f"observation.images.{name}" for name in ("front", "top", "up"))
    ),
    fla.Camera("wrist", slot="left_wrist_0_rgb", required=False),
    # There is no other slot; its name means no more than that augmentation leaves the geometry alone.
    fla.Camera("side", slot="right_wrist_0_rgb", required=False),
)


def _arm(name: str, *, unit: str, limits: tuple[float, float] | None) -> fla.Embodiment:
    return fla.Embodiment(
        name=name,
        description=f"LeRobot's {name.partition('_')[0].upper().replace('SO', 'SO-')} arm, joints in {unit}",
        state=fla.Space(fla.joints(*JOINTS, unit=unit, limits=limits), GRIPPER),
        action=fla.Space(fla.joints(*JOINTS, unit=unit, predict="relative", limits=limits), GRIPPER),
        cameras=CAMERAS,
        control_hz=30,
        control_mode="joint_position",
        example_task="put the brick in the box",
    )


@fla.hookimpl
def fla_embodiments() -> Iterator[fla.Embodiment]:
    for name in ("so100", "so101"):
        yield _arm(name, unit="deg", limits=None)
        yield _arm(f"{name}_percent", unit="percent", limits=(-100.0, 100.0))
