"""`Sequence`: trains a plan's tasks one after another, and measures all of them after each."""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs
import numpy as np

import fla_sdk as fla
from fla_plugins.continual import importance
from fla_plugins.continual.plan import MEASURED, Plan, Task
from fla_plugins.continual.trained import open_trained
from fla_sdk.client import ChunkExecutor
from fla_sdk.config import unstructure
from fla_sdk.errors import ConfigError, UnknownNameError
from fla_sdk.evaluation.benchmark import FIRST_SEED
from fla_sdk.evaluation.episode import play
from fla_sdk.policy import checkpoint, parameters
from fla_sdk.terminal import progress
from fla_sdk.training.preparation import Preparation, prepare
from fla_sdk.training.validation import Validation

Scored = dict[str, dict[str, float]]
"""Task -> `loss`, and `success` where it has a benchmark that the checkpoint's robots can be judged by."""


class Sequence:
    """Everything is checked when it is built; `run` takes up an earlier run where that ended."""

    def __init__(self, plan: Plan, registry: fla.Registry) -> None:
        """Raises `ConfigError` when `plan.out` holds another plan, and whatever is wrong with tasks and recipe."""
        self.plan, self.registry = plan, registry
        self._freeze_statistics(known=self._is_known())
        self._tasks = [self._prepare(task) for task in plan.tasks]
        first = self._tasks[0]
        groups = {first.family.group(path) for path in parameters.shapes(first.family, first.model_config)}
        if plan.method == "lora-per-task" and "lora" not in groups:
            raise ConfigError(f"model {plan.recipe.model} has no adapters; take a recipe that has, such as pi05_lora")
        self._benches = {task.name: self._bench(task) for task in plan.tasks if task.benchmark is not None}
        graph, _ = parameters.abstract(first.family, first.model_config)
        # One seed for all, so that what is measured differs in the parameters alone.
        self._validations = [Validation(one.held_out, plan.recipe, graph) for one in self._tasks]
        self._file.write_text(json.dumps(self._written, indent=2))

    def run(self) -> list[list[Scored]] | None:
        """Seed -> stage -> what was measured after it; None when it was interrupted."""
        found: list[list[Scored]] = []
        for seed in range(self.plan.seeds):
            done: list[Path] = []
            scored: list[Scored] = []
            for stage in range(len(self.plan.tasks)):
                path = self._train(seed, stage, done)
                if path is None:
                    return None
                done.append(path)
                scored.append(self._score(seed, stage, path, scored))
            found.append(scored)
        return found

    # --- Before the first stage ---

    @property
    def _file(self) -> Path:
        return self.plan.out / "plan.json"

    @property
    def _written(self) -> dict[str, Any]:
        """The plan as its file has it. More seeds may be added to those that are there."""
        return json.loads(json.dumps(unstructure(attrs.evolve(self.plan, out=Path(), seeds=1))))

    def _is_known(self) -> bool:
        """Whether this plan has begun; raises `ConfigError` when another one has."""
        if not self._file.is_file():
            return False
        before = json.loads(self._file.read_text())
        if differing := [name for name, value in self._written.items() if before.get(name) != value]:
            both = "; ".join(f"{name}: {before.get(name)!r} there, {self._written[name]!r} now" for name in differing)
            raise ConfigError(f"{self.plan.out} holds another sequence ({both}); choose another --out")
        return True

    def _freeze_statistics(self, *, known: bool) -> None:
        if not known:  # what a refused plan left may be of other data
            shutil.rmtree(self.plan.out / "stats", ignore_errors=True)
        for task in self.plan.tasks:
            file = self.plan.stats(task.embodiment)
            if not file.is_file():
                stats = self._prepare(task, given={}).stats[task.embodiment]
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_text(stats.to_json())

    def _prepare(self, task: Task, given: Mapping[str, str] | None = None) -> Preparation:
        if given is None:
            given = {task.embodiment: str(self.plan.stats(task.embodiment))}
        sources = [self.plan.source(task)]
        return prepare(attrs.evolve(self.plan.recipe, sources=sources, stats=given, out=self.plan.out), self.registry)

    # --- Stages ---

    def _train(self, seed: int, stage: int, done: list[Path]) -> Path | None:
        """The stage's checkpoint, ready for the next stage."""
        plan = self.plan
        config = plan.config(seed, stage, start=done[-1] if done else None)
        present = checkpoint.steps(config.out / "checkpoints")
        if config.steps not in present:
            print(f"seed {seed}, stage {stage + 1} of {len(plan.tasks)}: {plan.tasks[stage].name}", flush=True)
            result = fla.Trainer(config, plugins=self.registry).fit(resume=bool(present))
            if result.interrupted:
                return None
        path = config.out / "checkpoints" / str(config.steps)
        if done:
            _keep_robots(path, done[-1])
        if plan.method in MEASURED and stage + 1 < len(plan.tasks):
            self._measure_importance(path, stage, done)
        return path

    def _measure_importance(self, path: Path, stage: int, done: list[Path]) -> None:
        name = Path("importance") / f"{self.plan.method}.safetensors"
        if not (path / name).is_file():
            found = importance.measure(
                open_trained(path, self.registry),
                [self.plan.source(self.plan.tasks[stage])],
                self.registry,
                kind="ewc" if self.plan.method == "ewc" else "mas",
                samples=self.plan.samples,
                previous=done[-1] / name if done else None,
                gamma=self.plan.gamma,
            )
            importance.write(path / name, found)

    # --- Measuring ---

    def _score(self, seed: int, stage: int, path: Path, before: list[Scored]) -> Scored:
        """Every task with this checkpoint; where each task has adapters of its own, earlier ones with theirs."""
        plan = self.plan
        file = plan.folder(seed, stage) / "scores.json"
        if not file.is_file():
            params = checkpoint.read_params(path)
            scored: Scored = {
                task.name: {"loss": validation.measure(params)["held_out/loss"]}
                for task, validation in zip(plan.tasks, self._validations, strict=True)
            }
            for name, rate in (self._successes(path) if self._benches else {}).items():
                scored[name]["success"] = rate
            if plan.method == "lora-per-task":
                scored |= {plan.tasks[j].name: before[j][plan.tasks[j].name] for j in range(stage)}
            file.write_text(json.dumps(scored, indent=2))
        return json.loads(file.read_text())

    def _successes(self, path: Path) -> dict[str, float]:
        """In this process: nothing of what a server adds is compared here."""
        policy = fla.Policy.load(path, plugins=self.registry)
        judged = [task for task in self.plan.tasks if task.name in self._benches and task.embodiment in policy.codecs]
        return {task.name: self._success(task, policy) for task in judged}

    def _success(self, task: Task, policy: fla.Policy) -> float:
        benchmark, environment = self._benches[task.name]
        executor = ChunkExecutor(policy, replan=min(benchmark.replan, policy.spec.horizon))

        def act(environment: fla.Environment) -> Any:
            return executor.act(lambda: {**environment.observe(), "embodiment": task.embodiment})

        solved = 0
        with progress(task.name, self.plan.episodes) as advance:
            for number in range(self.plan.episodes):
                executor.reset()
                episode = play(environment, act, seed=FIRST_SEED + number, max_steps=benchmark.max_steps)
                solved += episode.success
                advance(f"{solved} of {number + 1} solved")
        return solved / self.plan.episodes

    def _bench(self, task: Task) -> tuple[fla.Benchmark, fla.Environment]:
        assert task.benchmark is not None
        benchmark = self.registry.benchmark(task.benchmark)
        if task.embodiment not in benchmark.embodiments:
            raise UnknownNameError(
                f"embodiment of benchmark {benchmark.name!r}", task.embodiment, benchmark.embodiments
            )
        return benchmark, benchmark.make(task.embodiment, **task.options)


def _keep_robots(path: Path, before: Path) -> None:
    """Let a checkpoint drive the robots of the one that it started from too: their statistics are still good."""
    manifest, earlier = checkpoint.read_manifest(path), checkpoint.read_manifest(before)
    missing = {name: robot for name, robot in earlier.embodiments.items() if name not in manifest.embodiments}
    if not missing:
        return
    for name in missing:
        shutil.copytree(before / "assets" / name, path / "assets" / name, dirs_exist_ok=True)
    known = attrs.evolve(manifest, embodiments={**manifest.embodiments, **missing})
    partial = path / ".fla.json.partial"
    partial.write_text(json.dumps(unstructure(known), indent=2))
    partial.replace(path / "fla.json")


def matrix(stages: list[Scored], tasks: tuple[Task, ...], kind: str) -> list[list[float]] | None:
    """Stage x task, higher is better; None unless every stage has it of every task learned by then."""
    learned = [task.name for task in tasks]
    if any(kind not in scored[name] for k, scored in enumerate(stages) for name in learned[: k + 1]):
        return None
    sign = -1.0 if kind == "loss" else 1.0
    return [[sign * scored[name].get(kind, np.nan) for name in learned] for scored in stages]
