"""Tracker `wandb`: Weights & Biases, online or offline. Its own variables choose project, name, tags and mode."""

import os
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import fla_sdk as fla
from fla_sdk.errors import ConfigError

FOLDER = "wandb"
"""In the run's folder: what the library writes, and the id under which a run goes on."""

UPLOAD_S = 300.0
"""How long the end of a run may wait for uploads, unless WANDB_FINISH_TIMEOUT says otherwise."""


class WandbRun:
    def __init__(self, run_dir: Path, config: Mapping[str, Any]) -> None:
        """Raises when the server does not answer within WANDB_INIT_TIMEOUT, 90 seconds by default."""
        library = _library()
        (run_dir / FOLDER).mkdir(parents=True, exist_ok=True)
        file = run_dir / FOLDER / "run_id.txt"
        settings = library.Settings(finish_timeout_raises=True)
        if "WANDB_FINISH_TIMEOUT" not in os.environ:
            settings.finish_timeout = UPLOAD_S
        self._library = library
        self._run = library.init(
            dir=run_dir,
            project=os.environ.get("WANDB_PROJECT", "fla"),
            name=os.environ.get("WANDB_NAME", run_dir.resolve().name),
            id=file.read_text() if file.exists() else None,
            resume="allow",
            config=dict(config),
            settings=settings,
        )
        file.write_text(self._run.id)
        # A run that goes on takes some steps again, and W&B drops what comes under a step that it has passed.
        self._run.define_metric("step", hidden=True)
        self._run.define_metric("*", step_metric="step")

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        self._run.log({"step": step, **metrics})

    def image(self, step: int, name: str, image: NDArray[np.uint8]) -> None:
        self._run.log({"step": step, name: self._library.Image(image)})

    def close(self) -> None:
        self._run.finish(exit_code=0 if sys.exc_info()[0] is None else 1)  # closed on the way out of what went wrong


def check() -> None:
    """Raise `ConfigError` where nobody is logged in. Asks no server."""
    library = _library()
    if library.setup().settings.mode == "online" and not library.login(prompt=False, verify=False):
        raise ConfigError(
            "tracker wandb has no API key: run `wandb login`, set WANDB_API_KEY, or set WANDB_MODE=offline and send "
            "the run later with `wandb sync`"
        )


def _library() -> Any:
    if os.environ.get("WANDB_MODE") == "offline":  # where reports of its own errors wait for a network
        os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
    import wandb

    return wandb


@fla.hookimpl
def fla_trackers() -> Iterator[fla.Tracker]:
    yield fla.Tracker(name="wandb", description="Weights & Biases; needs fla-sdk[track]", open=WandbRun, check=check)
