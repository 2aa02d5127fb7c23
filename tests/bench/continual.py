"""How much a policy forgets when it learns a second task, with and without what is meant to prevent it.

    .venv/bin/python tests/bench/continual.py --out DIR [--steps N] [--seeds N] [--minutes M] [--only METHOD ...]

One planar arm learns to reach for red and blue targets, as it is told, then for green ones, with equal steps; all three
colours are on the table. Each method starts from the same checkpoints of the first task. What is there is kept: run it
in pieces.
"""

import argparse
import json
import os
import shutil
import time
from pathlib import Path
from typing import Any

import attrs

from fla_plugins.continual.plan import Plan, Task
from fla_plugins.continual.report import table, to_json
from fla_plugins.continual.sequence import Sequence
from fla_sdk.evaluation.recording import record
from fla_sdk.plugins import load_plugins
from fla_sdk.training.config import Optimizer, TrainConfig

TASKS = {"red-blue": ["red", "blue"], "green": ["green"]}
METHODS: dict[str, dict[str, Any]] = {
    "finetune": {"method": "finetune"},
    "replay-0.02": {"method": "replay", "replay": 0.02},
    "replay-0.1": {"method": "replay", "replay": 0.1},
    "ewc-1e5": {"method": "ewc", "strength": 1e5},
    "ewc-1e6": {"method": "ewc", "strength": 1e6},
    "ewc-1e7": {"method": "ewc", "strength": 1e7},
}
RECIPE = TrainConfig(
    model="pi05/tiny",
    model_options={"action_dim": 4, "horizon": 4},
    steps=1200,
    batch_size=32,
    optimizer=Optimizer(peak_lr=2e-3, end_lr=2e-5, warmup_steps=30, decay_steps=1200, weight_decay=1e-4),
    ema_decay=0.98,
    save_every=1200,
    validate_every=1200,
    validate_batches=4,
    loader_threads=1,
    frame_cache="always",
    frame_quality=None,
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--demonstrations", type=int, default=400, help="of each colour")
    parser.add_argument("--steps", type=int, default=RECIPE.steps, help="of each task")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--episodes", type=int, default=100)
    parser.add_argument("--minutes", type=float, default=9.0, help="begin nothing new after this")
    parser.add_argument("--only", nargs="*", default=list(METHODS), choices=METHODS)
    arguments = parser.parse_args()
    until = time.monotonic() + 60 * arguments.minutes
    registry, out = load_plugins(), arguments.out
    for name, colours in TASKS.items():
        if not (out / "data" / name).exists():
            options = {"asked": colours}
            count = arguments.demonstrations * len(colours)
            record(
                registry,
                benchmark="planar",
                embodiment="planar2",
                episodes=count,
                out=out / "data" / name,
                options=options,
            )
    tasks = [
        Task(
            name=name,
            data=str(out / "data" / name),
            embodiment="planar2",
            benchmark="planar",
            options={"asked": colours},
        )
        for name, colours in TASKS.items()
    ]
    plan = Plan(
        recipe=RECIPE, tasks=tasks, method="finetune", steps=arguments.steps, out=out, episodes=arguments.episodes
    )
    for seed in range(arguments.seeds):
        for name in arguments.only:
            if time.monotonic() > until:
                continue
            begun, cpu = time.monotonic(), os.times()
            one = attrs.evolve(plan, **METHODS[name], out=out / name, seeds=seed + 1)
            alike = [other for other, changes in METHODS.items() if changes["method"] == one.method]
            _share_first_stage(plan, one, [out / other for other in (*alike, "finetune")])
            Sequence(one, registry).run()
            spent = sum(os.times()[:2]) - sum(cpu[:2])
            print(f"{name}, seed {seed}: {time.monotonic() - begun:.0f} s, {spent:.0f} s of processor time", flush=True)
    print(json.dumps(_results(plan, registry, out, arguments.seeds), indent=2))


def _share_first_stage(plan: Plan, one: Plan, others: list[Path]) -> None:
    """The first stage has nothing to forget, and is the same for all; so are the importances after it."""
    for seed in range(one.seeds):
        for other in others:
            there, here = attrs.evolve(plan, out=other).folder(seed, 0), one.folder(seed, 0)
            if (there / "scores.json").exists() and not here.exists():
                shutil.copytree(there, here)


def _results(plan: Plan, registry: Any, out: Path, seeds: int) -> dict[str, Any]:
    """Method -> loss and success over the seeds that are complete."""
    found: dict[str, Any] = {}
    for name, changes in METHODS.items():
        one = attrs.evolve(plan, **changes, out=out / name)
        complete = [s for s in range(seeds) if (one.folder(s, len(plan.tasks) - 1) / "scores.json").is_file()]
        stages = [
            [json.loads((one.folder(s, k) / "scores.json").read_text()) for k in range(len(plan.tasks))]
            for s in complete
        ]
        if stages:
            one = attrs.evolve(one, seeds=len(stages))
            found[name] = to_json(one, stages)
            print(f"\n--- {name}\n{table(one, found[name])}")
    return found


if __name__ == "__main__":
    main()
