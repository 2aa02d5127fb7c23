"""`Trainer`: a config in, a checkpoint out."""

import functools
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import attrs

from fla_sdk.config import unstructure
from fla_sdk.errors import CheckpointError, ConfigError, FlaError, UnknownNameError
from fla_sdk.plugins import Registry, load_plugins
from fla_sdk.policy import checkpoint
from fla_sdk.training.config import TrainConfig
from fla_sdk.training.frames import cache_frames
from fla_sdk.training.preparation import Preparation, prepare


@attrs.frozen(kw_only=True)
class TrainResult:
    """What `fit` leaves behind."""

    checkpoint: Path
    step: int
    interrupted: bool = False
    """Ctrl-C or SIGTERM arrived; the checkpoint holds everything up to `step`."""


class Trainer:
    """Trains one model on a mixture of embodiments.

    Everything is checked when the trainer is built: names, datasets, shapes and statistics. `fit` then only trains.
    """

    def __init__(self, config: TrainConfig, *, plugins: Registry | None = None) -> None:
        self.config = config
        self.plugins = load_plugins() if plugins is None else plugins
        self.prepared: Preparation = prepare(config, self.plugins)

    def fit(self, *, resume: bool = False, overwrite: bool = False) -> TrainResult:
        """Train to `config.steps` and return the last checkpoint.

        A run folder that already holds checkpoints is refused unless `resume` (continue with the very next batch) or
        `overwrite` (delete them first). Ctrl-C and SIGTERM end the run after the current step, with a checkpoint.
        """
        run = self.config.out
        checkpoints = run / "checkpoints"
        present = checkpoint.steps(checkpoints)
        if present and resume and overwrite:
            raise ConfigError("resume and overwrite exclude each other")
        if present and not (resume or overwrite):
            raise ConfigError(
                f"{run} already holds a run (checkpoints at steps {', '.join(map(str, present))}); "
                "resume it with --resume, delete it with --overwrite, or choose another --out"
            )
        if overwrite:
            shutil.rmtree(checkpoints, ignore_errors=True)
            (run / "metrics.jsonl").unlink(missing_ok=True)
        run.mkdir(parents=True, exist_ok=True)
        saved = [checkpoints / str(step) for step in reversed(present)] if resume else []
        config, prepared = cache_frames(self.config, self.prepared, newest=saved[0] if saved else None)
        path, step = Run(config, self.plugins, prepared).train(saved)
        return TrainResult(checkpoint=path, step=step, interrupted=step < config.steps)
