"""Damage is named with its file: of all episodes when opening, of single ones without stopping the others."""

import json
import shutil
from pathlib import Path

import av
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fla_plugins.lerobot.reader import LeRobotDataset
from fla_sdk.errors import DataError, EpisodeError, UnknownNameError

DATA = "data/chunk-000/file-001.parquet"
VIDEO = "videos/observation.images.front/chunk-000/file-001.mp4"
EPISODES = "meta/episodes/chunk-000/file-000.parquet"


def edit_info(path: Path, **changes: object) -> None:
    file = path / "meta/info.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


def edit_column(file: Path, name: str, row: int, value: object) -> None:
    table = pq.read_table(file)
    index = table.schema.get_field_index(name)
    values = table[name].to_pylist()
    values[row] = value
    pq.write_table(table.set_column(index, table.field(index), pa.array(values, table.field(index).type)), file)


def declare(path: Path, **changes: object) -> None:
    """Change what info.json says about the front camera."""
    info = json.loads((path / "meta/info.json").read_text())
    info["features"]["observation.images.front"] |= changes
    edit_info(path, features=info["features"])


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def refused(path: Path, *words: str) -> None:
    """The dataset cannot be opened."""
    before = sorted(path.parent.rglob("*"))
    with pytest.raises(DataError) as caught:
        LeRobotDataset(path)
    for word in words:
        assert word in str(caught.value)
    assert sorted(path.parent.rglob("*")) == before


def unreadable(path: Path, *words: str, frame: int = 2) -> LeRobotDataset:
    """A frame of episode 1 cannot be had, and those of the others can."""
    dataset = LeRobotDataset(path)
    with pytest.raises(EpisodeError, match=f"episode 1, frame {frame} of 'observation.images.front'") as caught:
        dataset.frame("observation.images.front", int(dataset.episode_bounds[1, 0]) + frame)
    assert caught.value.episode == 1
    for word in words:
        assert word in str(caught.value)
    for episode in (0, 2):
        dataset.frame("observation.images.front", int(dataset.episode_bounds[episode, 0]))
    return dataset


def damaged(path: Path, *words: str) -> LeRobotDataset:
    """Episode 1 is known to be damaged from the start."""
    dataset = unreadable(path, *words)
    assert list(dataset.damaged) == [1]
    for word in words:
        assert word in dataset.damaged[1]
    assert dataset.column("action").shape == (len(dataset), 2)
    return dataset


def bad_columns(path: Path, *words: str, episode: int = 1) -> None:
    """Columns cannot be read; that is found when they are."""
    dataset = LeRobotDataset(path)
    assert not dataset.damaged
    with pytest.raises(EpisodeError) as caught:
        dataset.column("action")
    assert caught.value.episode == episode
    for word in words:
        assert word in str(caught.value)


def test_a_path_that_is_not_there_is_named_and_not_created(tmp_path):
    refused(tmp_path / "absent", "absent", "no dataset folder")


def test_a_folder_without_info_is_no_dataset(tmp_path):
    refused(tmp_path, "meta/info.json", "not a LeRobot dataset")


def test_info_that_is_not_json(record):
    path = record()
    cut(path / "meta/info.json")
    refused(path, "meta/info.json", "not valid JSON")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"codebase_version": "v1.6"}, ("v1.6", "convert")),
        ({"codebase_version": "v4.0"}, ("v4.0", "update fla-sdk")),
        ({"fps": 0}, ("fps is 0", "above 0")),
        ({"fps": "30"}, ("'fps' is '30'", "int or float")),
        ({"total_episodes": None}, ("'total_episodes' is None",)),
        ({"features": {}}, ("features lack", "timestamp")),
        ({"data_path": "data/{episode}.parquet"}, ("data/{episode}.parquet", "file_index")),
        ({"total_frames": 13}, ("counts 13 frames", "12 rows")),
        ({"total_episodes": 4}, ("counts 4 episodes", "lacks episode 3")),
        ({"total_episodes": 0}, ("0 episodes", "nothing to read")),
    ],
)
def test_info_that_contradicts_the_reader_or_the_data(record, changes, words):
    path = record()
    edit_info(path, **changes)
    refused(path, "meta/info.json", *words)


def test_a_missing_data_file(record, expected):
    path = record()
    (path / DATA).unlink()
    dataset = damaged(path, DATA, "missing file")
    assert not dataset.column("action")[3:8].any() and not dataset.column("index")[3:8].any()
    np.testing.assert_array_equal(dataset.column("action")[8], expected(2, 0)[1])
    assert dataset.task(8) == "do task 0"


def test_a_data_file_that_is_cut_short(record):
    path = record()
    cut(path / DATA)
    damaged(path, DATA, "damaged or cut short", "copy or download it again")


