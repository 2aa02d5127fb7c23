"""Compacting and splitting: the same rows and the same frames, bit for bit, in other files; whole or not at all."""

import json
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import av
import numpy as np
import pyarrow.parquet as pq
import pytest

from fla_plugins.lerobot import compaction
from fla_plugins.lerobot.compaction import copy_episodes
from fla_plugins.lerobot.reader import LeRobotDataset
from fla_plugins.lerobot.repair import repair
from fla_plugins.lerobot.video_reader import read_index
from fla_sdk.cli import main
from fla_sdk.data.splits import held_out
from fla_sdk.errors import DataError

from .test_lerobot_v2 import as_v2

LENGTHS = (3, 5, 4, 1, 6)
CAMERAS = ("observation.images.front", "observation.images.wrist")


def same(whole: Path, part: Path, episodes: list[int]) -> None:
    """`part` has these episodes of `whole`: rows, frames, tasks."""
    one, other = LeRobotDataset(whole), LeRobotDataset(part)
    rows = np.concatenate([np.arange(*one.episode_bounds[episode]) for episode in episodes])
    assert np.diff(other.episode_bounds).ravel().tolist() == [LENGTHS[episode] for episode in episodes]
    for name in ("observation.state", "action", "timestamp", "frame_index"):
        np.testing.assert_array_equal(other.column(name), one.column(name)[rows])
    for new, old in enumerate(rows.tolist()):
        assert other.task(new) == one.task(old)
        for camera in CAMERAS:
            np.testing.assert_array_equal(other.frame(camera, new), one.frame(camera, old))
    assert not list(part.parent.glob("*.tmp"))


def count(path: Path, pattern: str) -> int:
    return len(list(path.glob(pattern)))


@pytest.mark.parametrize("video", [False, True])
def test_many_files_become_few(record, video, capsys):
    path = record(LENGTHS, video=video)
    (path / "README.md").write_text("mine")
    stats = (path / "meta/stats.json").read_bytes()
    assert main(["data", "compact", str(path)]) == 0
    original = path.with_name("set.original")
    assert f"in {path}; remove {original} when" in capsys.readouterr().out
    same(original, path, list(range(5)))
    assert LeRobotDataset(path).fingerprint == LeRobotDataset(original).fingerprint
    assert count(path, "data/*/*.parquet") == 1 and count(path, "videos/*/*/*.mp4") == (2 if video else 0)
    assert (path / "README.md").read_text() == "mine" and (path / "meta/stats.json").read_bytes() == stats
    assert pq.ParquetFile(path / "data/chunk-000/file-000.parquet").metadata.num_row_groups == 5
    assert main(["data", "compact", str(path)]) == 1  # the original would be overwritten
    assert "set.original exists" in capsys.readouterr().err


@pytest.mark.parametrize("video", [False, True])
def test_files_are_filled_up_to_a_size_and_begin_with_an_episode(record, tmp_path, monkeypatch, video):
    path = record(LENGTHS, video=video)
    monkeypatch.setattr(compaction, "DATA_BYTES", 2000)
    monkeypatch.setattr(compaction, "VIDEO_BYTES", 1300)
    monkeypatch.setattr(compaction, "FILES_PER_CHUNK", 2)
    copy_episodes(path, tmp_path / "out")
    same(path, tmp_path / "out", list(range(5)))
    files = tmp_path.glob("out/videos/*front/*/*.mp4" if video else "out/data/*/*.parquet")
    places = {f"{file.parent.name}/{file.stem}" for file in files}
    assert {"chunk-000/file-000", "chunk-000/file-001", "chunk-001/file-000"} <= places and len(places) <= 5


@pytest.mark.parametrize("video", [False, True])
def test_a_dataset_of_v2_becomes_one_of_v3(record, tmp_path, video):
    path, out = as_v2(record(LENGTHS, video=video), tmp_path / "v2"), tmp_path / "out"
    copy_episodes(path, out)
    same(path, out, list(range(5)))
    info = json.loads((out / "meta/info.json").read_text())
    assert info["codebase_version"] == "v3.0" and not list(out.glob("meta/*.jsonl"))
    assert repair(out) == []


def test_frames_are_shown_at_their_number_over_the_rate(record, tmp_path):
    """By which the lerobot library finds them."""
    copy_episodes(record(LENGTHS, video=True, fps=12.5), tmp_path / "out")
    file = tmp_path / "out/videos/observation.images.front/chunk-000/file-000.mp4"
    times: list[float | None] = []
    with av.open(str(file)) as container:
        times += [frame.time for frame in container.decode(video=0)]
    np.testing.assert_allclose(np.array(times, float), np.arange(19) / 12.5, atol=1e-9)


def reordered(file: Path, *, frames: int) -> None:
    """An H.264 file with few key frames and B frames."""
    scene = np.random.default_rng(0).integers(0, 256, (64, 96, 3), np.uint8)
    with av.open(str(file), "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=10, options={"g": "250", "bf": "3", "x264-params": "b-adapt=0"})
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
        for i in range(frames):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.roll(scene, 3 * i, 1), format="rgb24")))
        container.mux(stream.encode())


