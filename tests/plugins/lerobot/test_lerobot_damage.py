"""Every damaged dataset is refused with an error that names the file."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fla_plugins.lerobot.reader import LeRobotDataset
from fla_sdk.errors import DataError, UnknownNameError

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


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def refused(path: Path, *words: str) -> None:
    before = sorted(path.parent.rglob("*"))
    with pytest.raises(DataError) as caught:
        LeRobotDataset(path).frame("observation.images.front", 5)
    for word in words:
        assert word in str(caught.value)
    assert sorted(path.parent.rglob("*")) == before


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
        ({"codebase_version": "v2.1"}, ("v2.1", "convert_dataset_v21_to_v30")),
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


def test_a_missing_data_file(record):
    path = record()
    (path / DATA).unlink()
    refused(path, DATA, "missing file")


@pytest.mark.parametrize("file", [DATA, EPISODES, "meta/tasks.parquet"])
def test_a_parquet_file_that_is_cut_short(record, file):
    path = record()
    cut(path / file)
    refused(path, file, "damaged or cut short", "copy or download it again")


@pytest.mark.parametrize("file", ["meta/tasks.parquet", EPISODES])
def test_missing_tables(record, file):
    path = record()
    (path / file).unlink()
    refused(path, str(Path(file).parts[1]).split(".")[0], "missing file")


def test_a_data_file_with_fewer_rows_than_its_episode(record):
    path = record()
    pq.write_table(pq.read_table(path / DATA).slice(1), path / DATA)
    refused(path, DATA, "holds 4 rows", "gives its episodes 5")


def test_a_data_file_in_the_place_of_another(record):
    path = record((5, 5, 4))
    (path / DATA).write_bytes((path / "data/chunk-000/file-000.parquet").read_bytes())
    refused(path, DATA, "index is 0", "expects 5")


def test_a_column_that_is_missing_or_has_another_width_or_empty_cells(record):
    path = record()
    table = pq.read_table(path / DATA)
    pq.write_table(table.rename_columns({"action": "actions"}), path / DATA)
    refused(path, DATA, "no column 'action'", "nearest is 'actions'")
    pq.write_table(table.set_column(1, "action", pa.array([[1.0]] * 5, pa.list_(pa.float32()))), path / DATA)
    refused(path, DATA, "5 numbers in 5 rows", "[2]")
    pq.write_table(table.set_column(1, "action", pa.array([None] * 5, pa.list_(pa.float32(), 2))), path / DATA)
    refused(path, DATA, "'action' has empty cells")


def test_rows_that_refer_to_no_task(record):
    path = record()
    edit_column(path / DATA, "task_index", 2, 9)
    refused(path, "meta/tasks.parquet", "no task 9")


def test_an_episode_table_that_contradicts_itself(record):
    path = record()
    edit_column(path / EPISODES, "dataset_from_index", 1, 4)
    refused(path, "meta/episodes", "episode 1", "row 4", "sum to 3")


def test_an_image_that_is_missing_or_damaged(record):
    path = record()
    edit_column(path / DATA, "observation.images.front", 2, {"bytes": b"no image", "path": None})
    refused(path, DATA, "observation.images.front", "row 5", "cannot be decoded")
    edit_column(path / DATA, "observation.images.front", 2, {"bytes": None, "path": "images/lost.png"})
    refused(path, "images/lost.png", "missing file")
    edit_column(path / DATA, "observation.images.front", 2, {"bytes": None, "path": None})
    refused(path, DATA, "holds no image")


def test_frames_of_another_size_than_declared(record):
    path = record()
    info = json.loads((path / "meta/info.json").read_text())
    info["features"]["observation.images.front"]["shape"] = [96, 64, 3]
    edit_info(path, features=info["features"])
    refused(path, "[64, 96, 3]", "[96, 64, 3]")


@pytest.mark.parametrize("key", ["is_depth_map", "video.is_depth_map"])
def test_depth_is_not_read_as_colour(record, key):
    path = record(video=True)
    info = json.loads((path / "meta/info.json").read_text())
    info["features"]["observation.images.front"]["info"] = {key: True}
    edit_info(path, features=info["features"])
    refused(path, "observation.images.front", "depth camera")


def test_a_missing_video_is_found_when_opening(record):
    path = record(video=True)
    (path / VIDEO).unlink()
    refused(path, VIDEO, "missing file")


def test_a_video_that_is_cut_short(record):
    path = record(video=True)
    cut(path / VIDEO)
    refused(path, VIDEO, "damaged or cut short")


def test_a_video_with_other_frames_than_rows(record):
    path = record((3, 5, 4), video=True)
    (path / VIDEO).write_bytes((path / VIDEO.replace("001", "002")).read_bytes())
    refused(path, VIDEO, "holds 4 frames", "have 5 rows")


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
