"""`Arm`: a planar chain of links, its forward kinematics, and an inverse that has exactly one answer."""

import math

import attrs
import numpy as np
from numpy.typing import NDArray

from fla_sdk.errors import ConfigError, UnknownNameError

Colour = tuple[int, int, int]
Floats = NDArray[np.floating]


@attrs.frozen(kw_only=True)
class Arm:
    """A chain of links in the plane of the table. Lengths in metres, angles in radians, counter-clockwise positive.

    Joint 1 is measured from `heading`, every other joint from the link before it.

    Two or more joints can place the tip on a point in several ways. `bends` picks one: joint k+2 is `bends[k]` times
    one common bend, and the distance of the tip from the base falls as that bend grows to `max_bend`. So each point
    has one pose, and neighbouring points have neighbouring poses: what a policy learns is a function.
    """

    name: str
    links: tuple[float, ...]
    base: tuple[float, float]
    heading: float
    bends: tuple[float, ...]
    max_bend: float
    limits: tuple[tuple[float, float], ...]
    """Lowest and highest angle of each joint."""

    near: float
    far: float
    """Nearest and farthest distance of a target from the base: clear of both ends of the reach, where a small step
    of the tip takes a large one of the joints."""

    sector: tuple[float, float]
    """Directions of the targets, seen from the base and measured from `heading`."""

    colour: Colour

    def __attrs_post_init__(self) -> None:
        joints = len(self.links)
        if len(self.bends) != joints - 1 or len(self.limits) != joints:
            raise ConfigError(
                f"arm {self.name!r} has {joints} links, so it needs {joints - 1} bends and {joints} limits, "
                f"not {len(self.bends)} and {len(self.limits)}"
            )

    @property
    def joints(self) -> int:
        return len(self.links)

    @property
    def reach(self) -> float:
        """Distance of the tip from the base when the arm is straight, in metres."""
        return sum(self.links)

    def forward(self, joints: Floats) -> NDArray[np.float64]:
        """Joint angles `[..., N]` to the points of the chain `[..., N + 1, 2]` in metres, base first and tip last."""
        angles = self.heading + np.cumsum(joints, axis=-1, dtype=np.float64)
        steps = np.asarray(self.links)[:, None] * np.stack([np.cos(angles), np.sin(angles)], axis=-1)
        base = np.broadcast_to(np.asarray(self.base), (*steps.shape[:-2], 1, 2))
        return np.concatenate([base, base + np.cumsum(steps, axis=-2)], axis=-2)

    def tip(self, joints: Floats) -> NDArray[np.float64]:
        """Joint angles `[..., N]` to the tip `[..., 2]` in metres."""
        return self.forward(joints)[..., -1, :]

    def inverse(self, points: Floats) -> NDArray[np.float64]:
        """Points `[..., 2]` in metres to the one pose `[..., N]` of `bends` whose tip is there.

        Raises `ConfigError` for a point that is out of reach.
        """
        offset = np.asarray(points, np.float64) - self.base
        distance = np.hypot(offset[..., 0], offset[..., 1])
        low, high = np.zeros_like(distance), np.full_like(distance, self.max_bend)
        shortest, longest = self._extent(high), self._extent(low)
        # Straight arms round to a hair under their reach.
        if not np.all((distance >= shortest - 1e-9) & (distance <= longest + 1e-9)):
            raise ConfigError(
                f"{self.name} cannot reach a point {np.max(distance):.3f} m (nearest {np.min(distance):.3f} m) from "
                f"its base: its tip reaches {np.min(shortest):.3f} to {self.reach:.3f} m"
            )
        for _ in range(50):  # halvings: 3 rad shrink below the rounding error of a double
            middle = 0.5 * (low + high)
            too_far = self._extent(middle) > distance
            low, high = np.where(too_far, middle, low), np.where(too_far, high, middle)
        pose = self._bent(0.5 * (low + high))
        tip = self.tip(pose) - self.base
        turn = np.arctan2(offset[..., 1], offset[..., 0]) - np.arctan2(tip[..., 1], tip[..., 0])
        pose[..., 0] = (turn + math.pi) % (2 * math.pi) - math.pi
        return pose

    def clip(self, joints: Floats) -> NDArray[np.float64]:
        """Joint angles `[..., N]` brought within `limits`."""
        limits = np.asarray(self.limits)
        return np.clip(joints, limits[:, 0], limits[:, 1], dtype=np.float64)

    def polar(self, distance: Floats, angle: Floats) -> NDArray[np.float64]:
        """Points `[..., 2]` at a distance from the base in metres, at an angle from `heading`."""
        direction = self.heading + np.asarray(angle, np.float64)
        return self.base + np.asarray(distance, np.float64)[..., None] * np.stack(
            [np.cos(direction), np.sin(direction)], axis=-1
        )

    def _bent(self, bend: Floats) -> NDArray[np.float64]:
        """The pose `[..., N]` of that common bend, with joint 1 at zero."""
        return np.asarray(bend, np.float64)[..., None] * np.array([0.0, *self.bends])

    def _extent(self, bend: Floats) -> NDArray[np.float64]:
        """How far the tip is from the base at that common bend, in metres."""
        angles = np.asarray(bend)[..., None] * np.cumsum([0.0, *self.bends])
        return np.hypot(np.cos(angles) @ np.asarray(self.links), np.sin(angles) @ np.asarray(self.links))


ARMS = {
    arm.name: arm
    for arm in (
        Arm(
            name="planar2",
            links=(0.42, 0.36),
            base=(0.50, 0.14),
            heading=math.radians(90),
            bends=(1.0,),
            max_bend=2.6,
            limits=((-2.4, 2.4), (-2.7, 2.7)),
            near=0.38,
            far=0.70,
            sector=(math.radians(-40), math.radians(50)),
            colour=(36, 39, 46),
        ),
        Arm(
            name="planar3",
            links=(0.34, 0.27, 0.21),
            base=(0.12, 0.50),
            heading=0.0,
            bends=(-1.0, -1.0),
            max_bend=2.0,
            limits=((-2.4, 2.4), (-2.4, 2.4), (-2.4, 2.4)),
            near=0.38,
            far=0.72,
            sector=(math.radians(-50), math.radians(40)),
            colour=(232, 229, 220),
        ),
    )
}
"""The two arms. They share a table and differ in joints, proportions, mounting, elbow side and colour."""


def find_arm(name: str) -> Arm:
    """The arm of that name; raises `UnknownNameError`."""
    if name not in ARMS:
        raise UnknownNameError("planar arm", name, ARMS)
    return ARMS[name]
