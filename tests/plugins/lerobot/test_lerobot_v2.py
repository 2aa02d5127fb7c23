"""Datasets of v2, read where they lie: what v3 spreads over shared files and Parquet tables."""

import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from fla_plugins.lerobot.reader import LeRobotDataset
from fla_sdk.errors import DataError, EpisodeError

CAMERAS = ("observation.images.front", "observation.images.wrist")
CHUNK = 2
DATA = "data/chunk-{chunk:03d}/episode_{episode:06d}.parquet"
VIDEO = "videos/chunk-{chunk:03d}/{camera}/episode_{episode:06d}.mp4"


def as_v2(v3: Path, v2: Path, version: str = "v2.1") -> Path:
    """The same recording in the older layout; two episodes to a chunk."""
    info = json.loads((v3 / "meta/info.json").read_text())
    table = pq.read_table(v3 / "meta/episodes/chunk-000/file-000.parquet").to_pylist()
    for row in table:
        episode, number = row["episode_index"], f"{row['data/file_index']:03d}"
        keys = {"chunk": episode // CHUNK, "episode": episode}
        (v2 / DATA.format(**keys)).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(v3 / f"data/chunk-000/file-{number}.parquet", v2 / DATA.format(**keys))
        for camera in CAMERAS if info["video_path"] else ():
            (v2 / VIDEO.format(camera=camera, **keys)).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(v3 / f"videos/{camera}/chunk-000/file-{number}.mp4", v2 / VIDEO.format(camera=camera, **keys))
    info |= {
        "codebase_version": version,
        "chunks_size": CHUNK,
        "data_path": "data/chunk-{episode_chunk:03d}/episode_{episode_index:06d}.parquet",
        "video_path": info["video_path"]
        and "videos/chunk-{episode_chunk:03d}/{video_key}/episode_{episode_index:06d}.mp4",
    }
    info["features"]["action"]["names"] = {"motors": ["shoulder", "elbow"]}
    (v2 / "meta").mkdir()
    (v2 / "meta/info.json").write_text(json.dumps(info))
    episodes = [{name: row[name] for name in ("episode_index", "tasks", "length")} for row in table]
    tasks = pq.read_table(v3 / "meta/tasks.parquet").to_pylist()
    for name, rows in {"episodes": episodes, "tasks": tasks}.items():
        (v2 / f"meta/{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return v2


@pytest.mark.parametrize("version", ["v2.0", "v2.1"])
@pytest.mark.parametrize("video", [False, True])
def test_both_layouts_have_the_same_contents(record, tmp_path, video, version):
    new = LeRobotDataset(record((3, 5, 4), video=video))
    path = as_v2(new.path, tmp_path / "v2", version)
    before = {file: file.stat().st_mtime_ns for file in path.rglob("*")}
    old = LeRobotDataset(path)
    assert old.fps == new.fps and old.robot == new.robot and dict(old.features) == dict(new.features)
    assert old.features["action"].names == ("shoulder", "elbow")
    assert not old.damaged and old.fingerprint == new.fingerprint
    np.testing.assert_array_equal(old.episode_bounds, new.episode_bounds)
    for name, feature in new.features.items():
        if not feature.is_camera:
            np.testing.assert_array_equal(old.column(name), new.column(name))
    for row in np.random.default_rng(0).permutation(len(new)).tolist():
        assert old.task(row) == new.task(row)
        for camera in CAMERAS:
            np.testing.assert_array_equal(old.frame(camera, row), new.frame(camera, row))
    assert {file: file.stat().st_mtime_ns for file in path.rglob("*")} == before


def test_cameras_whose_shape_begins_with_the_channels(record, tmp_path):
    path = as_v2(record(), tmp_path / "v2")
    info = json.loads((path / "meta/info.json").read_text())
    for camera, names in zip(CAMERAS, (["channels", "height", "width"], None), strict=True):
        info["features"][camera] |= {"shape": [3, 64, 96], "names": names}
    (path / "meta/info.json").write_text(json.dumps(info))
    dataset = LeRobotDataset(path)
    for camera in CAMERAS:
        assert dataset.features[camera].shape == dataset.frame(camera, 0).shape == (64, 96, 3)


def test_missing_files_are_damage_of_their_episodes(record, tmp_path):
    path = as_v2(record((3, 5, 4), video=True), tmp_path / "v2")
    (path / DATA.format(chunk=0, episode=0)).unlink()
    lost = path / VIDEO.format(chunk=1, episode=2, camera=CAMERAS[1])
    lost.unlink()
    dataset = LeRobotDataset(path)
    assert sorted(dataset.damaged) == [0, 2] and dataset.damaged[2] == f"missing file {lost}"
    assert dataset.frame(CAMERAS[1], 3).shape == (64, 96, 3)
    with pytest.raises(EpisodeError, match="episode 2, frame 1 of"):
        dataset.frame(CAMERAS[1], 9)


@pytest.mark.parametrize(
    ("file", "line", "words"),
    [
        ("tasks", b'{"task_index": 0, "task": "do \xff"}', "line 2: not valid JSON in UTF-8"),
        ("tasks", b'{"task_index": 0}', "line 2: 'task' is None"),
        ("episodes", b'{"episode_index": 1, "len', "line 2: not valid JSON"),
        ("episodes", b'{"episode_index": 1, "length": "5"}', "line 2: 'length' is '5', but must be int"),
        ("episodes", b'{"episode_index": 2, "length": 5}', "lacks episode 1"),
        ("episodes", b'{"episode_index": 1, "length": -1}', "episode 1 has -1 rows"),
    ],
)
def test_tables_that_are_damaged(record, tmp_path, file, line, words):
    path = as_v2(record((3, 5, 4)), tmp_path / "v2")
    table = path / f"meta/{file}.jsonl"
    lines = table.read_bytes().splitlines()
    table.write_bytes(b"\n".join([lines[0], line, *lines[2:]]))
    with pytest.raises(DataError, match=words) as caught:
        LeRobotDataset(path)
    assert f"{file}.jsonl" in str(caught.value)


@pytest.mark.parametrize("file", ["tasks", "episodes"])
def test_tables_that_are_missing(record, tmp_path, file):
    path = as_v2(record(), tmp_path / "v2")
    (path / f"meta/{file}.jsonl").unlink()
    with pytest.raises(DataError, match=f"missing file .*{file}.jsonl"):
        LeRobotDataset(path)


def test_an_episode_without_frames(record, tmp_path):
    path = as_v2(record((3, 5, 4)), tmp_path / "v2")
    data = path / DATA.format(chunk=1, episode=2)
    pq.write_table(pq.read_table(data).slice(0, 0), data)
    table = path / "meta/episodes.jsonl"
    table.write_text(table.read_text().replace('"length": 4', '"length": 0'))
    info = json.loads((path / "meta/info.json").read_text())
    (path / "meta/info.json").write_text(json.dumps(info | {"total_frames": 8}))
    dataset = LeRobotDataset(path)
    assert dict(dataset.damaged) == {2: "it has no frames"} and dataset.episode_bounds[2].tolist() == [8, 8]
    assert dataset.column("index")[:, 0].tolist() == list(range(8)) and dataset.fingerprint
