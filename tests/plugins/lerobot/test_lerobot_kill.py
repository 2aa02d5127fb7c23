"""A recorder killed at any instant leaves every saved episode readable, and nothing of the others."""

import os
import shutil
from typing import Any

import numpy as np
import pytest

from fla_plugins.lerobot.reader import LeRobotDataset
from fla_plugins.lerobot.repair import repair
from fla_plugins.lerobot.writer import LeRobotWriter

from .killed import LINES, STEPS


@pytest.fixture(autouse=True)
def _no_flushes(monkeypatch):
    """They help against power cuts, not against kills, and take a busy disk seconds."""
    monkeypatch.setattr(os, "fsync", lambda _: None)


def check(path, saved: int) -> int:
    """The dataset holds the saved episodes, at most one more, and all their frames. Returns the number of episodes."""
    dataset = LeRobotDataset(path)
    episodes = len(dataset.episode_bounds)
    assert saved <= episodes <= saved + 1
    numbers = np.repeat(np.arange(episodes), 4)
    np.testing.assert_array_equal(dataset.column("action")[:, 0], -numbers)
    np.testing.assert_array_equal(dataset.column("observation.state")[:, 0], numbers)
    for row in range(len(dataset) - 4, len(dataset)):
        assert dataset.task(row) == f"task {episodes - 1}"
        for camera in ("a", "b"):
            assert abs(dataset.frame(f"observation.images.{camera}", row).mean() - 40 * (row % 4)) < 8
    return episodes


@pytest.mark.parametrize("step", STEPS)
def test_killed_between_the_steps_of_a_commit(killed, step):
    recording = killed[f"step-{STEPS.index(step)}"]
    assert recording.saved == 1
    assert check(recording.path, 1) == (2 if step == "statistics" else 1)


def test_killed_at_any_line_of_the_recorder(killed):
    """All that was saved is there, and in step."""
    recordings = [killed[f"line-{number}"] for number in range(LINES)]
    assert {recording.saved for recording in recordings} >= {2, 3}
    for recording in recordings:
        check(recording.path, recording.saved)


def test_a_killed_recording_can_be_repaired_and_loses_nothing(killed, tmp_path):
    for name, recording in killed.items():
        copy = shutil.copytree(recording.path, tmp_path / name)
        repair(copy)
        assert check(copy, recording.saved) >= check(recording.path, recording.saved)
        assert repair(copy) == []


def test_a_killed_recording_goes_on(killed, tmp_path):
    names: dict[str, Any] = {"state_names": ("e", "t"), "action_names": ("e", "z"), "cameras": ("a", "b")}
    for name, recording in killed.items():
        copy, video = shutil.copytree(recording.path, tmp_path / name), recording.video
        episodes = check(copy, recording.saved)
        with LeRobotWriter(copy, robot="arm", fps=20, video=video, **names, append=True) as writer:
            for row in range(4):
                image = np.full((32, 32, 3), 40 * row, np.uint8)
                observation = {"images/a": image, "images/b": image, "task": f"task {episodes}"}
                observation["state"] = np.array([episodes, row], np.float32)
                writer.add(observation, np.array([-episodes, 0], np.float32))
            writer.save_episode()
        assert check(copy, episodes + 1) == episodes + 1
