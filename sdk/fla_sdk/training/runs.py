"""Training runs as their folders tell of them, for people who look for one or compare several."""

import json
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import attrs

from fla_sdk.errors import CheckpointError, ConfigError, UnknownNameError
from fla_sdk.policy import checkpoint
from fla_sdk.training import run_file

DEPTH = 4
"""Levels of folders in which runs are looked for."""

_METRICS = "metrics.jsonl"
_CHECKPOINTS = "checkpoints"


@attrs.frozen(kw_only=True)
class Curve:
    """One metric over a run."""

    steps: tuple[float, ...]
    values: tuple[float, ...]
    """Finite ones alone."""


class PastRun:
    """A run, which may still be going on. Files are read when they are asked for, once."""

    def __init__(self, folder: Path, *, name: str) -> None:
        """`name` is the folder as seen from where it was looked for."""
        self.folder, self.name = folder, name

    @cached_property
    def state(self) -> str:
        """`running`, `finished`, `interrupted`, `failed`, `killed`; `stopped` where only old files are left."""
        if run_file.is_locked(self.folder):
            return "running"
        if self._file is None:
            return "finished" if self.steps and self.step >= self.steps else "stopped"
        return "killed" if self._file.state == "running" else self._file.state

    @property
    def error(self) -> str:
        """What it failed with."""
        return self._file.error if self._file is not None and self.state == "failed" else ""

    @property
    def started(self) -> float | None:
        """Seconds since 1970."""
        return None if self._file is None else self._file.started

    @cached_property
    def config(self) -> Mapping[str, Any]:
        """The training config as plain values; empty where nothing tells it."""
        if self._file is not None:
            return self._file.config
        try:
            return checkpoint.read_manifest(checkpoint.find(self.folder)).train
        except CheckpointError:
            return {}

    @property
    def model(self) -> str:
        return str(self.config.get("model", ""))

    @property
    def robots(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(str(source["embodiment"]) for source in self.config.get("sources", ())))

    @property
    def steps(self) -> int:
        """That it shall take; 0 where nothing tells."""
        return int(self.config.get("steps", 0))

    @property
    def step(self) -> int:
        """The last that is known to be taken."""
        return max([step for step, _ in self.reports] + list(self.checkpoints), default=0)

    @cached_property
    def checkpoints(self) -> tuple[int, ...]:
        return tuple(checkpoint.steps(self.folder / _CHECKPOINTS))

    @cached_property
    def checkpoint_bytes(self) -> int:
        """All checkpoints together."""
        files = (self.folder / _CHECKPOINTS).rglob("*")
        return sum(file.stat().st_size for file in files if file.is_file())

    @property
    def reports(self) -> Sequence[tuple[int, Mapping[str, float]]]:
        """Step and metrics, in the order of the file."""
        return self._lines[0]

    @property
    def unreadable_lines(self) -> int:
        """Of the metrics: half-written or damaged ones, which are left out."""
        return self._lines[1]

    @cached_property
    def metrics(self) -> tuple[str, ...]:
        """Names, in the order of their first report."""
        return tuple(dict.fromkeys(name for _, report in self.reports for name in report))

    def curve(self, metric: str) -> Curve:
        """Empty for a metric that the run does not have."""
        points = [(step, float(report[metric])) for step, report in self.reports if metric in report]
        points = [(step, value) for step, value in points if math.isfinite(value)]
        return Curve(steps=tuple(step for step, _ in points), values=tuple(value for _, value in points))

    def last(self, metric: str) -> float | None:
        values = self.curve(metric).values
        return values[-1] if values else None

    def best(self, metric: str) -> float | None:
        """The lowest."""
        return min(self.curve(metric).values, default=None)

    @property
    def steps_per_second(self) -> float | None:
        """The median of its reports: compiling and validating do not count."""
        values = sorted(self.curve("steps_per_second").values)
        return values[len(values) // 2] if values else None

    @cached_property
    def _file(self) -> run_file.RunFile | None:
        return run_file.read(self.folder)

    @cached_property
    def _lines(self) -> tuple[list[tuple[int, dict[str, float]]], int]:
        try:
            lines = (self.folder / _METRICS).read_text(errors="replace").splitlines()
        except OSError:
            return [], 0
        read = [report for line in lines if (report := _report(line)) is not None]
        return read, len(lines) - len(read)


def find(folder: Path) -> list[PastRun]:
    """The runs in `folder` and the folders below it, by name; or the one that `folder` is.

    Raises `ConfigError` where there is no such folder.
    """
    if not folder.is_dir():
        raise ConfigError(f"there is no folder {folder} to look for runs in; name the one that --out was in")
    return [
        PastRun(found, name=str(found.relative_to(folder)) if found != folder else found.resolve().name)
        for found in sorted(_folders(folder))
    ]


def choose(runs: Sequence[PastRun], names: Sequence[str]) -> list[PastRun]:
    """The named ones, in that order; all where no name is given. Raises `UnknownNameError`."""
    known = {run.name: run for run in runs}
    for name in names:
        if name not in known:
            raise UnknownNameError("run", name, known)
    return [known[name] for name in names] if names else list(runs)


def differences(runs: Sequence[PastRun]) -> dict[str, list[Any]]:
    """Fields of the configs that are not the same in all runs, dotted, with the value of each; None for one without."""
    flat = [dict(_flat(run.config)) for run in runs]
    names = dict.fromkeys(name for one in flat for name in one)
    found = {name: [one.get(name) for one in flat] for name in names}
    return {name: values for name, values in found.items() if name != "out" and any(v != values[0] for v in values)}


def is_detail(metric: str) -> bool:
    """Whether a metric is of one dimension or parameter group, of which there are many."""
    return metric.startswith(("grad_norm/", "param_norm/")) or (metric.startswith("loss/") and metric.count("/") > 1)


def _folders(folder: Path) -> Iterator[Path]:
    for place, below, files in os.walk(folder):
        here = Path(place)
        if run_file.FILE in files or _METRICS in files or (_CHECKPOINTS in below and _has_checkpoint(here)):
            yield here
            below.clear()
        elif len(here.relative_to(folder).parts) >= DEPTH:
            below.clear()
        else:
            below[:] = [name for name in below if not name.startswith(".")]


def _has_checkpoint(run: Path) -> bool:
    return bool(checkpoint.steps(run / _CHECKPOINTS))


def _report(line: str) -> tuple[int, dict[str, float]] | None:
    try:
        report = json.loads(line)
        step = int(report.pop("step"))
        return step, {str(name): float(value) for name, value in report.items()}
    except (ValueError, TypeError, KeyError, AttributeError):
        return None


def _flat(tree: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted path and value of each leaf; an empty list or mapping is one."""
    if isinstance(tree, Mapping) and tree:
        for name, value in tree.items():
            yield from _flat(value, f"{path}.{name}" if path else str(name))
    elif isinstance(tree, (list, tuple)) and tree:
        for number, value in enumerate(tree):
            yield from _flat(value, f"{path}.{number}")
    else:
        yield path, tree
