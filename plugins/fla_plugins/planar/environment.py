"""`PlanarEnvironment`: an arm on its table, moved by joint positions, seen by one camera."""

from collections.abc import Mapping
from typing import Any, Literal

import attrs
import numpy as np
from numpy.typing import NDArray

from fla_plugins.planar.arm import Arm, find_arm
from fla_plugins.planar.render import TABLE, Canvas, paint_arm, paint_portrait, paint_table
from fla_plugins.planar.scene import Rules, Scene, drifted, sample_scene
from fla_sdk.errors import ConfigError, ObservationError, nearest

Ablation = Literal["blank", "swap"]
ABLATIONS = ("blank", "swap")


class PlanarEnvironment:
    """One arm, three targets, one instruction. An `fla_sdk.environment.Environment`.

    The state and the action `[N]` are joint angles in radians: where the joints are, and where they shall be after
    the next control step. Each joint moves towards its command by at most `rules.speed_limit`, within its limits.

    Ablations show what a policy relies on. `blank` gives it an empty picture; `swap` gives it the instruction of
    another target, while success is judged on the original one. Either way a seed draws the same episode.
    """

    def __init__(self, arm: Arm, *, rules: Rules, image_size: int = 64, ablation: Ablation | None = None) -> None:
        self.arm, self.rules, self.ablation = arm, rules, ablation
        self.task = ""
        self.success = False
        self._scene: Scene | None = None
        self._joints = np.zeros(arm.joints)
        self._steps = self._dwelt = self._lingered = 0
        self._drift = rules.drift
        self._table, self._canvas = Canvas(image_size), Canvas(image_size)

    @property
    def scene(self) -> Scene:
        """What `reset` drew; raises `ObservationError` before it."""
        if self._scene is None:
            raise ObservationError(f"{self.arm.name}: there is no episode yet; call reset(seed) first")
        return self._scene

    @property
    def joints(self) -> NDArray[np.float64]:
        """`[N]` joint angles in radians; a copy."""
        return self._joints.copy()

    @property
    def goal(self) -> NDArray[np.float64]:
        """`[2]` metres: the centre of the target that success is judged on, whatever the policy was told."""
        return self.scene.targets[self.scene.named].copy()

    @property
    def distance(self) -> float:
        """How far the tip is from the goal, in metres."""
        return float(np.linalg.norm(self.arm.tip(self._joints) - self.goal))

    def reset(self, seed: int) -> None:
        self._scene = sample_scene(self.arm, self.rules, np.random.default_rng(seed))
        self._joints = self._scene.start.copy()
        self._steps = self._dwelt = self._lingered = 0
        self.success = False
        self._drift = self.rules.drift
        self.task = self._scene.instruction(self._scene.other if self.ablation == "swap" else self._scene.named)
        paint_table(self._table, self._scene, self.rules.target_radius)

    def observe(self) -> Mapping[str, Any]:
        """`images/front` uint8 `[size, size, 3]`, `state` float32 `[N]` in radians, `task` str; all copies."""
        _ = self.scene  # refuses to show a table that nothing was put on
        return {"images/front": self._picture(), "state": self._joints.astype(np.float32), "task": self.task}

    def step(self, action: NDArray[np.floating]) -> bool:
        """Move towards `action` `[N]`; True when the episode is over. After that nothing moves any more.

        Raises `ObservationError` when the action has another width or is not finite.
        """
        target = self._checked(action)
        if self._over():
            return True
        limit = self.rules.speed_limit
        self._joints = self.arm.clip(self._joints + np.clip(target - self._joints, -limit, limit))
        if self._drift:
            self._move_targets()
        self._steps += 1
        self._lingered += self.success
        self._dwelt = self._dwelt + 1 if self.distance <= self.rules.tolerance else 0
        self.success = self.success or self._dwelt >= self.rules.dwell
        return self._over()

    def render(self) -> NDArray[np.uint8]:
        """uint8 `[256, 256, 3]`: the scene for people, whatever the ablation, with a ring around the goal."""
        canvas = Canvas(256)
        paint_portrait(
            canvas,
            self.arm,
            self.scene,
            self._joints,
            target_radius=self.rules.target_radius,
            tolerance=self.rules.tolerance,
        )
        return canvas.image()

    def close(self) -> None:
        """Nothing to free: the arm is numbers."""

    def _move_targets(self) -> None:
        """One step on, or back where that way ends; they stay where neither way is open."""
        for _ in range(2):
            moved = drifted(self.scene, self.arm, self.rules, self._drift)
            if moved is not None:
                self._scene = moved
                paint_table(self._table, moved, self.rules.target_radius)
                return
            self._drift = -self._drift

    def _over(self) -> bool:
        return (self.success and self._lingered >= self.rules.linger) or self._steps >= self.rules.max_steps

    def _picture(self) -> NDArray[np.uint8]:
        if self.ablation == "blank":
            # The colour of the bare table rather than black: strange brightness should not be what fails a policy.
            self._canvas.clear(TABLE)
        else:
            self._canvas.paste(self._table)
            paint_arm(self._canvas, self.arm, self._joints)
        return self._canvas.image()

    def _checked(self, action: NDArray[np.floating]) -> NDArray[np.float64]:
        _ = self.scene
        target = np.asarray(action, np.float64)
        if target.shape != (self.arm.joints,):
            raise ObservationError(
                f"{self.arm.name} has {self.arm.joints} joints, so an action is [{self.arm.joints}] radians; "
                f"got shape {list(target.shape)}. A chunk is executed one row per step."
            )
        if not np.isfinite(target).all():
            raise ObservationError(
                f"{self.arm.name}: action {target.tolist()} is not finite. "
                "Check the normalization statistics and that training did not diverge."
            )
        return target


def make(embodiment: str, *, image_size: int = 64, ablation: Ablation | None = None, **rules: Any) -> PlanarEnvironment:
    """An environment for `planar2` or `planar3`; any field of `Rules` can be given by name.

    Raises `UnknownNameError` for another embodiment, `ConfigError` for another option or value.
    """
    arm = find_arm(embodiment)
    if ablation is not None and ablation not in ABLATIONS:
        raise ConfigError(f"planar: ablation {ablation!r} must be None or one of {', '.join(ABLATIONS)}")
    if not 16 <= image_size <= 1024:
        raise ConfigError(f"planar: image_size {image_size} must be between 16 and 1024 pixels")
    known = [field.name for field in attrs.fields(Rules)]
    for option in rules:
        if option not in known:
            hint = f"; did you mean {close!r}?" if (close := nearest(option, known)) else ""
            raise ConfigError(f"planar: unknown option {option!r}{hint} (known: {', '.join(known)})")
    return PlanarEnvironment(arm, rules=Rules(**rules), image_size=image_size, ablation=ablation)