def test_a_data_file_with_fewer_rows_than_its_episode(record):
    path = record()
    pq.write_table(pq.read_table(path / DATA).slice(1), path / DATA)
    damaged(path, DATA, "holds 4 rows", "gives its episodes 5")


@pytest.mark.parametrize("file", [EPISODES, "meta/tasks.parquet"])
def test_a_table_that_is_cut_short(record, file):
    path = record()
    cut(path / file)
    refused(path, file, "damaged or cut short", "copy or download it again")


@pytest.mark.parametrize("file", ["meta/tasks.parquet", EPISODES])
def test_missing_tables(record, file):
    path = record()
    (path / file).unlink()
    refused(path, str(Path(file).parts[1]).split(".")[0], "missing file")


def test_nothing_but_metadata(record):
    path = record()
    shutil.rmtree(path / "data")
    refused(path, "all 3 episodes are damaged", "missing file", "file-000.parquet")


def test_a_data_file_in_the_place_of_another(record):
    path = record((5, 5, 4))
    (path / DATA).write_bytes((path / "data/chunk-000/file-000.parquet").read_bytes())
    bad_columns(path, DATA, "episode_index is 0", "expects 1")


def test_a_column_that_is_missing_or_has_another_width_or_empty_cells(record):
    path = record()
    table = pq.read_table(path / DATA)
    pq.write_table(table.rename_columns({"action": "actions"}), path / DATA)
    bad_columns(path, DATA, "no column 'action'", "nearest is 'actions'")
    for values, kind, words in [
        ([[1.0]] * 5, pa.list_(pa.float32()), ("5 numbers in 5 rows", "[2]")),
        (
            [[1.0, 2.0]] * 3 + [[1.0]] + [[1.0, 2.0, 3.0]],
            pa.list_(pa.float32()),
            ("2 values in one row and 1 in", "[2]"),
        ),
        ([None] * 5, pa.list_(pa.float32(), 2), ("'action' has empty cells",)),
    ]:
        pq.write_table(table.set_column(1, "action", pa.array(values, kind)), path / DATA)
        bad_columns(path, DATA, *words)


def test_rows_that_refer_to_no_task(record):
    path = record()
    edit_column(path / DATA, "task_index", 2, 9)
    with pytest.raises(DataError, match=r"meta/tasks.parquet has no task 9, which row 5 refers to"):
        LeRobotDataset(path).task(0)


def test_a_task_that_is_not_text(record):
    path = record()
    table = pq.read_table(path / "meta/tasks.parquet")
    broken = pa.array([b"do \xff", b"do"]).view(pa.string())
    pq.write_table(table.set_column(1, "task", broken), path / "meta/tasks.parquet")
    refused(path, "meta/tasks.parquet", "not text in UTF-8")


def test_an_episode_table_that_contradicts_itself(record):
    path = record()
    edit_column(path / EPISODES, "dataset_from_index", 1, 4)
    refused(path, "meta/episodes", "episode 1", "row 4", "sum to 3")


def test_an_episode_without_frames(record):
    path = record()
    for name, values in {
        "length": [3, 0, 4],
        "dataset_from_index": [0, 3, 3],
        "dataset_to_index": [3, 3, 7],
        "data/file_index": [0, 0, 2],
    }.items():
        for episode, value in enumerate(values):
            edit_column(path / EPISODES, name, episode, value)
    edit_column(path / "data/chunk-000/file-002.parquet", "index", 0, 3)
    edit_info(path, total_frames=7)
    dataset = LeRobotDataset(path)
    assert dict(dataset.damaged) == {1: "it has no frames"}
    assert dataset.frame("observation.images.front", 3).shape == (64, 96, 3)


def test_an_image_that_is_missing_or_damaged(record):
    path = record()
    edit_column(path / DATA, "observation.images.front", 2, {"bytes": b"no image", "path": None})
    unreadable(path, DATA, "observation.images.front", "row 2 of the file", "cannot be decoded")
    edit_column(path / DATA, "observation.images.front", 2, {"bytes": None, "path": "images/lost.png"})
    unreadable(path, "images/lost.png", "missing file")
    edit_column(path / DATA, "observation.images.front", 2, {"bytes": None, "path": None})
    unreadable(path, DATA, "holds no image")


def test_frames_of_another_size_than_declared(record):
    path = record()
    declare(path, shape=[96, 64, 3])
    with pytest.raises(EpisodeError, match=r"episode 0, frame 1 .* is \[64, 96, 3\], but .* declares \[96, 64, 3\]"):
        LeRobotDataset(path).frame("observation.images.front", 1)


