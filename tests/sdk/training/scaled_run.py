"""`scaled_run.py CONFIG`: a training run in this process, which may be one of several; prints how it was spread.

Arrays of any size are split, so that a small model shows what happens to a large one.
"""

import json
import sys
from pathlib import Path
from typing import Any

import jax

from fla_sdk.training import mesh
from fla_sdk.training.config import from_yaml
from fla_sdk.training.trainer import Trainer

mesh.split_axis.__kwdefaults__["min_bytes"] = 1024  # pyright: ignore[reportOptionalSubscript]


def main(file: str) -> None:
    spread: dict[str, Any] = {}
    place = mesh.state_shardings

    def remember(devices: Any, state: Any) -> Any:
        shardings = place(devices, state)
        for path, leaf in state.params.items():
            shape = shardings.params[path].shard_shape(leaf.shape)
            spread[path] = [list(leaf.shape), list(shape)]
        return shardings

    mesh.state_shardings = remember
    result = Trainer(from_yaml(Path(file).read_text())).fit(resume=True)
    print(json.dumps({"step": result.step, "devices": jax.device_count(), "spread": spread}))


main(*sys.argv[1:])
