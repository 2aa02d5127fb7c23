"""What a training run shows in the terminal: a bar with loss and time left, or a line per report in a log file."""

import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import fla_sdk as fla
from fla_sdk.terminal import duration

WAITING = 0.05
"""Share of the time for data that is worth a word."""


class TrainingDisplay:
    """Listens to the training events. One per process; a run that ends leaves it ready for the next."""

    def __init__(self) -> None:
        self._bar: Any = None
        self._task: Any = None

    @fla.hookimpl
    def fla_train_started(self, config: fla.TrainConfig, run_dir: Path, step: int) -> None:
        names = ", ".join(dict.fromkeys(source.embodiment for source in config.sources))
        verb = f"resuming at step {step} of" if step else "training"
        print(f"{verb} {config.model} on {names} in {run_dir}", flush=True)
        if not sys.stdout.isatty():
            return
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            Progress,
            TextColumn,
            TimeElapsedColumn,
            TimeRemainingColumn,
        )

        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
        )
        self._task = self._bar.add_task("compiling", total=config.steps, completed=step)
        self._bar.start()

    @fla.hookimpl
    def fla_step_ended(self, step: int, total: int, metrics: Mapping[str, float]) -> None:
        text = "  ".join(_parts(metrics))
        if self._bar is not None:
            self._bar.update(self._task, completed=step, **({"description": text} if text else {}))
        elif text:
            speed = metrics.get("steps_per_second")
            left = f"  {duration((total - step) / speed)} left" if speed else ""
            print(f"step {step}/{total}  {text}{left}", flush=True)

    @fla.hookimpl
    def fla_checkpoint_saved(self, step: int, path: Path) -> None:
        self._say(f"checkpoint of step {step}: {path}")

    @fla.hookimpl
    def fla_train_ended(self, step: int, reason: str) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None
        if reason != "finished":
            print(f"training {reason} at step {step}", flush=True)

    def _say(self, text: str) -> None:
        if self._bar is None:
            print(text, flush=True)
        else:
            self._bar.console.print(text, highlight=False)


def _parts(metrics: Mapping[str, float]) -> Iterator[str]:
    """What of a report fits into a line."""
    for name, said in (("loss", "loss"), ("held_out/loss", "held out")):
        if name in metrics:
            yield f"{said} {metrics[name]:.4f}"
    if "steps_per_second" in metrics:
        yield f"{metrics['steps_per_second']:.3g} steps/s"
    if (waiting := metrics.get("data_wait", 0)) > WAITING:
        yield f"{waiting:.0%} waiting for data"
    if skipped := metrics.get("skipped_steps"):
        yield f"{skipped:.0f} skipped"


display = TrainingDisplay()
