"""LIBERO: a simulated Franka arm moved by steps of its end effector, 20 Hz."""

from collections.abc import Iterator

import fla_sdk as fla

LIBERO = fla.Embodiment(
    name="libero",
    description="Franka arm of the LIBERO benchmark, moved by end-effector steps",
    state=fla.Space(
        fla.Field(names=("x", "y", "z"), unit="m"),
        fla.Field(names=("rx", "ry", "rz"), unit="rad", rotation="axis_angle"),
        fla.Field(names=("left_finger", "right_finger"), unit="m"),
        aliases=("observation/state",),
    ),
    action=fla.Space(
        # The simulator's controller scales -1..1 to a step; the data already holds steps.
        fla.Field(names=("x", "y", "z"), unit="normalized", representation="delta", limits=(-1.0, 1.0)),
        fla.Field(names=("rx", "ry", "rz"), unit="normalized", representation="delta", limits=(-1.0, 1.0)),
        fla.gripper(unit="close_command", limits=(-1.0, 1.0)),
    ),
    cameras=(
        fla.Camera("image", slot="base_0_rgb", aliases=("observation/image", "image")),
        fla.Camera("wrist_image", slot="left_wrist_0_rgb", aliases=("observation/wrist_image", "wrist_image")),
    ),
    control_hz=20,
    control_mode="end_effector_delta",
    image_shape=(256, 256),
    example_task="put the bowl on the plate",
)


@fla.hookimpl
def fla_embodiments() -> Iterator[fla.Embodiment]:
    yield LIBERO
