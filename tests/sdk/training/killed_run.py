"""`killed_run.py CONFIG MOMENT`: a training run that is killed by SIGKILL at a given moment.

`step:N` is after step N; `write:N` is while the checkpoint of step N is being written.
"""

import os
import signal
import sys
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
    def __init__(self, step: int) -> None:
        self.step = step

    @fla.hookimpl
    def fla_step_ended(self, step: int) -> None:
        if step == self.step:
            die()


def main(config: str, moment: str) -> None:
    registry = load_plugins()
    kind, number = moment.split(":")
    if kind == "step":
        registry.add(Killer(int(number)), name="killer")
    else:
        module: Any = checkpoint
        describe = module.unstructure

        def dying(record: Any) -> Any:
            if isinstance(record, checkpoint.Manifest) and record.step == int(number):
                die()
            return describe(record)

        module.unstructure = dying
    Trainer(from_yaml(Path(config).read_text()), plugins=registry).fit()


main(*sys.argv[1:])
