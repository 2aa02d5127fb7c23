"""`killed_run.py CONFIG MOMENT`: a training run that is killed by SIGKILL at a given moment.

`step:N` is after step N, with the checkpoints before it on disk; `write:N` is while the checkpoint of step N is being
written.
"""

import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

import fla_sdk as fla
from fla_sdk.plugins import load_plugins
from fla_sdk.policy import checkpoint
from fla_sdk.training.config import from_yaml
from fla_sdk.training.trainer import Trainer


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


class Killer:
    def __init__(self, step: int, *, checkpoints: Path, save_every: int) -> None:
        self.step, self.folder = step, checkpoints
        self.expected = step // save_every * save_every

    @fla.hookimpl
    def fla_step_ended(self, step: int) -> None:
        if step == self.step:
            while self.expected and self.expected not in checkpoint.steps(self.folder):
                time.sleep(0.01)
            die()


def main(file: str, moment: str) -> None:
    registry = load_plugins()
    config = from_yaml(Path(file).read_text())
    kind, number = moment.split(":")
    if kind == "step":
        killer = Killer(int(number), checkpoints=config.out / "checkpoints", save_every=config.save_every)
        registry.add(killer, name="killer")
    else:
        module: Any = checkpoint
        describe = module.unstructure

        def dying(record: Any) -> Any:
            if isinstance(record, checkpoint.Manifest) and record.step == int(number):
                die()
            return describe(record)

        module.unstructure = dying
    Trainer(config, plugins=registry).fit(resume=True)


main(*sys.argv[1:])
