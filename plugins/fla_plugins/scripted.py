"""Policies without weights, to wire up a robot: `fla serve scripted:hold --embodiment NAME`, `sine` and `home`.

They answer with chunks in the robot's own terms, from the names, units and limits of its description. What they know is
in the observation and the clock: any number of robots may ask one server, and asking more often changes no motion.
"""

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar, Protocol

import attrs
import numpy as np
from numpy.typing import NDArray

import fla_sdk as fla
from fla_sdk.config import structure
from fla_sdk.errors import ConfigError, UnknownNameError
from fla_sdk.space import RESOLUTION

Floats = NDArray[np.floating]

SCHEME = "scripted:"
FADE_S = 1.0
"""In this time `sine` takes a robot from where it is to the middle of the motion."""

OPENING: Mapping[str, tuple[float, float]] = {
    "open_fraction": (0, 1),
    "open_percent": (0, 100),
    "closed_fraction": (1, 0),
    "open_command": (-1, 1),
    "close_command": (1, -1),
}
"""Unit of a gripper -> its number when closed and when open."""


class Motion(Protocol):
    """What to do instead of holding still."""

    @property
    def horizon(self) -> int | None:
        """Actions per answer; None for a second of them."""
        ...

    def check(self, robot: fla.Embodiment) -> None:
        """Raise what is wrong with the options for this robot."""
        ...

    def move(self, actions: Floats, robot: fla.Embodiment, now_s: float) -> None:
        """Write the motion into `actions` `[T, A]`, which hold still. The first of them is for one step after now."""
        ...


@attrs.frozen(kw_only=True)
class Hold:
    """Stay where the observation says that the robot is."""

    horizon: int | None = None

    def check(self, robot: fla.Embodiment) -> None:
        pass

    def move(self, actions: Floats, robot: fla.Embodiment, now_s: float) -> None:
        pass


@attrs.frozen(kw_only=True)
class Sine:
    """Move one dimension up and down by a little.

    The phase is that of the clock. The middle is the nearest of a few fixed places, far enough apart that a robot on
    its way keeps its own: so it does not wander off, however often it asks and however far it lags behind.
    """

    joint: str | None = None
    """Dimension of the action; the first when None."""

    amplitude: float | None = None
    """Farthest from the middle, in the dimension's unit; of a rate the highest. 20 times the unit's resolution if None:
    0.02 rad, 2 mm, 2 deg."""

    period_s: float = 4.0
    horizon: int | None = None

    def check(self, robot: fla.Embodiment) -> None:
        if self.joint is not None and self.joint not in robot.action.names:
            raise UnknownNameError(f"action dimension of {robot.name}", self.joint, robot.action.names)
        if self.period_s <= 0 or (self.amplitude is not None and self.amplitude <= 0):
            raise ConfigError(f"amplitude and period_s must be above 0, got {self.amplitude} and {self.period_s}")

    def move(self, actions: Floats, robot: fla.Embodiment, now_s: float) -> None:
        place = 0 if self.joint is None else robot.action.names.index(self.joint)
        field = _field(robot.action, place)
        size = self.amplitude or 20 * RESOLUTION[field.unit]
        low, high = field.limits or (-np.inf, np.inf)
        size = min(size, (high - low) / 2)
        steps = np.arange(len(actions) + 1) / robot.control_hz
        phase = 2 * np.pi * (now_s + steps) / self.period_s
        if field.representation == "velocity":
            actions[:, place] = size * np.cos(phase[1:])
        elif field.representation == "delta":
            actions[:, place] = size * np.diff(np.sin(phase))
        else:
            here = actions[0, place]
            first = low + size if np.isfinite(low) else 0
            middle = min(first + np.round((here - first) / (4 * size)) * 4 * size, high - size)
            wave = middle + size * np.sin(phase)
            actions[:, place] = (wave + (here - wave[0]) * np.clip(1 - steps / FADE_S, 0, 1))[1:]


