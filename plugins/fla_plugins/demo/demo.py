"""The demo: record two arms, train one policy on both, serve it, drive both through the network, report."""

import json
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import attrs

import fla_sdk as fla
from fla_sdk.errors import ConfigError
from fla_sdk.evaluation.benchmark import Evaluation, EvaluationResult, evaluate, write_results
from fla_sdk.evaluation.recording import record
from fla_sdk.evaluation.server_process import server_process
from fla_sdk.training.trainer import Trainer

EMBODIMENTS = ("planar2", "planar3")
RECIPE = "pi05_planar"
HELD_OUT_SEED = 5_000_000
HELD_OUT_EPISODES = 3
VIDEOS = 4
MARK = ".fla-demo"
"""Tells a folder that the demo made, and may empty, from one that it may not."""


class Demo:
    """One run of the demo. Every stage is what the command line does too."""

    def __init__(
        self, registry: fla.Registry, *, out: Path, demonstrations: int, steps: int | None, episodes: int
    ) -> None:
        self.registry, self.out = registry, out
        self.demonstrations, self.steps, self.episodes = demonstrations, steps, episodes
        self.seconds: dict[str, float] = {}

    def run(self) -> None:
        """Leaves `results.json`, `report.html`, the datasets, the checkpoints and animations in `out`."""
        self._empty()
        begun = time.monotonic()
        with self._stage("1/5 record demonstrations of both arms"):
            self._record()
        with self._stage("2/5 train one policy on both arms"):
            trained = self._train()
            untrained = self._train(steps=0)
        with self._stage("3/5 drive both arms with the untrained policy, through its server"):
            before = self._drive(untrained, "untrained", videos=0)
        with self._stage("4/5 drive both arms with the trained policy, through its server"):
            after = self._drive(trained, "trained", videos=VIDEOS)
        self._write_results(before, after)
        with self._stage("5/5 write the report"):
            from fla_plugins.demo.report import write_report

            report = write_report(
                self.out / "report.html",
                registry=self.registry,
                run_dir=self.out / "run",
                checkpoint=trained,
                held_out={name: self.out / "held_out" / name for name in EMBODIMENTS},
                before=before,
                after=after,
                seconds=self.seconds,
            )
        print(f"\nSuccess, with 95 % Wilson intervals ({time.monotonic() - begun:.0f} s in all):")
        for name in EMBODIMENTS:
            print(f"  {name}: trained {after[name].success}, untrained {before[name].success}")
        print(f"{self.out / 'results.json'}\n{report}")

    @contextmanager
    def _stage(self, title: str) -> Iterator[None]:
        print(f"\n{title}", flush=True)
        begun = time.monotonic()
        yield
        self.seconds[title[4:]] = round(time.monotonic() - begun, 1)

    def _empty(self) -> None:
        if self.out.exists() and any(self.out.iterdir()):
            if not (self.out / MARK).exists():
                raise ConfigError(f"{self.out} holds something that is not the demo's; choose another --out")
            shutil.rmtree(self.out)
        self.out.mkdir(parents=True, exist_ok=True)
        (self.out / MARK).touch()

    def _record(self) -> None:
        for name in EMBODIMENTS:
            record(
                self.registry,
                benchmark="planar",
                embodiment=name,
                episodes=self.demonstrations,
                out=self.out / "data" / name,
            )
            record(
                self.registry,
                benchmark="planar",
                embodiment=name,
                episodes=HELD_OUT_EPISODES,
                out=self.out / "held_out" / name,
                seed=HELD_OUT_SEED,
            )

    def _train(self, steps: int | None = None) -> Path:
        config = self.registry.recipe(RECIPE).config()
        wanted = self.steps if steps is None else steps
        config = attrs.evolve(
            config,
            sources=[
                fla.Source(data=str(self.out / "data" / name), embodiment=name, skip_idle=True) for name in EMBODIMENTS
            ],
            out=self.out / ("run" if steps is None else "untrained"),
            steps=config.steps if wanted is None else wanted,
        )
        return Trainer(config, plugins=self.registry).fit().checkpoint

    def _drive(self, checkpoint: Path, label: str, *, videos: int) -> dict[str, EvaluationResult]:
        results: dict[str, EvaluationResult] = {}
        with server_process(checkpoint, arguments=["--no-real-time-chunking"]) as url:
            for name in EMBODIMENTS:
                plan = Evaluation(
                    benchmark="planar",
                    embodiment=name,
                    url=url,
                    episodes=self.episodes,
                    videos=min(videos, self.episodes),
                    out=self.out / "rollouts",
                    workers=os.cpu_count() or 1,
                )
                results[name] = evaluate(plan, self.registry, label=f"{name}, {label}")
        write_results(list(results.values()), self.out / f"episodes_{label}.json")
        return results

    def _write_results(self, before: dict[str, EvaluationResult], after: dict[str, EvaluationResult]) -> None:
        tree: dict[str, Any] = {
            "embodiments": {
                name: {"trained": attrs.asdict(after[name].success), "untrained": attrs.asdict(before[name].success)}
                for name in EMBODIMENTS
            },
            "seconds": self.seconds,
        }
        (self.out / "results.json").write_text(json.dumps(tree, indent=2))
