"""What a robot's numbers mean, read from an `Embodiment` or from the same description as a server sends it."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple, Union

import numpy as np
from numpy.typing import NDArray

from fla_sdk.schema import describe

if TYPE_CHECKING:
    from fla_sdk.embodiment import Embodiment

RobotLike = Union["Embodiment", Mapping[str, Any]]
"""An `Embodiment`, or its description in a server's greeting (docs/protocol.md)."""


class Dimension(NamedTuple):
    """One number of a state or an action."""

    name: str
    unit: str
    representation: str
    """`absolute`, `delta` or `velocity`."""

    limits: tuple[float, float] | None


def described(robot: RobotLike) -> Mapping[str, Any]:
    """The description, whichever was given."""
    return robot if isinstance(robot, Mapping) else describe(robot)


def dimensions(robot: RobotLike, kind: str) -> tuple[Dimension, ...]:
    """Those of `kind`, `state` or `action`, in order."""
    found: list[Dimension] = []
    for field in described(robot)[kind]:
        limits = None if field["limits"] is None else (float(field["limits"][0]), float(field["limits"][1]))
        found += [Dimension(name, field["unit"], field["representation"], limits) for name in field["names"]]
    return tuple(found)


def example(robot: RobotLike) -> dict[str, Any]:
    """A made-up observation that fits: a state within the limits, noise for pictures, the words "do something"."""
    if not isinstance(robot, Mapping):
        return robot.example_observation()
    state = [sum(one.limits) / 2 if one.limits else 0.0 for one in dimensions(robot, "state")]
    noise = np.random.default_rng(0)
    images: dict[str, NDArray[np.uint8]] = {
        f"images/{camera['name']}": noise.integers(0, 256, (224, 224, 3), dtype=np.uint8) for camera in robot["cameras"]
    }
    return {**images, "state": np.array(state, np.float32), "task": "do something"}
