"""Robots of Open X-Embodiment (arXiv:2310.08864), with the names that features have in its RLDS datasets.

Keys, widths and the words below were read in the TensorFlow Datasets catalogue (RLDS features) and in the datasets' own
documents; rates in the table of Open X-Embodiment. No data was looked at. Where nobody says a unit, the numbers are
`normalized`, the robot's own scale, and statistics do the rest. All move by steps of their end effector.

- `bridge` (BridgeData V2, arXiv:2308.12952; WidowX 250): metres and radians; `bridge_orig`, and Open X's own `bridge`.
- `fractal` (RT-1, arXiv:2212.06817; Google's robot): the gripper is told to close (1), open (-1) or stay (0). The
  base, which hardly moves, is left out.
- `taco_play` (arXiv:2210.01911; Franka): steps of 0.02 m and 0.05 rad are 1; the gripper opens at 1, as its authors'
  documents say, not at -1, as the catalogue does.
- `jaco_play` (Kinova Jaco 2): moves without turning.
- `berkeley_autolab_ur5` (UR5): metres and radians; the gripper as of `fractal`. Its hand camera is said to be BGR.
- `viola` (arXiv:2210.11339; Franka): steps of its controller.
"""

from collections.abc import Iterator
from typing import Any

import fla_sdk as fla

POSITION, TURN, QUATERNION = ("x", "y", "z"), ("roll", "pitch", "yaw"), ("qx", "qy", "qz", "qw")
JOINTS = tuple(f"joint{i}" for i in range(1, 8))


def _steps(position: str, turn: str, gripper: fla.Field) -> fla.Space:
    """The action of most: units of its steps, and the gripper."""
    return fla.Space(
        fla.Field(names=POSITION, unit=position, representation="delta", aliases=("action/world_vector",)),
        fla.Field(names=TURN, unit=turn, representation="delta", aliases=("action/rotation_delta",)),
        gripper,
    )


def _cameras(base: str, wrist: str | None = None, *more: str) -> tuple[fla.Camera, ...]:
    cameras = [fla.Camera(base, slot="base_0_rgb", aliases=(f"observation/{base}", *more))]
    if wrist is not None:
        cameras.append(fla.Camera(wrist, slot="left_wrist_0_rgb", aliases=(f"observation/{wrist}",)))
    return tuple(cameras)


def _command(unit: str = "close_command") -> fla.Field:
    return fla.gripper(unit=unit, limits=(-1.0, 1.0), aliases=("action/gripper_closedness_action",))


def _robot(**fields: Any) -> fla.Embodiment:
    return fla.Embodiment(control_mode="end_effector_delta", **fields)


BRIDGE = _robot(
    name="bridge",
    description="WidowX 250 of BridgeData V2, end-effector steps in metres and radians",
    state=fla.Space(
        fla.Field(names=POSITION, unit="m"),
        fla.Field(names=TURN, unit="rad", rotation="rpy"),
        fla.gripper(),
        aliases=("observation/state",),
    ),
    action=_steps("m", "rad", fla.gripper(aliases=("action/open_gripper",))),
    cameras=_cameras("image_0", None, "observation/image"),
    control_hz=5,
    image_shape=(256, 256),
    example_task="put the spoon on the towel",
)

FRACTAL = _robot(
    name="fractal",
    description="Google's robot of RT-1, end-effector steps; the base stays",
    state=fla.Space(
        fla.Field(names=POSITION, unit="m", aliases=("observation/base_pose_tool_reached",)),
        fla.Field(
            names=QUATERNION,
            unit="normalized",
            rotation="quaternion_xyzw",
            aliases=("observation/base_pose_tool_reached",),
        ),
        fla.gripper(unit="closed_fraction", aliases=("observation/gripper_closed",)),
    ),
    action=_steps("normalized", "rad", _command()),
    cameras=_cameras("image"),
    control_hz=3,
    image_shape=(256, 320),
    example_task="pick coke can",
)

TACO_PLAY = _robot(
    name="taco_play",
    description="Franka arm of TACO, end-effector steps in fiftieths of a metre",
    state=fla.Space(
        fla.Field(names=POSITION, unit="m"),
        fla.Field(names=TURN, unit="rad", rotation="rpy"),
        fla.Field(names=("gripper_width",), unit="m"),
        fla.joints(*JOINTS),
        fla.gripper("gripper_command", unit="open_command", limits=(-1.0, 1.0)),
        aliases=("observation/robot_obs",),
    ),
    action=fla.Space(
        fla.Field(names=(*POSITION, *TURN), unit="normalized", representation="delta", limits=(-1.0, 1.0)),
        fla.gripper(unit="open_command", limits=(-1.0, 1.0)),
        aliases=("action/rel_actions_world",),
    ),
    cameras=_cameras("rgb_static", "rgb_gripper"),
    control_hz=15,
    image_shape=(150, 200),
    example_task="move the slider to the left",
)

JACO_PLAY = _robot(
    name="jaco_play",
    description="Kinova Jaco 2 arm, end-effector steps without rotation",
    state=fla.Space(
        fla.joints(*JOINTS[:6], aliases=("observation/joint_pos",)),
        fla.joints("finger1", "finger2", aliases=("observation/joint_pos",)),
    ),
    action=fla.Space(
        fla.Field(names=POSITION, unit="normalized", representation="delta", aliases=("action/world_vector",)),
        _command(),
    ),
    cameras=_cameras("image", "image_wrist"),
    control_hz=10,
    image_shape=(224, 224),
    example_task="pick up the orange fruit",
)

BERKELEY_AUTOLAB_UR5 = _robot(
    name="berkeley_autolab_ur5",
    description="UR5 arm of Berkeley's AUTOLAB, end-effector steps in metres and radians",
    state=fla.Space(
        fla.joints(*JOINTS[:6]),
        fla.Field(names=POSITION, unit="m"),
        fla.Field(names=QUATERNION, unit="normalized", rotation="quaternion_xyzw"),
        fla.gripper(unit="closed_fraction"),
        fla.Field(names=("action_blocked",), unit="normalized", limits=(0.0, 1.0)),
        aliases=("observation/robot_state",),
    ),
    action=_steps("m", "rad", _command()),
    cameras=_cameras("image", "hand_image"),
    control_hz=5,
    example_task="sweep the green cloth to the left side of the table",
)

VIOLA = _robot(
    name="viola",
    description="Franka arm of VIOLA, end-effector steps of its controller",
    state=fla.Space(
        fla.joints(*JOINTS, aliases=("observation/joint_states",)),
        fla.Field(names=("gripper_width",), unit="m", aliases=("observation/gripper_states",)),
    ),
    action=_steps("normalized", "normalized", _command()),
    cameras=_cameras("agentview_rgb", "eye_in_hand_rgb"),
    control_hz=20,
    image_shape=(224, 224),
    example_task="make coffee",
)


@fla.hookimpl
def fla_embodiments() -> Iterator[fla.Embodiment]:
    yield BRIDGE
    yield FRACTAL
    yield TACO_PLAY
    yield JACO_PLAY
    yield BERKELEY_AUTOLAB_UR5
    yield VIOLA
