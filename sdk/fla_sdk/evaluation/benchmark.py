"""Running a benchmark: seeded episodes in parallel processes, each a client of one policy server."""

import json
import multiprocessing
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Any

import attrs
import numpy as np
from numpy.typing import NDArray

from fla_sdk.client import ChunkExecutor, PolicyClient
from fla_sdk.environment import Environment
from fla_sdk.errors import ConfigError, UnknownNameError
from fla_sdk.evaluation.episode import Episode, play, save_animation
from fla_sdk.evaluation.wilson import Interval, wilson
from fla_sdk.plugins import Registry
from fla_sdk.records import Benchmark
from fla_sdk.terminal import progress

FIRST_SEED = 10_000_000
"""Evaluation draws other episodes than recording, which starts at 0."""


@attrs.frozen(kw_only=True)
class Evaluation:
    """What is run. Everything in it can be sent to another process."""

    benchmark: str
    embodiment: str
    url: str
    """Of the policy server."""

    token: str | None = None
    episodes: int = 50
    seed: int = FIRST_SEED
    replan: int | None = None
    """Actions executed per predicted chunk; None: what the benchmark says."""

    max_steps: int | None = None
    options: Mapping[str, Any] = attrs.field(factory=dict[str, Any])
    """Options of the benchmark's `make`."""

    videos: int = 0
    """How many episodes are animated."""

    out: Path | None = None
    workers: int = 2


@attrs.frozen(kw_only=True)
class EvaluationResult:
    """Success of one embodiment on one benchmark."""

    benchmark: str
    embodiment: str
    success: Interval
    episodes: tuple[Episode, ...]

    def to_json(self) -> dict[str, Any]:
        return attrs.asdict(self)


def check(evaluation: Evaluation, registry: Registry) -> Benchmark:
    """The benchmark; raises before any process is started when names or numbers make no sense."""
    benchmark = registry.benchmark(evaluation.benchmark)
    if evaluation.embodiment not in benchmark.embodiments:
        raise UnknownNameError(
            f"embodiment of benchmark {benchmark.name!r}", evaluation.embodiment, benchmark.embodiments
        )
    registry.embodiment(evaluation.embodiment)
    for name in ("episodes", "workers"):
        if getattr(evaluation, name) < 1:
            raise ConfigError(f"{name} is {getattr(evaluation, name)}, must be at least 1")
    if evaluation.videos and evaluation.out is None:
        raise ConfigError("videos need a folder to be written to")
    return benchmark


def evaluate(evaluation: Evaluation, registry: Registry, *, label: str | None = None) -> EvaluationResult:
    """Run the episodes and return success with its 95 % Wilson interval.

    The episodes depend on their seeds alone, not on how many workers there are.
    """
    check(evaluation, registry)
    # A server that cannot be reached, or knows another robot, is told once and here, not by every worker.
    with PolicyClient(evaluation.url, embodiment=evaluation.embodiment, token=evaluation.token):
        pass
    seeds = range(evaluation.seed, evaluation.seed + evaluation.episodes)
    workers = min(evaluation.workers, evaluation.episodes)
    done: list[Episode] = []
    # Fork would copy threads of jax and OpenGL contexts in unknown states.
    context = multiprocessing.get_context("spawn")
    with (
        ProcessPoolExecutor(workers, mp_context=context, initializer=_open, initargs=(evaluation,)) as pool,
        progress(label or f"{evaluation.benchmark} {evaluation.embodiment}", evaluation.episodes) as advance,
    ):
        futures = [pool.submit(_run, seed) for seed in seeds]
        try:
            for future in as_completed(futures):
                done.append(future.result())
                advance(f"{sum(e.success for e in done)} of {len(done)} solved")
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    done.sort(key=lambda episode: episode.seed)
    return EvaluationResult(
        benchmark=evaluation.benchmark,
        embodiment=evaluation.embodiment,
        success=wilson(sum(e.success for e in done), len(done)),
        episodes=tuple(done),
    )


def write_results(results: Sequence[EvaluationResult], path: Path) -> None:
    """One JSON file: a list of results with every episode."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps([result.to_json() for result in results], indent=2))


class _Worker:
    """A process's own environment and connection, kept from episode to episode."""

    def __init__(self, evaluation: Evaluation) -> None:
        from fla_sdk.plugins import load_plugins

        self.evaluation = evaluation
        registry = load_plugins()
        self.benchmark = check(evaluation, registry)
        self.control_hz = registry.embodiment(evaluation.embodiment).control_hz
        self.environment: Environment = self.benchmark.make(evaluation.embodiment, **evaluation.options)
        self.client = PolicyClient(evaluation.url, embodiment=evaluation.embodiment, token=evaluation.token)
        # A benchmark's suggestion may be longer than this policy's chunks; what the caller chose is not corrected.
        suggested = min(self.benchmark.replan, self.client.horizon or self.benchmark.replan)
        self.executor = ChunkExecutor(self.client, replan=evaluation.replan or suggested)

    def run(self, seed: int) -> Episode:
        evaluation = self.evaluation
        self.executor.reset()
        filmed = evaluation.out is not None and seed - evaluation.seed < evaluation.videos
        frames: list[NDArray[np.uint8]] = []
        episode = play(
            self.environment,
            lambda environment: self.executor.act(environment.observe),
            seed=seed,
            max_steps=evaluation.max_steps or self.benchmark.max_steps,
            on_frame=frames.append if filmed else None,
        )
        if not filmed or evaluation.out is None:
            return episode
        outcome = "success" if episode.success else "failure"
        path = evaluation.out / f"{evaluation.embodiment}_{seed}_{outcome}.gif"
        save_animation(frames, path, hz=self.control_hz)
        return attrs.evolve(episode, video=str(path))


_worker: _Worker | None = None


def _open(evaluation: Evaluation) -> None:
    global _worker
    _worker = _Worker(evaluation)


def _run(seed: int) -> Episode:
    assert _worker is not None
    return _worker.run(seed)
