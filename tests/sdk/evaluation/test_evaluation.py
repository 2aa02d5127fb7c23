"""Recording and evaluating through real processes: a replayed dataset drives the planar arm over the network."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import pytest
from PIL import Image

import fla_sdk as fla
from fla_sdk.errors import ConfigError, ConnectionLost, DataError, UnknownNameError
from fla_sdk.evaluation.benchmark import Evaluation, evaluate, write_results
from fla_sdk.evaluation.recording import record
from fla_sdk.evaluation.server_process import server_process
from fla_sdk.plugins import load_plugins

# --- Recording --------------------------------------------------------------------------------------------------------


class Moody:
    """A benchmark whose expert works in episodes of an even seed only."""

    def __init__(self, *, always_idle: bool = False) -> None:
        self.always_idle = always_idle

    @fla.hookimpl
    def fla_benchmarks(self) -> Iterator[fla.Benchmark]:
        planar = load_plugins().benchmark("planar")
        work = planar.expert
        assert work is not None

        def expert(environment: Any, seed: int) -> Any:
            if seed % 2 or self.always_idle:
                return lambda: np.asarray(environment.observe()["state"])
            return work(environment, seed)

        yield attrs.evolve(planar, name="moody", expert=expert, max_steps=25)


def test_only_successful_episodes_are_recorded(tmp_path: Path) -> None:
    registry = load_plugins()
    registry.add(Moody(), name="moody")
    made = record(registry, benchmark="moody", embodiment="planar2", episodes=3, out=tmp_path / "data")
    assert (made.episodes, made.attempts) == (3, 5)
    dataset = registry.open_dataset(str(made.path))
    assert dataset is not None
    assert len(dataset.episode_bounds) == 3
    assert len(dataset) == made.rows
    # An idle arm would use all 25 steps.
    assert np.diff(dataset.episode_bounds, axis=1).max() < 25
    more = record(registry, benchmark="moody", embodiment="planar2", episodes=5, out=made.path, resume=True)
    assert more.episodes == 2
    longer = registry.open_dataset(str(made.path))
    assert longer is not None
    starts = longer.column("observation.state")[longer.episode_bounds[:, 0]]
    assert len(np.unique(starts, axis=0)) == 5  # no episode was recorded twice
    np.testing.assert_array_equal(longer.column("action")[: len(dataset)], dataset.column("action"))


def test_an_expert_that_never_succeeds_is_given_up(tmp_path: Path) -> None:
    registry = load_plugins()
    registry.add(Moody(always_idle=True), name="moody")
    with pytest.raises(DataError, match="solved only 0 of 20 episodes; giving up"):
        record(registry, benchmark="moody", embodiment="planar2", episodes=1, out=tmp_path / "data")


def test_a_recording_that_makes_no_sense(registry: Any, tmp_path: Path) -> None:
    for changes, reason in (
        ({"episodes": 0}, "episodes is 0"),
        ({"embodiment": "planar4"}, "did you mean 'planar"),
        ({"dataset_format": "lerobt"}, "did you mean 'lerobot'"),
    ):
        arguments: dict[str, Any] = {"benchmark": "planar", "episodes": 1, "out": tmp_path / "data", **changes}
        with pytest.raises((ConfigError, UnknownNameError), match=reason):
            record(registry, **arguments)
    assert not (tmp_path / "data").exists()


# --- Evaluating -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def replay(arms: dict[str, Path]) -> Iterator[str]:
    """A server that answers from the recorded episodes of planar2."""
    with server_process(arms["planar2"]) as url:
        yield url


def test_episodes_depend_on_their_seeds_alone(replay: str, registry: Any, tmp_path: Path) -> None:
    plan = Evaluation(
        benchmark="planar", embodiment="planar2", url=replay, episodes=3, seed=0, videos=1, out=tmp_path, workers=1
    )
    alone = evaluate(plan, registry)
    both = evaluate(attrs.evolve(plan, workers=2, out=None, videos=0), registry)
    assert [attrs.evolve(episode, video=None) for episode in alone.episodes] == list(both.episodes)
    assert alone.success == both.success
    assert [episode.seed for episode in alone.episodes] == [0, 1, 2]
    # The recorded episodes have these very seeds, so replaying them reaches the targets.
    assert all(episode.success for episode in alone.episodes)
    write_results([alone], tmp_path / "results.json")
    (result,) = json.loads((tmp_path / "results.json").read_text())
    assert result["success"]["rate"] == 1.0
    assert result["success"]["episodes"] == len(result["episodes"]) == 3
    filmed, *others = result["episodes"]
    assert [episode["video"] for episode in others] == [None, None]
    assert filmed["video"].endswith("planar2_0_success.gif")
    with Image.open(filmed["video"]) as animation:
        assert animation.n_frames > 1  # pyright: ignore[reportAttributeAccessIssue]


def test_an_evaluation_that_makes_no_sense(replay: str, registry: Any) -> None:
    plan = Evaluation(benchmark="planar", embodiment="planar2", url=replay)
    for changes, reason in (
        ({"episodes": 0}, "episodes is 0"),
        ({"workers": 0}, "workers is 0"),
        ({"videos": 1}, "videos need a folder"),
        ({"embodiment": "planar5"}, "did you mean 'planar"),
    ):
        with pytest.raises((ConfigError, UnknownNameError), match=reason):
            evaluate(attrs.evolve(plan, **changes), registry)


def test_a_server_that_does_not_start_says_why(tmp_path: Path) -> None:
    with pytest.raises(ConnectionLost, match="there is no checkpoint at"), server_process(tmp_path / "nowhere"):
        pass
