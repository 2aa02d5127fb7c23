"""Recording what a policy does, failures included."""

import asyncio
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fla_sdk as fla
from fla_sdk.cli import main
from fla_sdk.environment import Environment
from fla_sdk.errors import ConfigError, UnknownNameError
from fla_sdk.evaluation.collection import SUCCESS, collect
from fla_sdk.serving.server import PolicyServer


def rest(environment: Environment) -> np.ndarray:
    """A policy to be named as module:function."""
    return np.zeros(2, np.float32)


class Constant:
    """Answers with chunks of 0.1, as a served policy."""

    metadata: Mapping[str, Any] = {}

    def infer(self, observation: Mapping[str, Any]) -> dict[str, Any]:
        return {"actions": np.full((4, len(observation["state"])), 0.1, np.float32)}


@pytest.fixture
def server() -> Iterator[str]:
    """The address of `Constant`."""
    loop, stop, ready, address = asyncio.new_event_loop(), asyncio.Event(), threading.Event(), []

    def note(url: str) -> None:
        address.append(url)
        ready.set()

    thread = threading.Thread(
        target=lambda: loop.run_until_complete(PolicyServer(Constant(), port=0).serve_until(stop, ready=note))
    )
    thread.start()
    assert ready.wait(300)
    yield address[0]
    loop.call_soon_threadsafe(stop.set)
    thread.join(60)
    loop.close()


def test_what_the_expert_does_is_marked_as_solved(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    assert main(["data", "collect", "planar", "--policy", "expert", "--episodes", "3", "--out", str(out)]) == 0
    assert "collected 3 episodes" in capsys.readouterr().out
    dataset = fla.load_plugins().open_dataset(str(out))
    assert dataset is not None
    solved = dataset.column(SUCCESS)[:, 0]
    assert solved[dataset.episode_bounds[:, 1] - 1].all()
    assert solved.sum() == 3


def test_failures_are_kept_and_words_replaced(registry: fla.Registry, tmp_path: Path) -> None:
    made = collect(
        registry,
        benchmark="planar",
        embodiment="planar3",
        policy="random",
        episodes=2,
        out=tmp_path / "out",
        max_steps=5,
        instruction="wave",
    )
    dataset = registry.open_dataset(str(tmp_path / "out"))
    assert dataset is not None
    assert (made.episodes, made.solved, made.rows, len(dataset)) == (2, 0, 10, 10)
    assert not dataset.column(SUCCESS).any()
    assert {dataset.task(row) for row in range(10)} == {"wave"}
    limits = np.array([f.limits or (-1, 1) for f in registry.embodiment("planar3").action for _ in f.names])
    actions = dataset.column("action")
    assert (actions >= limits[:, 0]).all() and (actions <= limits[:, 1]).all()
    assert len(np.unique(actions)) == actions.size


@pytest.mark.parametrize(("policy", "value"), [(f"{__name__}:rest", 0.0), (None, 0.1)])
def test_a_function_or_a_server_acts(
    policy: str | None, value: float, server: str, registry: fla.Registry, tmp_path: Path
) -> None:
    collect(registry, benchmark="planar", policy=policy or server, episodes=2, out=tmp_path / "out", max_steps=6)
    dataset = registry.open_dataset(str(tmp_path / "out"))
    assert dataset is not None and len(dataset) == 12
    np.testing.assert_allclose(dataset.column("action"), value, rtol=1e-6)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"benchmark": "planr"}, "did you mean 'planar'"),
        ({"policy": "randm"}, "must be random, expert, ws://HOST:PORT or module:function"),
        ({"policy": "json:lods"}, "cannot be imported"),
        ({"embodiment": "aloha"}, "unknown embodiment of benchmark"),
        ({"episodes": 0}, "must be at least 1"),
        ({"benchmark": "isaaclab", "policy": "expert"}, "has no scripted expert"),
    ],
)
def test_what_makes_no_sense_is_refused(
    options: dict[str, Any], said: str, registry: fla.Registry, tmp_path: Path
) -> None:
    given: dict[str, Any] = {"benchmark": "planar", "policy": "random", "episodes": 1, "out": tmp_path / "out"}
    with pytest.raises((ConfigError, UnknownNameError), match=said):
        collect(registry, **(given | options))
    assert not (tmp_path / "out").exists()


def test_a_benchmark_without_robots_is_neither_recorded_nor_judged(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["record", "isaaclab", "--out", "x"]) == 1
    assert "no scripted expert to record; see `fla data collect`" in capsys.readouterr().err
    assert main(["eval", "isaaclab", "--server", "ws://127.0.0.1:1"]) == 1
    assert "has no embodiment to be judged with" in capsys.readouterr().err
