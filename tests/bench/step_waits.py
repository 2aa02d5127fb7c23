"""How much of a training run is not the step: waiting for data, logging, and checkpoints.

    .venv/bin/python tests/bench/step_waits.py [--steps N] [--batch N]

The recipe `pi05_tiny` on a recorded arm, through `Trainer.fit`, with frames in a cache and a model of 15 M parameters
whose steps take about a second; with `--tiny` its own of half a million, whose steps take less than their data. On
a CPU the loader's threads and what writes checkpoints share the cores with the step, so not all that they take is seen
as waiting.
"""

import argparse
import json
import statistics
import tempfile
from collections.abc import Mapping
from pathlib import Path

import attrs

import fla_sdk as fla
from fla_sdk.evaluation.recording import record
from fla_sdk.plugins import load_plugins
from fla_sdk.training.config import Source
from fla_sdk.training.trainer import Trainer

_EXPERT = {"depth": 8, "heads": 4, "kv_heads": 1, "head_dim": 64}
LARGER = {
    "vision": {"width": 192, "depth": 6, "heads": 4, "mlp_dim": 768, "patch": 8},
    "language": {**_EXPERT, "width": 320, "mlp_dim": 1280},
    "expert": {**_EXPERT, "width": 160, "mlp_dim": 640},
}


class Rates:
    """Steps per second and share of waiting, of each report."""

    def __init__(self) -> None:
        self.reports: list[Mapping[str, float]] = []

    @fla.hookimpl
    def fla_step_ended(self, metrics: Mapping[str, float]) -> None:
        if metrics:
            self.reports.append(dict(metrics))


def main() -> None:
    """Print the share of the run that waits for data, and what checkpoints add to the steps that they overlap."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--steps", type=int, default=160)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--tiny", action="store_true")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        registry = load_plugins()
        record(registry, benchmark="planar", embodiment="planar2", episodes=100, out=Path(folder) / "data")
        found: dict[str, float] = {}
        for name, save_every in (("no checkpoints", args.steps), ("a checkpoint every 20 steps", 20)):
            rates = Rates()
            plugins = load_plugins()
            plugins.add(rates, name="rates")
            recipe = registry.recipe("pi05_tiny").config()
            config = attrs.evolve(
                recipe,
                model_options={**recipe.model_options, **({} if args.tiny else LARGER)},
                sources=[Source(data=f"{folder}/data", embodiment="planar2")],
                steps=args.steps,
                batch_size=args.batch,
                log_every=20,
                save_every=save_every,
                frame_cache="always",
                out=Path(folder) / name.replace(" ", "_"),
            )
            Trainer(config, plugins=plugins).fit()
            steady = rates.reports[2:]
            found[name] = statistics.median(report["steps_per_second"] for report in steady)
            waiting = statistics.median(report["data_wait"] for report in steady)
            print(json.dumps({"case": name, "steps_per_second": found[name], "data_wait": waiting}), flush=True)
        plain, saving = found.values()
        print(f"checkpoints: steps take x {plain / saving:.3f} as long, one checkpoint for every 20 steps")


if __name__ == "__main__":
    main()
