"""What a training run shows in the terminal: a bar with loss and time left, or a line per report in a log file."""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import fla_sdk as fla


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
        if self._bar is not None:
            described = {"description": f"loss {metrics['loss']:.4f}"} if metrics else {}
            self._bar.update(self._task, completed=step, **described)
        elif metrics:
            seconds = (total - step) / metrics["steps_per_second"]
            print(
                f"step {step}/{total}  loss {metrics['loss']:.4f}  {metrics['steps_per_second']:.1f} steps/s  "
                f"{seconds:.0f} s left",
                flush=True,
            )

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


display = TrainingDisplay()
