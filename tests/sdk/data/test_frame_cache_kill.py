"""A cache whose maker is killed goes on where it was and never gives a wrong frame. As a script: the victim."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from fla_sdk.data.frame_cache import CachedFrames
from fla_sdk.testing import MemoryDataset

ROWS, CAMERAS = 300, ("left", "right")
SHARDS = 10
LIMIT_S = 300


class Recording(MemoryDataset):
    """Two cameras. Asked for a frame when the cache has `deadly` shards, it kills its process."""

    def __init__(self, folder: Path, *, deadly: int = SHARDS + 1) -> None:
        rng = np.random.default_rng(0)
        self.images = {name: rng.integers(0, 256, (ROWS, 8, 8, 3), dtype=np.uint8) for name in CAMERAS}
        super().__init__({"state": np.zeros((ROWS, 2))}, lengths=[100, 200], fps=10, cameras=self.images)
        self.asked, self._folder, self._deadly = 0, folder, deadly

    def frame(self, name: str, row: int) -> NDArray[np.uint8]:
        self.asked += 1
        if len(list(self._folder.glob("*/shard-?????"))) >= self._deadly:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().frame(name, row)


def cached(recording: Recording, folder: Path) -> CachedFrames:
    """With plain bytes, so that every wrong pixel shows."""
    return CachedFrames(recording, CAMERAS, size=(8, 8), quality=None, folder=folder)


def builder(folder: Path, deadly: int) -> "subprocess.Popen[str]":
    command = [sys.executable, __file__, str(folder), str(deadly)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def check_all(frames: CachedFrames, recording: Recording) -> None:
    for camera in CAMERAS:
        np.testing.assert_array_equal([frames.frame(camera, row) for row in range(ROWS)], recording.images[camera])


@pytest.mark.parametrize("deadly", [0, 1, 8])
def test_a_killed_build_continues(deadly: int, tmp_path: Path) -> None:
    process = builder(tmp_path, deadly)
    said = process.communicate(timeout=LIMIT_S)
    assert process.returncode == -signal.SIGKILL, said
    recording = Recording(tmp_path)
    frames = cached(recording, tmp_path)
    assert len(list(tmp_path.glob("*/shard-?????"))) in (deadly, deadly + 1), "one thread may finish meanwhile"
    check_all(frames, recording)
    kept = {file: file.stat().st_mtime_ns for file in tmp_path.glob("*/shard-?????")}
    frames.build()
    assert frames.missing() == 0 and not frames.verify() and not list(tmp_path.rglob("*.part"))
    assert {file: file.stat().st_mtime_ns for file in kept} == kept, "what was there was not made again"
    asked = recording.asked
    check_all(frames, recording)
    assert recording.asked == asked, "every frame came from the cache"


def test_two_processes_at_once_make_it_once(tmp_path: Path) -> None:
    both = [builder(tmp_path, SHARDS + 1) for _ in range(2)]
    said = [process.communicate(timeout=LIMIT_S) for process in both]
    assert [process.returncode for process in both] == [0, 0], said
    assert sum(out.count(f"caching {2 * ROWS} frames of memory") for out, _ in said) == 1, said
    assert cached(Recording(tmp_path), tmp_path).missing() == 0


if __name__ == "__main__":
    cached(Recording(Path(sys.argv[1]), deadly=int(sys.argv[2])), Path(sys.argv[1])).build(threads=2)
