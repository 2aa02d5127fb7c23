"""Recording what a policy does in a benchmark, failures included: `fla data collect`."""

from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import attrs
import numpy as np
from numpy.typing import NDArray

from fla_sdk.client import ChunkExecutor, PolicyClient
from fla_sdk.data.dataset import EpisodeWriter, Feature
from fla_sdk.embodiment import Embodiment
from fla_sdk.environment import Environment
from fla_sdk.errors import ConfigError, UnknownNameError
from fla_sdk.evaluation.episode import Act, play
from fla_sdk.plugins import Registry
from fla_sdk.records import Benchmark
from fla_sdk.terminal import progress

SUCCESS = "next.success"
"""Column: whether the task is done after the row's action."""


@attrs.frozen(kw_only=True)
class Collection:
    """What was collected."""

    path: Path
    episodes: int
    solved: int
    rows: int


def collect(
    registry: Registry,
    *,
    benchmark: str,
    policy: str,
    embodiment: str | None = None,
    episodes: int,
    out: Path,
    dataset_format: str = "lerobot",
    video: bool = False,
    seed: int = 0,
    max_steps: int | None = None,
    instruction: str | None = None,
    options: Mapping[str, Any] | None = None,
) -> Collection:
    """Record `episodes` of `policy` into `out`, whatever becomes of them.

    `policy` is `random`, `expert`, the address of a policy server (`ws://...`), or `module:function` of a function that
    gives the next action `[A]` of an environment. `instruction` replaces the words of the environment's task.
    """
    chosen, storage = registry.benchmark(benchmark), registry.dataset_format(dataset_format)
    storage.writable()
    if episodes < 1:
        raise ConfigError(f"episodes is {episodes}, must be at least 1")
    begin = _policy(policy, chosen)
    environment, robot = _environment(registry, chosen, embodiment, options or {})
    writer: EpisodeWriter | None = None
    solved = rows = 0
    try:
        columns = {SUCCESS: Feature(dtype="bool", shape=(1,))}
        writer = storage.create_for(out, robot, video=video, columns=columns)
        with progress(f"collecting {robot.name}", episodes) as advance:
            for number in range(episodes):
                take = _Take(begin(robot, seed + number), writer, instruction)
                episode = play(environment, take, seed=seed + number, max_steps=max_steps or chosen.max_steps)
                take.write(environment)
                writer.save_episode()
                solved, rows = solved + episode.success, rows + episode.steps
                advance(f"{solved} of {number + 1} solved")
    finally:
        # A simulator may end the process when it is closed.
        if writer is not None:
            writer.close()
        environment.close()
    return Collection(path=out, episodes=episodes, solved=solved, rows=rows)


class _Take:
    """One episode: writes down each moment when the outcome of its action is known."""

    def __init__(self, act: Act, writer: EpisodeWriter, instruction: str | None) -> None:
        self._act, self._writer, self._instruction = act, writer, instruction
        self._moment: tuple[dict[str, Any], NDArray[np.floating]] | None = None

    def __call__(self, environment: Environment) -> NDArray[np.floating]:
        self.write(environment)
        observation = dict(environment.observe())
        if self._instruction is not None:
            observation["task"] = self._instruction
        action = np.asarray(self._act(environment))
        self._moment = observation, action
        return action

    def write(self, environment: Environment) -> None:
        """The moment before the environment's last step."""
        if self._moment is not None:
            observation, action = self._moment
            self._writer.add(observation | {SUCCESS: np.array([environment.success], np.bool_)}, action)
            self._moment = None


def _environment(
    registry: Registry, chosen: Benchmark, embodiment: str | None, options: Mapping[str, Any]
) -> tuple[Environment, Embodiment]:
    """A benchmark without embodiments makes environments that bring their own."""
    if not chosen.embodiments:
        environment: Any = chosen.make(embodiment or "", **options)
        own: Embodiment = environment.embodiment
        return environment, own if embodiment is None else _fitting(registry.embodiment(embodiment), own)
    name = embodiment or chosen.embodiments[0]
    if name not in chosen.embodiments:
        raise UnknownNameError(f"embodiment of benchmark {chosen.name!r}", name, chosen.embodiments)
    return chosen.make(name, **options), registry.embodiment(name)


def _fitting(robot: Embodiment, own: Embodiment) -> Embodiment:
    for kind in ("state", "action"):
        ours, theirs = getattr(robot, kind), getattr(own, kind)
        if ours.width != theirs.width:
            raise ConfigError(
                f"embodiment {robot.name!r} has {ours.width} {kind} dimensions ({', '.join(ours.names)}), the simulated"
                f" robot has {theirs.width} ({', '.join(theirs.names)})"
            )
    return robot


def _policy(policy: str, chosen: Benchmark) -> Callable[[Embodiment, int], Act]:
    """Robot and seed -> what chooses the actions of one episode. Raises `ConfigError` before anything is started."""
    if policy == "random":
        return _random
    if policy == "expert":
        if (expert := chosen.expert) is None:
            raise ConfigError(
                f"benchmark {chosen.name!r} has no scripted expert; use random, ws://... or module:function"
            )
        return lambda robot, seed: _Scripted(lambda environment: expert(environment, seed))
    if policy.startswith(("ws://", "wss://")):
        return _Served(policy, chosen.replan)
    module, colon, name = policy.partition(":")
    if not colon:
        raise ConfigError(f"policy is {policy!r}, must be random, expert, ws://HOST:PORT or module:function")
    try:
        function: Act = getattr(import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise ConfigError(f"policy {policy!r} cannot be imported: {error}") from error
    return lambda robot, seed: function


def _random(robot: Embodiment, seed: int) -> Act:
    """Evenly between the limits of the action; -1 to 1 where it has none."""
    rng = np.random.default_rng(seed)
    limits = [field.limits or (-1.0, 1.0) for field in robot.action for _ in field.names]
    low, high = np.array(limits, np.float32).T
    return lambda environment: np.asarray(rng.uniform(low, high), np.float32)


class _Scripted:
    """An expert is made at the first action, because it needs an episode to have begun."""

    def __init__(self, make: Callable[[Environment], Callable[[], NDArray[np.floating]]]) -> None:
        self._make, self._expert = make, None

    def __call__(self, environment: Environment) -> NDArray[np.floating]:
        self._expert = self._expert or self._make(environment)
        return self._expert()


class _Served:
    """One connection for all episodes, opened by the first."""

    def __init__(self, url: str, replan: int) -> None:
        self._url, self._replan = url, replan
        self._executor: ChunkExecutor | None = None

    def __call__(self, robot: Embodiment, seed: int) -> Act:
        if self._executor is None:
            client = PolicyClient(self._url, embodiment=robot.name)
            self._executor = ChunkExecutor(client, replan=min(self._replan, client.horizon or self._replan))
        self._executor.reset()
        executor = self._executor
        return lambda environment: executor.act(environment.observe)
