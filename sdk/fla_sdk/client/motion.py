"""`limited_step`: the next position of joints whose velocity and jerk are limited, and which can always still stop.

Everything is per control step: a velocity is the difference of two positions, an acceleration that of two velocities,
a jerk that of two accelerations. All arrays are `[A]`, or `[C, A]` for C candidates.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
_CANDIDATES = 65


class Bounds(NamedTuple):
    """What holds in every step."""

    low: Floats
    high: Floats
    velocity: Floats
    jerk: Floats
    """Finite, above 0."""


class Motion(NamedTuple):
    """Where the joints are and how they move."""

    position: Floats
    velocity: Floats
    acceleration: Floats

    def after(self, jerk: Floats) -> "Motion":
        """One step on."""
        acceleration = self.acceleration + jerk
        velocity = self.velocity + acceleration
        return Motion(self.position + velocity, velocity, acceleration)


def limited_step(now: Motion, target: Floats, target_velocity: Floats, bounds: Bounds) -> Motion:
    """The motion one step on, as near to `target` as the bounds allow.

    A jerk is taken only if braking from where it leads stays within the bounds until standstill. Braking itself is
    always such a jerk, so the bounds hold forever once they hold at rest. Among these jerks the target itself is
    preferred, when it can be met and followed; else the one from which braking, as the target sees it, ends at it.
    """
    exact = target - now.position - now.velocity - now.acceleration
    follows = np.abs(target - now.position - target_velocity) <= bounds.jerk
    meets = follows & (np.abs(exact) <= bounds.jerk)
    exact = np.clip(exact, -bounds.jerk, bounds.jerk)
    if meets.all() and _stops_within(now.after(exact[None]), bounds).all():
        return now.after(exact)
    evenly = np.linspace(-1, 1, _CANDIDATES)[:, None] * bounds.jerk
    jerks = np.concatenate([braking(now, bounds.jerk)[None], exact[None], evenly])
    after = now.after(jerks)
    safe = _stops_within(after, bounds)
    seen = Motion(after.position - target, after.velocity - target_velocity, after.acceleration)
    miss = np.where(safe, np.abs(_rest(seen, bounds)[0].position), np.inf)
    miss[1] = np.where(meets & safe[1], -1.0, miss[1])
    return now.after(np.take_along_axis(jerks, np.argmin(miss, axis=0)[None], axis=0)[0])


def braking(now: Motion, jerk: Floats) -> Floats:
    """The jerk that brings the joints to rest, in nearly the shortest time.

    Decelerations that shrink by `jerk` in every step bring velocities of `jerk * m * (m + 1) / 2` to rest in m steps;
    between them the deceleration is interpolated, so that a joint that is on this curve stays on it to the end.
    """
    speed = np.abs(now.velocity)
    steps = np.floor(np.sqrt(0.25 + 2 * speed / jerk) - 0.5)
    deceleration = jerk * steps / 2 + speed / (steps + 1)
    return np.clip(-np.copysign(deceleration, now.velocity) - now.acceleration, -jerk, jerk)


def _stops_within(after: Motion, bounds: Bounds) -> NDArray[np.bool_]:
    end, low, high, speed = _rest(after, bounds)
    tiny = 1e-9 * bounds.jerk
    stands = (np.abs(end.velocity) <= tiny) & (np.abs(end.acceleration) <= tiny)
    return stands & (low >= bounds.low - tiny) & (high <= bounds.high + tiny) & (speed <= bounds.velocity + tiny)


def _rest(begin: Motion, bounds: Bounds) -> tuple[Motion, Floats, Floats, Floats]:
    """Where braking ends, and the lowest and highest position and the highest speed until then."""
    motion, low, high, speed = begin, begin.position, begin.position, np.abs(begin.velocity)
    # Four times what a joint needs that brakes at its highest velocity: it may be speeding up when it begins to.
    for _ in range(int(4 * np.sqrt(2 * np.max(bounds.velocity / bounds.jerk))) + 8):
        motion = motion.after(braking(motion, bounds.jerk))
        now = np.abs(motion.velocity)
        low, high = np.minimum(low, motion.position), np.maximum(high, motion.position)
        speed = np.maximum(speed, now)
        if now.max() < 1e-15 > np.abs(motion.acceleration).max():
            break
    return motion, low, high, speed
