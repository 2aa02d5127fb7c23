"""Going on with a recording; rows of any columns; and episodes that several threads fill at once."""

import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

from fla_plugins.lerobot.reader import LeRobotDataset
from fla_plugins.lerobot.writer import EPISODES_PER_TABLE, LeRobotWriter
from fla_sdk.data.dataset import Feature
from fla_sdk.errors import DataError

COLUMNS = {
    "observation.images.eye": Feature(dtype="image", shape=()),
    "reward": Feature(dtype="float64", shape=(1,)),
    "grid": Feature(dtype="float32", shape=(2, 3)),
    "counts": Feature(dtype="int32", shape=(2,), names=("a", "b")),
    "success": Feature(dtype="bool", shape=(1,)),
    "note": Feature(dtype="string", shape=(1,)),
}


def row(episode: int, frame: int) -> dict[str, Any]:
    return {
        "observation.images.eye": np.full((16, 20, 3), 9 * episode + frame, np.uint8),
        "reward": np.float64(episode + frame / 3),
        "grid": np.full((2, 3), frame, np.float32) + np.arange(3, dtype=np.float32),
        "counts": np.array([episode, frame], np.int32),
        "success": np.array([frame == 2]),
        "note": f"row {frame}",
    }


def check(path, episodes: int) -> None:
    dataset = LeRobotDataset(path)
    assert len(dataset.episode_bounds) == episodes and len(dataset) == 3 * episodes
    for index in range(len(dataset)):
        wanted = row(*divmod(index, 3))
        np.testing.assert_array_equal(
            dataset.frame("observation.images.eye", index), wanted.pop("observation.images.eye")
        )
        assert dataset.task(index) == f"task {index // 3 % 2}"
        for name, value in wanted.items():
            np.testing.assert_array_equal(dataset.column(name)[index], np.reshape(value, COLUMNS[name].shape))


def test_rows_of_any_columns_and_more_of_them_later(tmp_path):
    for begin, end in ((0, 2), (2, 5)):
        with LeRobotWriter(tmp_path / "set", robot="arm", fps=12.5, columns=COLUMNS, append=True) as writer:
            assert writer.episodes == begin
            for episode in range(begin, end):
                for frame in range(3):
                    writer.add_row(row(episode, frame), task=f"task {episode % 2}")
                writer.save_episode()
    check(tmp_path / "set", 5)
    stats = json.loads((tmp_path / "set/meta/stats.json").read_text())
    np.testing.assert_allclose(stats["reward"]["mean"], [np.mean([e + f / 3 for e in range(5) for f in range(3)])])
    assert stats["observation.images.eye"]["count"] == [15] and "note" not in stats