@attrs.frozen(kw_only=True)
class Home:
    """Lead some dimensions slowly to a pose, and hold the others."""

    pose: Mapping[str, float] = attrs.field(factory=dict[str, float])
    """Dimension of the action -> where to, in its unit."""

    speed: float | None = None
    """Highest, in the dimension's unit per second; 100 times the unit's resolution if None: 0.1 rad/s, 1 cm/s,
    10 deg/s."""

    horizon: int | None = None

    def check(self, robot: fla.Embodiment) -> None:
        if not self.pose:
            example = f'{{"{robot.action.names[0]}": 0}}'
            raise ConfigError(
                f"where is home? No description of a robot says so: give --model-option 'pose={example}', with those "
                f"of {', '.join(robot.action.names)} that are to move"
            )
        if self.speed is not None and self.speed <= 0:
            raise ConfigError(f"speed is {self.speed}, must be above 0 (units of the dimension per second)")
        for name, target in self.pose.items():
            if name not in robot.action.names:
                raise UnknownNameError(f"action dimension of {robot.name}", name, robot.action.names)
            field = _field(robot.action, robot.action.names.index(name))
            if field.representation != "absolute":
                raise ConfigError(
                    f"{robot.name} is told the {field.representation} of {name!r}, which leads to no pose"
                )
            low, high = field.limits or (-np.inf, np.inf)
            if not low <= target <= high:
                raise ConfigError(
                    f"home has {name!r} at {target:g}, {robot.name} allows {low:g} to {high:g} {field.unit}"
                )

    def move(self, actions: Floats, robot: fla.Embodiment, now_s: float) -> None:
        seconds = np.arange(1, len(actions) + 1) / robot.control_hz
        for name, target in self.pose.items():
            place = robot.action.names.index(name)
            far = seconds * (self.speed or 100 * RESOLUTION[_field(robot.action, place).unit])
            here = actions[0, place]
            actions[:, place] = here + np.clip(target - here, -far, far)


class ScriptedPolicy:
    """One motion for one robot. Raises `ConfigError` when the robot cannot hold still while it lasts."""

    MOTIONS: ClassVar[Mapping[str, type[Motion]]] = {"hold": Hold, "sine": Sine, "home": Home}

    def __init__(self, robot: fla.Embodiment, motion: Motion, *, clock: Callable[[], float] = time.monotonic) -> None:
        if motion.horizon is not None and motion.horizon < 1:
            raise ConfigError(f"horizon is {motion.horizon}, must be above 0 (actions per answer)")
        motion.check(robot)
        self.embodiments = {robot.name: robot}
        self.default_embodiment = robot.name
        self.horizon = motion.horizon or max(1, round(robot.control_hz))
        self._robot, self._motion, self._clock = robot, motion, clock
        self._limits = np.array([field.limits or (-np.inf, np.inf) for field in robot.action for _ in field.names]).T
        self.still(np.zeros(robot.state.width))

    @property
    def metadata(self) -> dict[str, Any]:
        return {
            "policy": f"{SCHEME}{type(self._motion).__name__.lower()}",
            "default_embodiment": self.default_embodiment,
        }

    def infer(self, observation: Mapping[str, Any]) -> dict[str, Any]:
        """`actions` `[T, A]`, within the robot's limits. The observation is checked as a trained policy would."""
        sample = self._robot.observe(observation)
        actions = np.tile(self.still(sample.state), (self.horizon, 1))
        self._motion.move(actions, self._robot, self._clock())
        return {"actions": np.clip(actions, *self._limits).astype(np.float32)}

    def still(self, state: Floats) -> Floats:
        """The action `[A]` that leaves a robot in `state` `[S]` where it is.

        Positions are those of the state; steps and rates are zero. A gripper that is told in another unit than it
        reports is converted, and opened where the state does not say how far it is.
        """
        told = dict(zip(self._robot.state.names, state.tolist(), strict=True))
        units = {name: field.unit for field in self._robot.state for name in field.names}
        action: list[float] = []
        lost: list[str] = []
        for field in self._robot.action:
            for name in field.names:
                if field.representation != "absolute":
                    action.append(0.0)
                elif units.get(name) == field.unit:
                    action.append(told[name])
                elif field.unit in OPENING:
                    closed, opened = OPENING.get(units.get(name, ""), (0, 1))
                    opening = (told.get(name, opened) - closed) / (opened - closed)
                    closed, opened = OPENING[field.unit]
                    action.append(closed + opening * (opened - closed))
                else:
                    lost.append(f"{name} [{field.unit}]")
        if lost:
            states = ", ".join(f"{name} [{unit}]" for name, unit in units.items())
            raise ConfigError(
                f"{self._robot.name} cannot be told to stay where it is: its state ({states}) does not say where "
                f"{', '.join(lost)} of the action are"
            )
        return np.array(action)


def _field(space: fla.Space, place: int) -> fla.Field:
    return next(field for field, part in space.slices() if part.start <= place < part.stop)


@fla.hookimpl
def fla_open_checkpoint(
    path: Path, registry: fla.Registry, embodiment: str | None, options: Mapping[str, Any]
) -> ScriptedPolicy | None:
    """`scripted:NAME`; fields of the motion are given as `--model-option joint=elbow`."""
    if not str(path).startswith(SCHEME):
        return None
    name, motions = str(path).removeprefix(SCHEME), ScriptedPolicy.MOTIONS
    if name not in motions:
        raise UnknownNameError("script", name, motions)
    if embodiment is None:
        raise ConfigError(
            f"{path} can drive any robot: say which with --embodiment ({', '.join(registry.embodiments)})"
        )
    motion = structure(options.get("model", {}), motions[name], where=f"--model-option for {path}")
    return ScriptedPolicy(registry.embodiment(embodiment), motion)
