"""`Plan`: tasks to be learned one after another, by a method against forgetting; and the run of each stage."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs

from fla_sdk.errors import ConfigError, UnknownNameError
from fla_sdk.training.config import Penalty, Source, TrainConfig

METHODS = {
    "finetune": "train on the new task alone",
    "replay": "mix some of the earlier tasks into the new one",
    "ewc": "penalty: Fisher information, measured after each stage",
    "mas": "penalty: sensitivity of the output, measured after each stage",
    "si": "penalty: synaptic intelligence, gathered while training",
    "l2sp": "penalty: distance to the stage before",
    "distillation": "penalty: difference to the velocities of the stage before",
    "lora-per-task": "fresh adapters for each task, all from the same base",
}
MEASURED = ("ewc", "mas")
"""Penalties whose importances `fla fisher` finds."""

PENALTIES = (*MEASURED, "si", "l2sp", "distillation")


@attrs.frozen(kw_only=True)
class Task:
    """Something to learn, and how it is judged."""

    name: str
    data: str
    embodiment: str
    benchmark: str | None = None
    options: Mapping[str, Any] = attrs.field(factory=dict[str, Any])
    """Of the benchmark."""


@attrs.frozen(kw_only=True)
class Plan:
    """A sequence of tasks. Raises `ConfigError` when it makes no sense."""

    recipe: TrainConfig
    tasks: tuple[Task, ...] = attrs.field(converter=tuple)
    method: str
    steps: int
    """Of each stage; the recipe's warm-up and decay are fitted to them."""

    out: Path
    seeds: int = 1
    strength: float = 1.0
    """Of the penalty, for methods that have one."""

    replay: float | None = None
    """Share of earlier tasks in every batch, on average. Goes with every method; null is 0.1 for `replay`, else 0."""

    gamma: float = 1.0
    """What is left of earlier importances after each stage: `ewc`, `mas` and `si`."""

    samples: int = 500
    """That importances are measured on."""

    hold_out: float = 0.1
    """Share of each task's episodes that its loss is measured on."""

    skip_idle: bool = False
    episodes: int = 50
    """Of each benchmark."""

    def __attrs_post_init__(self) -> None:
        if self.method not in METHODS:
            raise UnknownNameError("method against forgetting", self.method, METHODS)
        names = [task.name for task in self.tasks]
        if len(names) < 2 or len(set(names)) < len(names):
            raise ConfigError(
                f"a sequence needs two tasks of different names at least, got {', '.join(names) or 'none'}"
            )
        if bad := [name for name in names if not all(c.isalnum() or c in "_-" for c in name) or not name]:
            raise ConfigError(f"task {bad[0]!r} names a folder: take letters, digits, '_' and '-'")
        for field in ("steps", "seeds", "samples", "episodes"):
            if getattr(self, field) < 1:
                raise ConfigError(f"{field} is {getattr(self, field)}, must be at least 1")
        if self.replay is not None and not 0 <= self.replay < 1:
            raise ConfigError(f"replay is {self.replay}, must be a share of at least 0 and below 1")
        if self.method == "replay" and self.replay == 0:
            raise ConfigError("method replay with a replay of 0 is finetune")
        if not 0 < self.hold_out < 1:
            raise ConfigError(f"hold_out is {self.hold_out}, must be above 0 and below 1: losses are measured there")
        if self.strength < 0:
            raise ConfigError(f"strength is {self.strength}, must be at least 0")
        if self.method == "lora-per-task" and self.recipe.init == "scratch":
            raise ConfigError(
                "adapters need a base to adapt, but the recipe starts from scratch: give --set init=CHECKPOINT"
            )

    @property
    def share(self) -> float:
        """Of earlier tasks in a batch."""
        if self.replay is not None:
            return self.replay
        return 0.1 if self.method == "replay" else 0.0

    def folder(self, seed: int, stage: int) -> Path:
        """Of a stage's run."""
        return self.out / f"seed{seed}" / f"{stage + 1}_{self.tasks[stage].name}"

    def stats(self, embodiment: str) -> Path:
        """Those of the robot's first task, for all stages: others would give what was learned another scale."""
        return self.out / "stats" / embodiment / "norm_stats.json"

    def source(self, task: Task, **changes: Any) -> Source:
        fields = {"hold_out": self.hold_out, "skip_idle": self.skip_idle} | changes
        return Source(data=task.data, embodiment=task.embodiment, **fields)

    def config(self, seed: int, stage: int, *, start: Path | None) -> TrainConfig:
        """Of a stage that starts from checkpoint `start`; None is where the recipe starts."""
        recipe, earlier = self.recipe, self.tasks[:stage] if self.share else ()
        sources = [self.source(self.tasks[stage], weight=1 - self.share if earlier else 1.0)]
        sources += [self.source(task, weight=self.share / len(earlier)) for task in earlier]
        changes: dict[str, Any] = {}
        if start is not None and self.method != "lora-per-task":
            changes = {"init": str(start), "init_also": (), "init_fresh": (), "init_resize": False}
        return attrs.evolve(
            recipe,
            sources=sources,
            sampling="weight",
            stats={source.embodiment: str(self.stats(source.embodiment)) for source in sources},
            steps=self.steps,
            optimizer=self._optimizer(),
            regularizers=(*recipe.regularizers, *self._penalties(stage)),
            seed=recipe.seed + seed,
            keep_last=1,
            out=self.folder(seed, stage),
            **changes,
        )

    def _optimizer(self) -> Any:
        optimizer, share = self.recipe.optimizer, self.steps / self.recipe.steps
        warmup = round(optimizer.warmup_steps * share)
        decay = max(round(optimizer.decay_steps * share), warmup + 1)
        return attrs.evolve(optimizer, warmup_steps=warmup, decay_steps=decay)

    def _penalties(self, stage: int) -> list[Penalty]:
        if self.method not in PENALTIES or (stage == 0 and self.method != "si"):
            return []
        options: dict[str, Any] = {}
        if self.method == "si":  # it gathers from the first stage on
            options = {"gamma": self.gamma, "importance": "none" if stage == 0 else None}
        return [Penalty(name=self.method, strength=self.strength, options=options)]