@pytest.fixture
def shuffled(record) -> Path:
    """A video dataset whose frames are decoded in another order than shown."""
    path = record(LENGTHS, video=True)
    for camera in CAMERAS:
        for number, length in enumerate(LENGTHS):
            reordered(path / f"videos/{camera}/chunk-000/file-{number:03d}.mp4", frames=length)
    index = read_index(path / f"videos/{CAMERAS[0]}/chunk-000/file-004.mp4")
    assert index.shown.tolist() != sorted(index.shown.tolist())
    return path


def test_reordered_frames_are_copied_too(shuffled, tmp_path):
    copy_episodes(shuffled, tmp_path / "out")
    same(shuffled, tmp_path / "out", list(range(5)))
    copy_episodes(tmp_path / "out", tmp_path / "part", [1, 4])
    same(shuffled, tmp_path / "part", [1, 4])


def test_an_episode_that_does_not_begin_at_a_key_frame_is_refused(shuffled, tmp_path):
    """Two episodes in one file that was encoded in one go: the second needs the frames of the first."""
    copy_episodes(shuffled, tmp_path / "pair", [1, 2])
    for camera in CAMERAS:
        reordered(tmp_path / f"pair/videos/{camera}/chunk-000/file-000.mp4", frames=9)
    with pytest.raises(DataError, match=r"episode 1 \(from frame 5, 4 frames\) does not begin and end between key"):
        copy_episodes(tmp_path / "pair", tmp_path / "part", [1])
    assert not (tmp_path / "part").exists()


@pytest.mark.parametrize("video", [False, True])
def test_a_share_is_held_out(record, tmp_path, video, capsys):
    path, out = record(LENGTHS, video=video), tmp_path / "out"
    held = np.flatnonzero(held_out(LeRobotDataset(path).episode_bounds, [""] * 5, 0.4, "episode", 3)).tolist()
    assert main(["data", "split", str(path), "--hold-out", "0.4", "--seed", "3", "--out", str(out)]) == 0
    assert f"3 episodes in {out / 'train'}, 2 in {out / 'held_out'}" in capsys.readouterr().out
    same(path, out / "held_out", held)
    same(path, out / "train", [episode for episode in range(5) if episode not in held])
    stats = json.loads((out / "held_out/meta/stats.json").read_text())
    actions = LeRobotDataset(out / "held_out").column("action")
    np.testing.assert_allclose(stats["action"]["mean"], actions.mean(0, dtype=float))
    assert stats["action"]["count"] == [len(actions)] == stats[CAMERAS[0]]["count"]


def test_tasks_are_held_out_and_numbered_anew(record, tmp_path):
    path, out = record(LENGTHS), tmp_path / "out"
    assert main(["data", "split", str(path), "--hold-out", "0.5", "--by", "task", "--out", str(out)]) == 0
    parts = [LeRobotDataset(out / name) for name in ("train", "held_out")]
    tasks = [{part.task(row) for row in range(len(part))} for part in parts]
    assert sorted(map(len, tasks)) == [1, 1] and tasks[0] != tasks[1]
    assert all((part.column("task_index") == 0).all() for part in parts)


def test_some_episodes(record, tmp_path, capsys):
    path = record(LENGTHS)
    assert main(["data", "split", str(path), "--episodes", "1:3,4", "--out", str(tmp_path / "out")]) == 0
    same(path, tmp_path / "out", [1, 2, 4])
    assert main(["data", "split", str(path), "--episodes", "1:9", "--out", str(tmp_path / "more")]) == 1
    assert "no episode 8 (the dataset has 0 to 4)" in capsys.readouterr().err
    assert main(["data", "split", str(path), "--episodes", "1", "--out", str(tmp_path / "out")]) == 1
    assert "not an empty folder" in capsys.readouterr().err


def test_what_is_damaged_or_no_dataset_is_refused(record, tmp_path, capsys):
    path = record(LENGTHS, video=True)
    video = path / f"videos/{CAMERAS[0]}/chunk-000/file-001.mp4"
    shutil.copy(video.with_name("file-002.mp4"), video)
    with pytest.raises(DataError, match="holds 4 frames, but its episodes have 5 rows; run `fla data repair` first"):
        copy_episodes(path, tmp_path / "out")
    assert main(["data", "compact", str(tmp_path / "absent")]) == 1
    assert "no folder at" in capsys.readouterr().err
    assert not list(tmp_path.glob("out*"))
    with pytest.raises(DataError, match="no episode was chosen"):
        copy_episodes(path, tmp_path / "out", [])


KILLED = """
import os, signal, sys
from pathlib import Path
from fla_plugins.lerobot import compaction

write = compaction.write_frames

def deadly(*arguments, **options):
    write(*arguments, **options)
    os.kill(os.getpid(), signal.SIGKILL)

compaction.write_frames = deadly
compaction.copy_episodes(Path(sys.argv[1]), Path(sys.argv[2]))
"""


def test_a_copy_that_is_killed_does_not_exist_and_may_be_made_again(record, tmp_path):
    path, out = record(LENGTHS, video=True), tmp_path / "out"
    command = [sys.executable, "-c", KILLED, str(path), str(out)]
    assert subprocess.run(command, timeout=300, check=False, capture_output=True).returncode == -signal.SIGKILL
    assert not out.exists() and (tmp_path / "out.tmp").exists()
    copy_episodes(path, out)
    same(path, out, list(range(5)))
