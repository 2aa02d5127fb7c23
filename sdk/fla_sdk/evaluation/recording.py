"""Recording demonstrations of a benchmark's scripted expert into a dataset."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import attrs
import numpy as np
from numpy.typing import NDArray

from fla_sdk.data.dataset import EpisodeWriter
from fla_sdk.environment import Environment
from fla_sdk.errors import ConfigError, DataError, UnknownNameError
from fla_sdk.evaluation.episode import play
from fla_sdk.plugins import Registry
from fla_sdk.records import Expert
from fla_sdk.terminal import progress


@attrs.frozen(kw_only=True)
class Recording:
    """What was recorded."""

    path: Path
    episodes: int
    attempts: int
    """Episodes the expert tried; failed ones are not in the dataset."""

    rows: int


def record(
    registry: Registry,
    *,
    benchmark: str,
    embodiment: str | None = None,
    episodes: int,
    out: Path,
    dataset_format: str = "lerobot",
    video: bool = False,
    seed: int = 0,
    resume: bool = False,
    options: Mapping[str, Any] | None = None,
) -> Recording:
    """Record `episodes` successful demonstrations into `out`; with `resume`, until there are so many.

    Raises `DataError` when the expert fails more than four times for each success.
    """
    chosen = registry.benchmark(benchmark)
    expert = chosen.expert
    if expert is None:
        raise ConfigError(f"benchmark {benchmark!r} has no scripted expert to record; see `fla data collect`")
    name = embodiment or chosen.embodiments[0]
    if name not in chosen.embodiments:
        raise UnknownNameError(f"embodiment of benchmark {benchmark!r}", name, chosen.embodiments)
    robot = registry.embodiment(name)
    storage = registry.dataset_format(dataset_format)
    storage.writable()
    if episodes < 1:
        raise ConfigError(f"episodes is {episodes}, must be at least 1")
    environment = chosen.make(name, **(options or {}))
    writer = storage.create_for(out, robot, video=video, append=resume)
    begun = kept = writer.episodes
    attempts = rows = 0
    seed += 25 * begun  # past every attempt at the episodes that are there: an episode must not come twice
    try:
        with progress(f"recording {name}", episodes - begun) as advance:
            while kept < episodes:
                if attempts >= 5 * max(kept - begun, 4):
                    raise DataError(
                        f"the expert of {benchmark!r} solved only {kept - begun} of {attempts} episodes; giving up"
                    )
                take = _Take(expert, writer, seed + attempts)
                episode = play(environment, take, seed=seed + attempts, max_steps=chosen.max_steps)
                attempts += 1
                if episode.success:
                    writer.save_episode()
                    kept, rows = kept + 1, rows + episode.steps
                    advance(f"{kept - begun} of {attempts} attempts kept")
                else:
                    writer.discard_episode()
    finally:
        writer.close()
        environment.close()
    return Recording(path=out, episodes=kept - begun, attempts=attempts, rows=rows)


class _Take:
    """One attempt: chooses the expert's actions and writes down what it saw before each."""

    def __init__(self, expert: Callable[[Environment, int], Expert], writer: EpisodeWriter, seed: int) -> None:
        self._make, self._writer, self._seed = expert, writer, seed
        self._expert: Expert | None = None  # made at the first action, because it needs an episode to have begun

    def __call__(self, environment: Environment) -> NDArray[np.floating]:
        if self._expert is None:
            self._expert = self._make(environment, self._seed)
        observation, action = environment.observe(), self._expert()
        self._writer.add(observation, action)
        return action
