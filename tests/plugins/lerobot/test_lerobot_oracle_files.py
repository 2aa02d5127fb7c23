"""The `lerobot` library reads whatever we wrote, mended or moved; and what it left when it was killed can be mended."""

import os
import shutil
import subprocess
import sys

import numpy as np
import pytest

from fla_plugins.lerobot.compaction import copy_episodes
from fla_plugins.lerobot.reader import LeRobotDataset
from fla_plugins.lerobot.repair import repair
from fla_plugins.lerobot.writer import LeRobotWriter
from fla_sdk.data.dataset import Feature

from .test_lerobot_oracle import NAMES, check_against, moments

pytestmark = pytest.mark.slow  # importing lerobot alone takes 10 s


def test_killed_recordings(library, killed):
    for recording in killed.values():
        check_against(library, recording.path)


def test_killed_recordings_that_were_repaired(library, killed, tmp_path):
    for name in ("step-2", "step-5", "line-0", "line-1", "line-7"):
        path = shutil.copytree(killed[name].path, tmp_path / name)
        repair(path)
        check_against(library, path)


@pytest.mark.parametrize("kind", ["image", "video"])
def test_packed_cut_and_continued(library, tmp_path, kind):
    path, arguments = tmp_path / "set", {"robot": "arm", "fps": 20, "cameras": ("front", "wrist")}
    columns = {
        "reward": Feature(dtype="float32", shape=(1,)),
        "grid": Feature(dtype="float32", shape=(2, 3)),
        "done": Feature(dtype="bool", shape=(1,)),
        "level": Feature(dtype="int16", shape=(4,)),
        "phase": Feature(dtype="string", shape=(1,)),
    }
    arguments |= {"state_names": NAMES, "action_names": NAMES[:2], "video": kind == "video", "columns": columns}
    episodes = list(moments())
    for part in (episodes[:4], episodes[4:]):
        with LeRobotWriter(path, **arguments, append=True) as writer:
            for episode in part:
                for row in episode:
                    writer.add(row, row["action"])
                writer.save_episode()
    check_against(library, path)
    copy_episodes(path, tmp_path / "packed")
    check_against(library, tmp_path / "packed")
    copy_episodes(tmp_path / "packed", tmp_path / "part", [1, 3, 4])
    check_against(library, tmp_path / "part")


KILLED = """
import os, sys
from pathlib import Path
import numpy as np
from lerobot.datasets import LeRobotDataset

recorders = []
for kind in ("image", "video"):
    features = {
        "observation.state": {"dtype": "float32", "shape": (2,), "names": ["a", "b"]},
        "action": {"dtype": "float32", "shape": (2,), "names": ["a", "b"]},
        "done": {"dtype": "bool", "shape": (1,), "names": None},
        "grid": {"dtype": "float32", "shape": (2, 3), "names": None},
        "observation.images.eye": {"dtype": kind, "shape": (64, 96, 3), "names": ["height", "width", "channels"]},
    }
    options = {"root": Path(sys.argv[1]) / kind, "use_videos": kind == "video", "video_backend": "pyav"}
    recorder = LeRobotDataset.create("local/set", 20, features, **options)
    recorders.append(recorder)
    for episode in range(12):
        for row in range(4 + episode % 3):
            cells = {"observation.state": np.float32([episode, row]), "action": np.float32([episode, row])}
            cells |= {"done": np.array([row == 3]), "grid": np.full((2, 3), row, np.float32)}
            image = np.full((64, 96, 3), 20 * episode, np.uint8)
            recorder.add_frame(cells | {"observation.images.eye": image, "task": f"task {episode % 2}"})
        recorder.save_episode(parallel_encoding=False)
os._exit(9)
"""


def test_what_the_library_leaves_when_it_is_killed_is_all_found_again(library, tmp_path):
    """Twelve saved episodes; neither the data file nor the episode table was closed."""
    command = [sys.executable, "-c", KILLED, str(tmp_path)]
    process = subprocess.run(command, timeout=200, check=False, capture_output=True, env={**os.environ})
    assert process.returncode == 9, process.stderr
    for kind in ("image", "video"):
        path = tmp_path / kind
        lines = "\n".join(repair(path))
        assert "was not closed by its recorder; 60 rows were found" in lines and "left out" not in lines
        check_against(library, path)
        dataset = LeRobotDataset(path)
        assert len(dataset.episode_bounds) == 12
        for episode, (begin, end) in enumerate(dataset.episode_bounds):
            for row in (begin, end - 1):
                assert abs(dataset.frame("observation.images.eye", row).mean() - 20 * episode) < 4
                assert dataset.task(row) == f"task {episode % 2}"
                assert dataset.column("grid")[row, 0, 0] == row - begin
        assert (dataset.column("done")[:, 0] == (dataset.column("frame_index")[:, 0] == 3)).all()
        assert np.isfinite(dataset.column("observation.state")).all()
