"""A recorder killed at any instant leaves every saved episode readable, and nothing of the others."""

import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from fla_plugins.lerobot.reader import LeRobotDataset

RECORDER = """
import os, signal, sys
from pathlib import Path
import numpy as np
from fla_plugins.lerobot.writer import LeRobotWriter

path, video, deadly = Path(sys.argv[1]), sys.argv[2] == "video", int(sys.argv[3])
rename, renames = os.replace, 0

def counted(*arguments):
    global renames
    if renames == deadly:
        os.kill(os.getpid(), signal.SIGKILL)
    renames += 1
    rename(*arguments)

names = {"state_names": ("e", "t"), "action_names": ("e",), "cameras": ("a", "b")}
writer = LeRobotWriter(path, robot="arm", fps=20, video=video, **names)
for episode in range(100_000):
    for frame in range(4):
        image = np.full((16, 16, 3), 40 * frame, np.uint8)
        observation = {"images/a": image, "images/b": image, "task": f"task {episode}"}
        observation["state"] = np.float32([episode, frame])
        writer.add(observation, np.float32([-episode]))
    if episode == 1:
        os.replace = counted  # from here on, count the steps of this commit
    writer.save_episode()
    print(episode + 1, flush=True)
"""


def recorder(path: Path, kind: str, deadly: int) -> "subprocess.Popen[str]":
    command = [sys.executable, "-c", RECORDER, str(path), kind, str(deadly)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def check(path: Path, saved: int) -> int:
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


@pytest.mark.parametrize(
    ("deadly", "before"),
    [*enumerate(["data", "first video", "second video", "tasks", "episode table", "info", "statistics"])],
)
def test_killed_between_the_steps_of_a_commit(tmp_path, deadly, before):
    process = recorder(tmp_path / "set", "video", deadly)
    output, errors = process.communicate(timeout=60)
    assert process.returncode == -signal.SIGKILL, errors
    saved = len(output.split())
    assert saved == 1
    assert check(tmp_path / "set", saved) == (2 if before == "statistics" else 1)


@pytest.mark.parametrize("kind", ["images", "video"])
def test_killed_from_outside_in_the_middle_of_recording(tmp_path, kind):
    process = recorder(tmp_path / "set", kind, -1)
    assert process.stdout is not None
    for _ in range(7):
        process.stdout.readline()
    process.kill()
    output, errors = process.communicate(timeout=60)
    assert process.returncode == -signal.SIGKILL, errors
    assert check(tmp_path / "set", 7 + len(output.split())) >= 7
