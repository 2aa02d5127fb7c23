"""Collecting data in Isaac Lab, as far as that can be tested without it."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fla_sdk as fla
from fla_sdk.cli import main
from fla_sdk.environment import Environment
from fla_sdk.errors import ConfigError, UnknownNameError
from fla_sdk.evaluation.collection import collect

from .conftest import TASK


@pytest.fixture(scope="module")
def registry() -> fla.Registry:
    return fla.load_plugins()


def rise(environment: Environment) -> np.ndarray:
    return np.array([0.3, 0.1], np.float32)


def test_without_isaac_lab_the_way_out_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "collect", "isaaclab", "--task", TASK, "--out", str(tmp_path / "out")]) == 1
    said = capsys.readouterr().err
    assert "Isaac Lab is not installed in this Python" in said and "https://isaac-sim.github.io/IsaacLab" in said
    assert not (tmp_path / "out").exists()


def test_a_task_is_collected_with_the_robot_it_has(
    isaaclab: list[dict[str, Any]], registry: fla.Registry, tmp_path: Path
) -> None:
    made = collect(
        registry,
        benchmark="isaaclab",
        policy=f"{__name__}:rise",
        episodes=2,
        out=tmp_path / "out",
        options={"task": TASK, "device": "cpu"},
    )
    assert isaaclab == [{"headless": True, "enable_cameras": True}]
    assert (made.episodes, made.solved, made.rows) == (2, 1, 3)
    dataset = registry.open_dataset(str(tmp_path / "out"))
    assert dataset is not None
    assert (dataset.fps, dataset.task(0)) == (50, "lift cube franka")
    assert dataset.features["observation.state"].names == ("panda_joint1", "panda_joint2")
    assert dataset.episode_bounds.tolist() == [[0, 2], [2, 3]]
    # The state before each action; the reset that ends an episode is not in it.
    expected = [[0.0, 0.0], [0.3, 0.1], [1.0, 1.0]]
    np.testing.assert_allclose(dataset.column("observation.state"), expected, atol=1e-6)
    assert dataset.column("next.success")[:, 0].tolist() == [False, False, True]
    assert [int(dataset.frame("observation.images.wrist", row)[0, 0, 0]) for row in range(3)] == [0, 10, 0]


def test_a_random_policy_keeps_to_the_limits_of_the_task(
    isaaclab: list[dict[str, Any]], registry: fla.Registry, tmp_path: Path
) -> None:
    del isaaclab
    options = {"task": TASK, "device": "cpu"}
    collect(registry, benchmark="isaaclab", policy="random", episodes=3, out=tmp_path / "out", options=options)
    dataset = registry.open_dataset(str(tmp_path / "out"))
    assert dataset is not None
    actions = dataset.column("action")
    assert np.abs(actions).max() <= 0.5 and len(np.unique(actions)) == actions.size


@pytest.mark.parametrize(
    ("embodiment", "options", "said"),
    [
        (None, {}, "say which task with --task"),
        (None, {"task": "Isaac-Lift-Cub-Franka-v0"}, f"did you mean '{TASK}'"),
        (None, {"task": TASK, "device": "cpu", "robot": "robt"}, "did you mean 'robot'"),
        ("aloha", {"task": TASK, "device": "cpu"}, "has 14 state dimensions .*, the simulated robot has 2"),
    ],
)
def test_what_does_not_fit_is_refused(
    embodiment: str | None,
    options: dict[str, Any],
    said: str,
    isaaclab: list[dict[str, Any]],
    registry: fla.Registry,
    tmp_path: Path,
) -> None:
    del isaaclab
    out = tmp_path / "out"
    with pytest.raises((ConfigError, UnknownNameError), match=said):
        collect(
            registry,
            benchmark="isaaclab",
            policy="random",
            embodiment=embodiment,
            episodes=1,
            out=out,
            options=options,
        )
    assert not out.exists()
