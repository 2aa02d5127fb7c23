"""Two planar arms on a table, of two and of three joints: the robots of the demo."""

from collections.abc import Iterator

import numpy as np

import fla_sdk as fla


def planar(joint_count: int) -> fla.Embodiment:
    names = [f"joint{i + 1}" for i in range(joint_count)]
    return fla.Embodiment(
        name=f"planar{joint_count}",
        description=f"planar arm with {joint_count} joints, seen from above",
        state=fla.Space(fla.joints(*names, limits=(-np.pi, np.pi))),
        action=fla.Space(fla.joints(*names, limits=(-np.pi, np.pi))),
        cameras=(fla.Camera("front", slot="base_0_rgb"),),
        control_hz=10,
        control_mode="joint_position",
        prompt=f"planar arm {joint_count}: {{task}}",
        image_shape=(64, 64),
        example_task="reach the red target",
    )


PLANAR2 = planar(2)
PLANAR3 = planar(3)


@fla.hookimpl
def fla_embodiments() -> Iterator[fla.Embodiment]:
    yield PLANAR2
    yield PLANAR3