@pytest.mark.parametrize("key", ["is_depth_map", "video.is_depth_map"])
def test_depth_is_not_read_as_colour(record, key):
    path = record(video=True)
    declare(path, info={key: True})
    with pytest.raises(DataError, match=r"'observation.images.front' is a depth camera"):
        LeRobotDataset(path).frame("observation.images.front", 0)


def test_a_missing_video_is_found_when_opening(record):
    path = record(video=True)
    (path / VIDEO).unlink()
    dataset = damaged(path, VIDEO, "missing file")
    assert dataset.column("action")[3:8].any()  # the columns of the episode are as good as ever


def test_a_missing_depth_video_does_no_harm(record):
    path = record(video=True)
    declare(path, info={"is_depth_map": True})
    (path / VIDEO).unlink()
    assert not LeRobotDataset(path).damaged


def test_a_video_that_is_cut_short(record):
    path = record(video=True)
    cut(path / VIDEO)
    unreadable(path, VIDEO, "damaged or cut short")


def test_a_video_whose_last_frames_are_cut_off(record):
    """The tables of the file are whole, as they stand before the frames."""
    path = record((3, 9, 4), video=True)
    with av.open(str(path / VIDEO), "w", options={"movflags": "faststart"}) as container:
        stream = container.add_stream("libx264", rate=10, options={"g": "2", "bf": "0"})
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
        for _ in range(9):
            image = np.random.default_rng(0).integers(0, 256, (64, 96, 3), np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode())
    (path / VIDEO).write_bytes((path / VIDEO).read_bytes()[:-20])
    unreadable(path, VIDEO, "frame 8 should end at byte", frame=8)
    assert LeRobotDataset(path).frame("observation.images.front", 3).shape == (64, 96, 3)


def test_a_video_with_other_frames_than_rows(record):
    path = record((3, 5, 4), video=True)
    (path / VIDEO).write_bytes((path / VIDEO.replace("001", "002")).read_bytes())
    unreadable(path, VIDEO, "holds 4 frames", "have 5 rows")


def test_a_video_of_another_rate(record):
    path = record((3, 5, 4), video=True)
    fast = record((3, 5, 4), video=True, fps=20, name="fast")
    (path / VIDEO).write_bytes((fast / VIDEO).read_bytes())
    unreadable(path, VIDEO, "20 frames per second", "declares 10")


def test_of_a_video_that_many_episodes_share_and_that_ends_early_the_first_episodes_can_be_read(record):
    """With the time stamps of the table as LeRobot writes them: the episodes before the fault have all their frames."""
    path = record((6, 5, 5), video=True)
    one = record((14,), video=True, name="one")
    for camera in ("front", "wrist"):
        for i, (begin, end) in enumerate([(0.0, 0.6), (0.6, 1.1), (1.1, 1.4)]):
            prefix = f"videos/observation.images.{camera}"
            for name, value in {"file_index": 0, "from_timestamp": begin, "to_timestamp": end}.items():
                edit_column(path / EPISODES, f"{prefix}/{name}", i, value)
        file = f"videos/observation.images.{camera}/chunk-000/file-000.mp4"
        (path / file).write_bytes((one / file).read_bytes())
    dataset, whole = LeRobotDataset(path), LeRobotDataset(one)
    for row in (0, 5, 6, 10):
        image = dataset.frame("observation.images.front", row)
        np.testing.assert_array_equal(image, whole.frame("observation.images.front", row))
    for row in (11, 15):
        with pytest.raises(EpisodeError, match="holds 14 frames, but its episodes have 16 rows") as caught:
            dataset.frame("observation.images.front", row)
        assert caught.value.episode == 2


def test_asking_for_what_is_not_there_offers_the_nearest_name(record):
    dataset = LeRobotDataset(record())
    with pytest.raises(UnknownNameError, match=r"did you mean 'observation\.state'"):
        dataset.column("observation.sate")
    with pytest.raises(UnknownNameError, match=r"did you mean 'observation\.images\.front'"):
        dataset.frame("observation.image.front", 0)
    with pytest.raises(DataError, match="use frame"):
        dataset.column("observation.images.front")
    for row in (-1, 12):
        with pytest.raises(IndexError, match="rows 0 to 11"):
            dataset.frame("observation.images.front", row)


def test_files_that_are_not_yet_counted_do_not_exist(record, expected):
    """What a kill between the episode table and info.json leaves behind."""
    path = record((3, 5, 4))
    edit_info(path, total_episodes=2, total_frames=8)
    dataset = LeRobotDataset(path)
    assert len(dataset) == 8 and len(dataset.episode_bounds) == 2
    np.testing.assert_array_equal(dataset.column("action")[-1], expected(1, 4)[1])
