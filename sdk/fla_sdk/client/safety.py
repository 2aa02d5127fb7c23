"""`SafetyFilter`: no command beyond the robot's limits, whatever the policy wants."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from fla_sdk.client.description import Dimension, RobotLike, described, dimensions
from fla_sdk.client.motion import Bounds, Floats, Motion, braking, limited_step
from fla_sdk.errors import ConfigError, UnknownNameError

log = logging.getLogger("fla_sdk.client")

KINDS: tuple[str, ...] = ("position", "velocity", "jerk")
_Limit = TypeVar("_Limit")


@dataclass(frozen=True)
class SafetyReport:
    """What a filter changed since it was made."""

    steps: int = 0
    clamped: Mapping[str, Mapping[str, int]] = field(default_factory=dict[str, Mapping[str, int]])
    """Joint -> `position`, `velocity` or `jerk` -> in how many steps that limit changed its command."""

    last: Mapping[str, tuple[float, float]] = field(default_factory=dict[str, tuple[float, float]])
    """Joint -> what was wanted and what was given when it was changed last."""

    not_finite: int = 0
    """Actions that were refused because some number was none."""

    stale: int = 0
    """Actions that were refused because their observation was too old."""


class SafetyFilter:
    """Keeps commands within limits of position, velocity and jerk (units, per second, per second cubed).

    Positions are limited as the robot's description says, or `position` does. With a limit of jerk a joint is only let
    go where it can still brake before its other limits. An action that is not finite, or comes from an observation
    older than `stale_after_s`, is not executed: the robot comes to rest within its limits, until there is a better one.
    Steps and rates are limited as they are, and zero when refused.

    It filters commands: it knows neither the arm's shape nor what stands around it, and replaces no emergency stop.
    """

    def __init__(
        self,
        robot: RobotLike | None,
        *,
        rate_hz: float | None = None,
        position: Mapping[str, tuple[float, float]] | None = None,
        velocity: Mapping[str, float] | None = None,
        jerk: Mapping[str, float] | None = None,
        stale_after_s: float | None = None,
    ) -> None:
        """`robot` is an embodiment or `PolicyClient.robot`. `rate_hz` is that of the control loop; None: the robot's
        own. Limits are given by the name of a joint, or by a unit for all joints that have it, as in
        `velocity={"rad": 2.0, "gripper": 5.0}`; a name wins.

        Raises `UnknownNameError` for what is neither, `ConfigError` for a limit that is none or cannot be kept.
        """
        if robot is None:
            raise ConfigError("the server does not describe this robot; give the safety filter its Embodiment")
        self._joints, self._state = dimensions(robot, "action"), dimensions(robot, "state")
        rate_hz = float(described(robot)["control_hz"]) if rate_hz is None else rate_hz
        if not 0 < rate_hz < np.inf:
            raise ConfigError(f"rate_hz is {rate_hz}, must be above 0 (control steps per second)")
        places = _by_joint(
            self._joints, "position", position, [one.limits or (-np.inf, np.inf) for one in self._joints]
        )
        low, high = np.array(places, np.float64).reshape(-1, 2).T
        speeds = np.array(_by_joint(self._joints, "velocity", velocity, [np.inf] * len(self._joints)), np.float64)
        jerks = np.array(_by_joint(self._joints, "jerk", jerk, [np.inf] * len(self._joints)), np.float64)
        if not ((low < high).all() and (speeds > 0).all() and (jerks > 0).all()):
            raise ConfigError(
                "limits of position must be (low, high) with low < high, those of velocity and jerk above 0"
            )
        self._bounds = Bounds(low, high, speeds / rate_hz, jerks / rate_hz**3)
        self._rates = np.array([one.representation != "absolute" for one in self._joints], bool)
        self._smooth = np.isfinite(jerks)
        for one, smooth, rate, speed in zip(self._joints, self._smooth, self._rates, speeds, strict=True):
            if (rate and np.isfinite(speed)) or (smooth and (rate or np.isinf(speed))):
                raise ConfigError(
                    f"joint {one.name!r} is commanded by {one.representation!r} numbers: a velocity or jerk can be"
                    " limited where they are absolute, and a jerk only together with the velocity. Limit the numbers"
                    " themselves with position={...}"
                )
        self._stale_after_s = stale_after_s
        self._motion: Motion | None = None
        self._wanted: Floats | None = None
        self._steps = self._not_finite = self._stale = 0
        self._counts: dict[str, dict[str, int]] = {one.name: dict.fromkeys(KINDS, 0) for one in self._joints}
        self._last: dict[str, tuple[float, float]] = {}
        if self.unlimited:
            log.warning("the safety filter lets %s go anywhere: no limits are known", ", ".join(self.unlimited))

    @property
    def unlimited(self) -> tuple[str, ...]:
        """Joints without limits of position."""
        free = np.isinf(self._bounds.low) & np.isinf(self._bounds.high)
        return tuple(one.name for one, is_free in zip(self._joints, free, strict=True) if is_free)

    @property
    def report(self) -> SafetyReport:
        """What was changed so far."""
        clamped = {joint: dict(counts) for joint, counts in self._counts.items() if any(counts.values())}
        return SafetyReport(self._steps, clamped, dict(self._last), self._not_finite, self._stale)

    def reset(self, state: NDArray[np.floating] | None = None) -> None:
        """A new episode, with the robot at rest at `state` `[S]`; None: where the first action wants it.

        Joints are found in the state by their names and units. One that is outside of its limits is taken to be at
        the nearest one.
        """
        self._motion = self._wanted = None
        if state is not None:
            known = {(one.name, one.unit): float(value) for one, value in zip(self._state, state, strict=True)}
            self._motion = self._at_rest(np.array([known.get((one.name, one.unit), np.nan) for one in self._joints]))

    def __call__(self, action: NDArray[np.floating], *, age_s: float | None = None) -> Floats:
        """The command `[A]`, float64, to send for `action` `[A]`, whose observation is `age_s` old.

        Raises `ConfigError` on an action of another width, and on one that is refused before there was a good one and
        while it is not known where the robot is.
        """
        wanted = np.asarray(action, np.float64)
        if wanted.shape != (len(self._joints),):
            raise ConfigError(f"an action of this robot is [{len(self._joints)}] numbers, got {list(wanted.shape)}")
        self._steps += 1
        finite = bool(np.isfinite(wanted).all())
        stale = self._stale_after_s is not None and age_s is not None and age_s > self._stale_after_s
        self._not_finite, self._stale = self._not_finite + (not finite), self._stale + stale
        good = finite and not stale
        if good:
            now = self._begin(wanted)
            self._motion = self._towards(now, wanted)
            self._count(now, wanted, self._motion.position)
        elif self._motion is None or np.isnan(self._motion.position).any():
            raise ConfigError("the first action is too old or not finite, and it is not known where the robot is")
        else:
            self._motion = self._stopping(self._motion)
        return self._motion.position.copy()

    def _begin(self, wanted: Floats) -> Motion:
        """What is not known of the robot's place is where it shall go first."""
        if self._motion is None:
            return self._at_rest(wanted)
        if np.isnan(self._motion.position).any():
            return self._at_rest(np.where(np.isnan(self._motion.position), wanted, self._motion.position))
        return self._motion

    def _at_rest(self, position: Floats) -> Motion:
        inside = np.clip(position, self._bounds.low, self._bounds.high)
        return Motion(inside, np.zeros_like(inside), np.zeros_like(inside))

    def _towards(self, now: Motion, wanted: Floats) -> Motion:
        bounds, smooth = self._bounds, self._smooth
        target = np.clip(wanted, bounds.low, bounds.high)
        before, self._wanted = target if self._wanted is None else self._wanted, target
        position = np.clip(target, now.position - bounds.velocity, now.position + bounds.velocity)
        if smooth.any():
            drift = np.clip(target - before, -bounds.velocity, bounds.velocity)
            some = limited_step(_of(now, smooth), target[smooth], drift[smooth], _of(bounds, smooth))
            position[smooth] = some.position
        return self._moved(now, position)

    def _stopping(self, now: Motion) -> Motion:
        self._wanted = None
        position = np.where(self._rates, 0.0, now.position)
        if self._smooth.any():
            some = _of(now, self._smooth)
            position[self._smooth] = some.after(braking(some, self._bounds.jerk[self._smooth])).position
        return self._moved(now, position)

    def _moved(self, now: Motion, position: Floats) -> Motion:
        position = np.clip(position, self._bounds.low, self._bounds.high)  # the last digit
        velocity = position - now.position
        return Motion(position, velocity, velocity - now.velocity)

    def _count(self, now: Motion, wanted: Floats, given: Floats) -> None:
        bounds = self._bounds
        inside = np.clip(wanted, bounds.low, bounds.high)
        reached = np.clip(inside, now.position - bounds.velocity, now.position + bounds.velocity)
        changes = {
            "position": inside != wanted,
            "velocity": np.abs(reached - inside) > 1e-9,
            "jerk": np.abs(given - reached) > 1e-9,
        }
        for kind, changed in changes.items():
            for index in np.flatnonzero(changed):
                name = self._joints[int(index)].name
                self._counts[name][kind] += 1
                self._last[name] = (float(wanted[index]), float(given[index]))


_Parts = TypeVar("_Parts", Motion, Bounds)


def _of(parts: _Parts, chosen: NDArray[np.bool_]) -> _Parts:
    return type(parts)(*(part[chosen] for part in parts))


def _by_joint(
    joints: Sequence[Dimension], what: str, given: Mapping[str, _Limit] | None, otherwise: Sequence[_Limit]
) -> list[_Limit]:
    """The limit of each joint: by its name, by its unit, or otherwise."""
    given = given or {}
    known = {one.name for one in joints} | {one.unit for one in joints}
    for name in given:
        if name not in known:
            raise UnknownNameError(f"joint or unit for a limit of {what}", name, known)
    return [
        given[one.name] if one.name in given else given.get(one.unit, default)
        for one, default in zip(joints, otherwise, strict=True)
    ]
