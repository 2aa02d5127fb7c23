"""`ClosedLoop`: success of the policy as it is, in simulators, while it is being trained."""

import asyncio
import threading
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import attrs
import jax

from fla_sdk.codec import Codec
from fla_sdk.errors import ConfigError
from fla_sdk.evaluation.benchmark import Evaluation, check, evaluate
from fla_sdk.plugins import Registry
from fla_sdk.policy.parameters import Flat
from fla_sdk.policy.policy import Policy
from fla_sdk.serving.server import PolicyServer
from fla_sdk.training.config import TrainConfig


class ClosedLoop:
    """The benchmarks of a config, with the robots of the run that they have. Raises when a name makes no sense."""

    def __init__(self, config: TrainConfig, robots: Sequence[str], registry: Registry) -> None:
        if jax.process_count() > 1:
            raise ConfigError(
                "evaluate runs the policy in the process that trains, and this run has several: leave it out, and run "
                "`fla eval` on the checkpoints"
            )
        self._registry = registry
        self.evaluations = [
            Evaluation(benchmark=benchmark, embodiment=robot, url="", episodes=config.evaluate_episodes)
            for name in config.evaluate
            for benchmark, robot in _robots_of(name, robots, registry)
        ]
        for evaluation in self.evaluations:
            check(evaluation, registry)

    def measure(self, graph: Any, params: Flat, codecs: Mapping[str, Codec], *, step: int) -> dict[str, float]:
        """`success/<benchmark>/<robot>`, 0 to 1, of a policy with these parameters; training waits meanwhile."""
        first = next(iter(codecs.values()))
        policy = Policy(graph=graph, params=params, spec=first.spec, codecs=codecs, default=first.embodiment.name)
        found: dict[str, float] = {}
        with _served(policy) as url:
            for evaluation in self.evaluations:
                name = f"{evaluation.benchmark}/{evaluation.embodiment}"
                result = evaluate(attrs.evolve(evaluation, url=url), self._registry, label=f"step {step}, {name}")
                found[f"success/{name}"] = result.success.rate
        return found


def _robots_of(name: str, robots: Sequence[str], registry: Registry) -> list[tuple[str, str]]:
    """`planar` is that benchmark with every robot of the run that it has; `planar/planar2` with that one."""
    benchmark, _, robot = name.partition("/")
    known = registry.benchmark(benchmark).embodiments
    if robot and robot not in robots:
        raise ConfigError(f"evaluate: {name!r} is about a robot that is not trained here ({', '.join(robots)})")
    chosen = [robot] if robot else [one for one in robots if one in known]
    if not chosen:
        raise ConfigError(
            f"evaluate: benchmark {benchmark!r} has none of the robots that are trained here "
            f"({', '.join(robots)}); it has {', '.join(known)}"
        )
    return [(benchmark, one) for one in chosen]


@contextmanager
def _served(policy: Policy) -> Generator[str, None, None]:
    """The URL of `policy`, which answers from a thread of its own."""
    ready, stop = threading.Event(), asyncio.Event()
    found: list[str] = []
    failed: list[BaseException] = []
    loop = asyncio.new_event_loop()

    def tell(url: str) -> None:
        found.append(url)
        ready.set()

    def run() -> None:
        try:
            loop.run_until_complete(PolicyServer(policy, port=0).serve_until(stop, ready=tell))
        except BaseException as error:
            failed.append(error)
        finally:
            loop.close()
            ready.set()

    thread = threading.Thread(target=run, name="evaluated-policy")
    thread.start()
    try:
        ready.wait()
        if failed:
            raise failed[0]
        yield found[0]
    finally:
        if not failed:
            loop.call_soon_threadsafe(stop.set)
        thread.join()
