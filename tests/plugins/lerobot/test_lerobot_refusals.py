"""What the recorder refuses, with both sides in the message; and that a refusal costs nothing else."""

import numpy as np
import pytest

from fla_plugins.lerobot.reader import LeRobotDataset
from fla_plugins.lerobot.writer import LeRobotWriter
from fla_sdk.errors import DataError

NAMES = {"state_names": ("a", "b", "c"), "action_names": ("a", "b"), "cameras": ("front", "wrist")}


@pytest.fixture
def writer(tmp_path):
    with LeRobotWriter(tmp_path / "set", robot="arm", fps=10, **NAMES) as writer:
        yield writer


@pytest.mark.parametrize(
    ("changes", "action", "words"),
    [
        ({"images/wrist": None}, [1, 2], ("no 'images/wrist'", "images/front")),
        ({"state": None}, [1, 2], ("no 'state'",)),
        ({"task": ""}, [1, 2], ("task is ''",)),
        ({"state": np.zeros(4, np.float32)}, [1, 2], ("state has shape [4]", "[3]: a, b, c")),
        ({"state": np.zeros(3, int)}, [1, 2], ("state is int64", "floating")),
        ({"state": np.array([0, np.nan, 0], np.float32)}, [1, 2], ("state 'b' is nan",)),
        ({}, [1], ("action has shape [1]", "[2]: a, b")),
        ({}, [1, np.inf], ("action 'b' is inf",)),
        ({"images/front": np.zeros((64, 96, 3))}, [1, 2], ("front' is float64", "uint8")),
        ({"images/front": np.zeros((3, 64, 96), np.uint8)}, [1, 2], ("uint8 [3, 64, 96]", "[height, width, 3]")),
        ({"images/wrist": np.zeros((62, 96, 3), np.uint8)}, [1, 2], ("wrist' is [62, 96]", "dataset has [64, 96]")),
    ],
)
def test_a_moment_that_does_not_fit_is_refused_and_the_episode_goes_on(
    writer, tmp_path, expected, changes, action, words
):
    writer.add(*expected(0, 0))
    observation = {key: value for key, value in {**expected(0, 1)[0], **changes}.items() if value is not None}
    with pytest.raises(DataError) as caught:
        writer.add(observation, np.array(action, float))
    for word in (*words, "episode 0, frame 1", str(tmp_path)):
        assert word in str(caught.value)
    writer.add(*expected(0, 1))
    writer.save_episode()
    writer.close()
    assert LeRobotDataset(tmp_path / "set").column("action").tolist() == [[0, 0], [0, 0.5]]


def test_observations_are_copied_and_not_changed(writer, tmp_path, expected):
    observation, action = expected(0, 0)
    kept = {key: np.copy(value) for key, value in observation.items()}
    writer.add(observation, action)
    for key, value in kept.items():
        np.testing.assert_array_equal(observation[key], value)
    observation["state"][:], observation["images/front"][:], action[:] = 9, 9, 9  # environments reuse their buffers
    writer.save_episode()
    dataset = LeRobotDataset(tmp_path / "set")
    np.testing.assert_array_equal(dataset.column("observation.state")[0], kept["state"])
    np.testing.assert_array_equal(dataset.frame("observation.images.front", 0), kept["images/front"])
    assert dataset.column("action").tolist() == [[0, 0]]


def test_an_existing_folder_is_never_written_to(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    for path in (tmp_path, tmp_path / "notes.txt"):
        with pytest.raises(DataError, match="not an empty folder; record into another one"):
            LeRobotWriter(path, robot="arm", fps=10, **NAMES)
    assert [file.name for file in tmp_path.iterdir()] == ["notes.txt"]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"fps": 0}, "fps is 0"),
        ({"fps": float("nan")}, "fps is nan"),
        ({"state_names": ("a", "a")}, "state names"),
        ({"cameras": ("top/left",)}, "camera names"),
        ({"action_names": ()}, "at least one dimension"),
    ],
)
def test_a_dataset_that_makes_no_sense_is_refused_before_anything_is_created(tmp_path, changes, words):
    with pytest.raises(DataError, match=words):
        LeRobotWriter(tmp_path / "set", **{"robot": "arm", "fps": 10, **NAMES, **changes})
    assert not (tmp_path / "set").exists()


def test_an_empty_episode_and_a_closed_recording_are_refused(writer, expected):
    with pytest.raises(DataError, match="has no frames"):
        writer.save_episode()
    writer.close()
    writer.close()
    for call in (lambda: writer.add(*expected(0, 0)), writer.save_episode, writer.discard_episode):
        with pytest.raises(DataError, match="is closed"):
            call()


def test_video_of_odd_size_is_refused(tmp_path, expected):
    observation, action = expected(0, 0)
    observation["images/front"] = observation["images/front"][:-1]
    with LeRobotWriter(tmp_path / "set", robot="arm", fps=10, video=True, **NAMES) as writer:
        with pytest.raises(DataError, match="images are 63x96, but video needs even sizes"):
            writer.add(observation, action)
        writer.add(*expected(0, 0))
        writer.save_episode()
    assert LeRobotDataset(tmp_path / "set").features["observation.images.front"].shape == (64, 96, 3)


@pytest.mark.parametrize("video", [False, True])
def test_a_failing_disk_loses_the_episode_and_nothing_else(tmp_path, expected, video):
    path = tmp_path / "set"
    with LeRobotWriter(path, robot="arm", fps=10, video=video, **NAMES) as writer:
        for episode in range(3):
            if episode == 1:
                (path / "data/chunk-000/file-001.parquet.tmp").mkdir()  # the data file cannot be written
            for frame in range(3):
                writer.add(*expected(episode, frame))
            if episode == 1:
                with pytest.raises(DataError, match=r"cannot write episode 1 .*the 1 episodes before it are safe"):
                    writer.save_episode()
                (path / "data/chunk-000/file-001.parquet.tmp").rmdir()
            else:
                writer.save_episode()
    assert LeRobotDataset(path).column("action")[:, 0].tolist() == [0, 0, 0, 2, 2, 2]
