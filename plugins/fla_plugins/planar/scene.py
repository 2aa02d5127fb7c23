"""`Rules` of the reaching task, and the `Scene` that a seed draws from them."""

import attrs
import numpy as np
from numpy.typing import NDArray

from fla_plugins.planar.arm import Arm, Colour
from fla_sdk.errors import ConfigError, UnknownNameError

COLOURS: dict[str, Colour] = {"red": (222, 36, 42), "green": (36, 168, 66), "blue": (36, 84, 226)}
"""Name of each target in the instruction -> its colour in the picture."""


@attrs.frozen(kw_only=True)
class Rules:
    """What makes the task hard or easy. Lengths in metres on a table of one metre square, angles in radians."""

    wordings: tuple[str, ...] = ("reach the {} target", "touch the {} target", "point at the {} target")
    """How the instruction may be put; `{}` is the colour."""

    asked: tuple[str, ...] = attrs.field(default=tuple(COLOURS), converter=tuple)
    """Colours that the instruction may name. A task for each of them is a sequence of tasks to learn."""

    target_radius: float = 0.07
    separation: float = 0.24
    """Least distance between the centres of two targets. More than twice `tolerance`: no spot counts for two."""

    margin: float = 0.09
    """Least distance between the centre of a target and the edge of the table."""

    tolerance: float = 0.08
    """Farthest the tip may rest from the centre of the target."""

    dwell: int = 5
    """Consecutive steps that the tip has to stay there: passing over is not reaching."""

    max_steps: int = 40
    """The episode ends unsolved after this many steps."""

    linger: int = 0
    """Steps that the episode goes on for once it is solved, so that demonstrations show how to stay."""

    speed_limit: float = 0.2
    """Farthest each joint moves in one step, whatever is commanded."""

    drift: float = 0.0
    """Angle around the base that the targets move by in each step, turning back before one leaves the sector of the arm
    or the table: a policy that acts on what it saw long ago is too late."""

    start_spread: float = 0.6
    """Each joint starts within this of the pose over the middle of the workspace."""

    start_clearance: float = 0.16
    """Least distance between the tip's start and the centre of any target."""

    def __attrs_post_init__(self) -> None:
        if self.separation <= 2 * self.tolerance:
            raise ConfigError(
                f"separation {self.separation} m must be more than twice the tolerance {self.tolerance} m: "
                "otherwise one spot counts for two targets"
            )
        if not self.asked:
            raise ConfigError("asked is empty: the instruction must name a colour")
        for colour in self.asked:
            if colour not in COLOURS:
                raise UnknownNameError("colour of a planar target", colour, COLOURS)
        if self.dwell < 1 or self.max_steps < self.dwell:
            raise ConfigError(f"dwell {self.dwell} must be at least 1 and at most max_steps {self.max_steps}")


@attrs.frozen(kw_only=True, eq=False)
class Scene:
    """One drawn episode."""

    targets: NDArray[np.float64]
    """`[3, 2]` metres, in the order of `COLOURS`."""

    named: int
    """Index of the target that success is judged on."""

    other: int
    """Index of one of the two others, for the policy to be misled with."""

    wording: str
    start: NDArray[np.float64]
    """`[N]` joint angles in radians."""

    def instruction(self, target: int) -> str:
        """What to say to send an arm to that target."""
        return self.wording.format(list(COLOURS)[target])


def drifted(scene: Scene, arm: Arm, rules: Rules, angle: float) -> Scene | None:
    """The scene with its targets moved by `angle` radians around the base; None where one would leave the sector of the
    arm or the table.
    """
    x, y = (scene.targets - arm.base).T
    directions = (np.arctan2(y, x) - arm.heading + angle + np.pi) % (2 * np.pi) - np.pi
    low, high = arm.sector
    moved = arm.polar(np.hypot(x, y), directions)
    if not (np.all((directions >= low) & (directions <= high)) and _on_table(moved, rules)):
        return None
    return attrs.evolve(scene, targets=moved)


def sample_scene(arm: Arm, rules: Rules, rng: np.random.Generator) -> Scene:
    """Draw the targets, which of them is meant, how it is said, and where the arm starts."""
    targets = _sample_targets(arm, rules, rng)
    named = list(COLOURS).index(rules.asked[rng.integers(len(rules.asked))])
    other = int(named + rng.integers(1, len(COLOURS))) % len(COLOURS)
    wording = rules.wordings[rng.integers(len(rules.wordings))]
    return Scene(
        targets=targets, named=named, other=other, wording=wording, start=_sample_start(arm, rules, targets, rng)
    )


def _on_table(targets: NDArray[np.float64], rules: Rules) -> bool:
    return bool(np.all((targets >= rules.margin) & (targets <= 1.0 - rules.margin)))


def _sample_targets(arm: Arm, rules: Rules, rng: np.random.Generator) -> NDArray[np.float64]:
    for _ in range(1000):
        # The square root makes the density per area even: no ring around the base is favoured.
        distance = np.sqrt(rng.uniform(arm.near**2, arm.far**2, len(COLOURS)))
        targets = arm.polar(distance, rng.uniform(*arm.sector, len(COLOURS)))
        gaps = np.linalg.norm(targets - np.roll(targets, 1, axis=0), axis=-1)  # three targets have three pairs
        if _on_table(targets, rules) and gaps.min() >= rules.separation:
            return targets
    raise ConfigError(
        f"no room for {len(COLOURS)} targets {rules.separation} m apart and {rules.margin} m from the edge "
        f"in the workspace of {arm.name}: lower separation or margin"
    )


def _sample_start(
    arm: Arm, rules: Rules, targets: NDArray[np.float64], rng: np.random.Generator
) -> NDArray[np.float64]:
    middle = arm.inverse(arm.polar(np.asarray(0.5 * (arm.near + arm.far)), np.asarray(sum(arm.sector) / 2)))
    for _ in range(1000):
        start = arm.clip(middle + rng.uniform(-rules.start_spread, rules.start_spread, arm.joints))
        if np.linalg.norm(targets - arm.tip(start), axis=-1).min() >= rules.start_clearance:
            return start
    raise ConfigError(
        f"no start pose of {arm.name} keeps {rules.start_clearance} m from every target: "
        "lower start_clearance or raise start_spread"
    )