def test_episodes_that_threads_fill_at_once(tmp_path):
    columns = COLUMNS | {"observation.images.film": Feature(dtype="video", shape=())}

    def fill(episode: int):
        draft = writer.begin()
        for frame in range(3):
            film = np.full((64, 64, 3), 40 * episode, np.uint8)
            draft.add_row(row(episode, frame) | {"observation.images.film": film}, task=f"task {episode % 2}")
        return draft

    with LeRobotWriter(tmp_path / "set", robot="arm", fps=10, columns=columns) as writer, ThreadPoolExecutor(3) as pool:
        for draft in pool.map(fill, range(6)):
            writer.commit(draft)
    check(tmp_path / "set", 6)
    dataset = LeRobotDataset(tmp_path / "set")
    for index in range(18):
        assert abs(dataset.frame("observation.images.film", index).mean() - 40 * (index // 3)) < 8
    assert not list(tmp_path.rglob("*.tmp"))


@pytest.mark.parametrize("video", [False, True])
def test_appended_episodes_follow_the_others(record, expected, tmp_path, video):
    path = record((3, 5), video=video)
    names = {"state_names": ("shoulder", "elbow", "gripper"), "action_names": ("shoulder", "elbow")}
    with LeRobotWriter(
        path, robot="arm", fps=10, **names, cameras=("front", "wrist"), video=video, append=True
    ) as writer:
        for frame in range(4):
            writer.add(*expected(2, frame))
        writer.save_episode()
    whole, other = LeRobotDataset(path), LeRobotDataset(record((3, 5, 4), video=video, name="at once"))
    assert whole.fingerprint == other.fingerprint
    for index in range(12):
        for camera in ("front", "wrist"):
            name = f"observation.images.{camera}"
            np.testing.assert_array_equal(whole.frame(name, index), other.frame(name, index))


def test_what_a_kill_left_uncounted_is_replaced(record, expected):
    path = record([2] * (EPISODES_PER_TABLE + 1))  # the last episode has a table of its own
    info = json.loads((path / "meta/info.json").read_text())
    (path / "meta/info.json").write_text(
        json.dumps(info | {"total_episodes": EPISODES_PER_TABLE - 1, "total_frames": 2 * EPISODES_PER_TABLE - 2})
    )
    names = {"state_names": ("shoulder", "elbow", "gripper"), "action_names": ("shoulder", "elbow")}
    for _ in range(2):
        with LeRobotWriter(path, robot="arm", fps=10, **names, cameras=("front", "wrist"), append=True) as writer:
            writer.add(*expected(500, 0))
            writer.save_episode()
    dataset = LeRobotDataset(path)
    assert len(dataset) == 2 * (EPISODES_PER_TABLE - 1) + 2
    assert dataset.column("action")[-3:, 0].tolist() == [EPISODES_PER_TABLE - 2, 500, 500]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"robot": "leg"}, ("robot is 'arm'", "'leg'")),
        ({"fps": 20}, ("fps is 10", "20")),
        ({"video": True}, ("images.front: image [64, 96, 3] there, video here",)),
        ({"cameras": ("front",)}, ("images.wrist: image [64, 96, 3] there, absent here",)),
        ({"action_names": ("elbow", "shoulder")}, ("(shoulder, elbow) there", "(elbow, shoulder) here")),
        ({"columns": {"success": Feature(dtype="bool", shape=(1,))}}, ("success: absent there, bool [1] here",)),
    ],
)
def test_appending_something_else_is_refused_with_both_sides(record, changes, words):
    path = record((3,))
    before = {file: file.read_bytes() for file in path.rglob("*") if file.is_file()}
    names = {"state_names": ("shoulder", "elbow", "gripper"), "action_names": ("shoulder", "elbow")}
    arguments = {"robot": "arm", "fps": 10, **names, "cameras": ("front", "wrist"), "append": True} | changes
    with pytest.raises(DataError, match="cannot append") as caught:
        LeRobotWriter(path, **arguments)
    for word in words:
        assert word in str(caught.value)
    assert {file: file.read_bytes() for file in path.rglob("*") if file.is_file()} == before


def test_an_empty_folder_and_what_a_kill_before_the_first_commit_left_are_begun(tmp_path):
    (tmp_path / "set/videos").mkdir(parents=True)
    (tmp_path / "set/videos/film-1.mp4.tmp").write_bytes(b"cut")
    with pytest.raises(DataError, match="not an empty folder"):
        LeRobotWriter(tmp_path / "set", robot="arm", fps=10, columns=COLUMNS)
    LeRobotWriter(tmp_path / "set", robot="arm", fps=10, columns=COLUMNS, append=True).close()
    (tmp_path / "set/notes.txt").write_text("mine")
    with pytest.raises(DataError, match="not an empty folder"):
        LeRobotWriter(tmp_path / "set", robot="arm", fps=10, columns=COLUMNS, append=True)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"reward": np.array([1.0, 2.0])}, r"reward has shape \[2\], but must be \[1\]"),
        ({"counts": np.array([1.0, 2.0])}, "counts is float64, but must be an integer type"),
        ({"success": 1}, "success is int64, but must be bool"),
        ({"note": 3}, "note is 3, but must be text"),
    ],
)
def test_a_row_that_does_not_fit_is_refused(tmp_path, changes, words):
    with LeRobotWriter(tmp_path / "set", robot="arm", fps=10, columns=COLUMNS) as writer:
        with pytest.raises(DataError, match=words):
            writer.add_row(row(0, 0) | changes, task="go")
        with pytest.raises(DataError, match="the row has no 'note'"):
            writer.add_row({name: value for name, value in row(0, 0).items() if name != "note"}, task="go")


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        ({"index": Feature(dtype="int64", shape=(1,))}, "'index' is made by the recorder"),
        ({"a/b": Feature(dtype="int64", shape=(1,))}, "'a/b' must not be empty, nor have a '/'"),
        ({"a": Feature(dtype="int64", shape=())}, "1 number is"),
        ({}, "state and action need"),
    ],
)
def test_columns_that_cannot_be_recorded(tmp_path, columns, words):
    with pytest.raises(DataError, match=words):
        LeRobotWriter(tmp_path / "set", robot="arm", fps=10, columns=columns)
    assert not (tmp_path / "set").exists()
