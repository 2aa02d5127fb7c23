"""`Trainer`: a config in, a checkpoint out."""

import os
import shutil
from contextlib import nullcontext
from pathlib import Path

import attrs

from fla_sdk.errors import ConfigError
from fla_sdk.plugins import Registry, load_plugins
from fla_sdk.policy import checkpoint
from fla_sdk.training.closed_loop import ClosedLoop
from fla_sdk.training.config import TrainConfig
from fla_sdk.training.frames import cache_frames
from fla_sdk.training.preparation import Preparation, prepare
from fla_sdk.training.run_file import Claim

REPLACED = "replaced"
"""In a run's folder: what `overwrite` puts aside until the new run has a checkpoint of its own."""


@attrs.frozen(kw_only=True)
class TrainResult:
    """What `fit` leaves behind."""

    checkpoint: Path
    step: int
    signal: int | None = None
    """SIGINT or SIGTERM when one ended the run early; the checkpoint holds everything up to `step`."""

    @property
    def interrupted(self) -> bool:
        return self.signal is not None


class Trainer:
    """Trains one model on a mixture of embodiments.

    Everything is checked when the trainer is built: names, datasets, shapes and statistics. `fit` then only trains.
    """

    def __init__(self, config: TrainConfig, *, plugins: Registry | None = None) -> None:
        if "FLA_COORDINATOR" in os.environ:
            from fla_sdk.training import hosts

            hosts.join()
        self.config = config
        self.plugins = load_plugins() if plugins is None else plugins
        self.prepared: Preparation = prepare(config, self.plugins)
        self._closed_loop = ClosedLoop(config, tuple(self.prepared.codecs), self.plugins) if config.evaluate else None

    def fit(self, *, resume: bool = False, overwrite: bool = False, accept_changes: bool = False) -> TrainResult:
        """Train to `config.steps` and return the last checkpoint.

        A run folder that already holds checkpoints is refused unless `resume` (continue with the very next batch) or
        `overwrite` (they are gone when the new run has one). Ctrl-C and SIGTERM end the run after the current step,
        with a checkpoint. Where the newest checkpoint is damaged, resuming says so and takes the one before. A folder
        in which another process trains is refused.
        """
        import jax

        from fla_sdk.training.run import Run

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
        run.mkdir(parents=True, exist_ok=True)
        saved = [checkpoints / str(step) for step in reversed(present)] if resume else []
        first = jax.process_index() == 0
        with Claim(self.config, resume=bool(saved)) if first else nullcontext() as claim:
            if overwrite:
                _put_aside(run)
            config, prepared = cache_frames(self.config, self.prepared, newest=saved[0] if saved else None)
            try:
                training = Run(
                    config, self.plugins, prepared, closed_loop=self._closed_loop, accept_changes=accept_changes
                )
                path, step, signal = training.train(saved)
            finally:
                if checkpoint.steps(checkpoints):
                    shutil.rmtree(run / REPLACED, ignore_errors=True)
            if claim is not None:
                claim.end(finished=signal is None)
        return TrainResult(checkpoint=path, step=step, signal=signal)


def _put_aside(run: Path) -> None:
    """Move a run's results to `REPLACED`, unless an earlier attempt did and has made none since."""
    if not checkpoint.steps(run / "checkpoints"):
        return
    shutil.rmtree(run / REPLACED, ignore_errors=True)
    (run / REPLACED).mkdir(parents=True)
    for name in ("checkpoints", "metrics.jsonl", "images", "tensorboard", "wandb"):
        if (run / name).exists():
            (run / name).rename(run / REPLACED / name)
