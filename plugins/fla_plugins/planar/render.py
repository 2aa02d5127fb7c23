"""`Canvas`: anti-aliased discs, rings and rounded lines, painted by their distance fields.

Each shape touches only the pixels of its bounding box, so a frame costs microseconds where whole-picture masks would
cost a millisecond.
"""

import math
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from fla_plugins.planar.arm import Arm, Colour
from fla_plugins.planar.scene import COLOURS, Scene

# Half-way between black and white, where models put zero: a bare patch of table is then almost no input at all, and the
# targets stand out. On a nearly white table a small transformer took more than twice as many steps to find them.
TABLE: Colour = (126, 128, 130)
LINES: Colour = (137, 139, 141)
INK: Colour = (24, 26, 31)
PAPER: Colour = (246, 246, 244)

_LINK_RADIUS = 0.013
_JOINT_RADIUS = 0.020
_BASE_RADIUS = 0.036
_SHADOW = np.array([0.010, -0.016])


class Canvas:
    """A square picture of the square `[0, 1]` x `[0, 1]` m seen from above: x to the right, y up."""

    def __init__(self, size: int) -> None:
        """`size` is the width and height in pixels."""
        self.size = size
        centres = (np.arange(size, dtype=np.float32) + 0.5) / size
        self._x, self._y = centres[None, :], centres[::-1, None]
        self.pixels: NDArray[np.float32] = np.empty((size, size, 3), np.float32)
        self.clear(TABLE)

    def clear(self, colour: Colour) -> None:
        self.pixels[:] = colour

    def paste(self, other: "Canvas") -> None:
        """Start from what another canvas of the same size shows."""
        self.pixels[:] = other.pixels

    def image(self) -> NDArray[np.uint8]:
        """uint8 `[size, size, 3]`, RGB; a copy."""
        return self.pixels.astype(np.uint8)

    def disc(self, centre: Sequence[float], radius: float, colour: Colour, *, opacity: float = 1.0) -> None:
        self.line(centre, centre, radius, colour, opacity=opacity)

    def ring(
        self, centre: Sequence[float], radius: float, width: float, colour: Colour, *, opacity: float = 1.0
    ) -> None:
        """A circle whose stroke of `width` metres is centred on `radius`."""
        cx, cy = float(centre[0]), float(centre[1])
        rows, columns = self._box(cx, cy, cx, cy, radius + width)
        distance = np.hypot(self._x[:, columns] - cx, self._y[rows] - cy)
        self._blend(rows, columns, 0.5 * width - np.abs(distance - radius), colour, opacity)

    def line(
        self, start: Sequence[float], end: Sequence[float], radius: float, colour: Colour, *, opacity: float = 1.0
    ) -> None:
        """A line with round ends: every point within `radius` metres of the segment."""
        ax, ay, bx, by = float(start[0]), float(start[1]), float(end[0]), float(end[1])
        rows, columns = self._box(ax, ay, bx, by, radius)
        x, y = self._x[:, columns] - ax, self._y[rows] - ay
        dx, dy = bx - ax, by - ay
        length = dx * dx + dy * dy
        if length > 0.0:
            along = np.clip((x * dx + y * dy) / length, 0.0, 1.0)
            x, y = x - along * dx, y - along * dy
        self._blend(rows, columns, radius - np.sqrt(x * x + y * y), colour, opacity)

    def _box(self, ax: float, ay: float, bx: float, by: float, radius: float) -> tuple[slice, slice]:
        """Rows and columns that a shape around a segment can touch, one pixel of soft edge included."""
        size, pad = self.size, radius + 1.0 / self.size
        return (
            _span(1.0 - max(ay, by) - pad, 1.0 - min(ay, by) + pad, size),
            _span(min(ax, bx) - pad, max(ax, bx) + pad, size),
        )

    def _blend(self, rows: slice, columns: slice, inside: NDArray[np.floating], colour: Colour, opacity: float) -> None:
        """Mix `colour` into pixels by how far, in metres, they lie `inside` the shape; half covered on its edge."""
        cover = np.clip(inside * self.size + 0.5, 0.0, 1.0)[..., None] * np.float32(opacity)
        patch = self.pixels[rows, columns]
        patch += cover * (np.asarray(colour, np.float32) - patch)


def _span(low: float, high: float, size: int) -> slice:
    return slice(min(max(math.floor(low * size), 0), size), min(max(math.ceil(high * size), 0), size))


def paint_table(canvas: Canvas, scene: Scene, target_radius: float) -> None:
    """The table and its three targets: what stays the same until the targets move."""
    canvas.clear(TABLE)
    for centre, colour in zip(scene.targets, COLOURS.values(), strict=True):
        canvas.disc(centre, target_radius, colour)


def paint_arm(canvas: Canvas, arm: Arm, joints: NDArray[np.floating]) -> None:
    """The arm, thin enough that no target vanishes beneath it."""
    points = arm.forward(joints).tolist()
    canvas.disc(points[0], _BASE_RADIUS, arm.colour)
    for start, end in pairwise(points):
        canvas.line(start, end, _LINK_RADIUS, arm.colour)
    for point in points[1:]:
        canvas.disc(point, _JOINT_RADIUS, arm.colour)


def paint_portrait(
    canvas: Canvas, arm: Arm, scene: Scene, joints: NDArray[np.floating], *, target_radius: float, tolerance: float
) -> None:
    """The scene for people: a grid, shadows, and a ring around the target that is meant."""
    canvas.clear(TABLE)
    for tick in np.arange(0.1, 0.95, 0.1).tolist():
        canvas.line((tick, 0.0), (tick, 1.0), 0.002, LINES)
        canvas.line((0.0, tick), (1.0, tick), 0.002, LINES)
    for centre, colour in zip(scene.targets, COLOURS.values(), strict=True):
        canvas.disc(centre + _SHADOW / 2, target_radius, INK, opacity=0.25)
        canvas.disc(centre, target_radius, colour)
        canvas.disc(centre, 0.62 * target_radius, PAPER, opacity=0.16)
    canvas.ring(scene.targets[scene.named], tolerance, 0.010, PAPER)
    points = arm.forward(joints)
    for start, end in pairwise(points):
        canvas.line(start + _SHADOW, end + _SHADOW, 1.3 * _LINK_RADIUS, INK, opacity=0.25)
    canvas.disc(points[0], 1.3 * _BASE_RADIUS, INK)
    for start, end in pairwise(points):
        canvas.line(start, end, 1.3 * _LINK_RADIUS, arm.colour)
    for point in points[:-1]:
        canvas.disc(point, 1.1 * _JOINT_RADIUS, INK)
        canvas.disc(point, 0.6 * _JOINT_RADIUS, PAPER)
    canvas.disc(points[-1], 1.2 * _JOINT_RADIUS, INK)
    canvas.disc(points[-1], 0.7 * _JOINT_RADIUS, (255, 214, 64))
