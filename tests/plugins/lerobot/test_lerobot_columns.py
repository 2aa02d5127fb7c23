"""Columns of every kind; read when they are asked for, in memory or mapped from disk."""

import json
import os
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from fla_plugins.lerobot.reader import LeRobotDataset
from fla_plugins.lerobot.writer import LeRobotWriter
from fla_sdk.data.dataset import Feature
from fla_sdk.errors import DataError, EpisodeError

KINDS = (
    "bool",
    *(f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)),
    "float16",
    "float32",
    "float64",
)


def add_columns(path: Path, features: dict[str, Any], columns: dict[str, Any]) -> None:
    """Put columns of all rows, in order, into a recording."""
    info = json.loads((path / "meta/info.json").read_text())
    info["features"] |= features
    (path / "meta/info.json").write_text(json.dumps(info))
    start = 0
    for file in sorted(path.glob("data/*/*.parquet")):
        table = pq.read_table(file)
        for name, column in columns.items():
            table = table.append_column(name, column[start : start + len(table)])
        start += len(table)
        pq.write_table(table, file)


def nested(values: np.ndarray, *, fixed: bool) -> Any:
    """As LeRobot stores it: numbers, lists of one length, or lists of lists."""
    array = pa.array(values.ravel())
    sizes = () if values.shape[1:] == (1,) else values.shape[1:]
    for size in reversed(sizes):
        if fixed:
            array = pa.FixedSizeListArray.from_arrays(array, size)
        else:
            array = pa.ListArray.from_arrays(np.arange(0, len(array) + 1, size, dtype=np.int32), array)
    return array


@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_every_dtype_and_shape_is_read_as_it_was_written(data):
    kind = data.draw(st.sampled_from(KINDS))
    shape = data.draw(arrays.array_shapes(min_dims=1, max_dims=5, max_side=3))
    values = data.draw(arrays.arrays(kind, (7, *shape), elements=arrays.from_dtype(np.dtype(kind), allow_nan=False)))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "set"
        with LeRobotWriter(path, robot="arm", fps=10, state_names=("a",), action_names=("a",)) as writer:
            for length in (4, 3):
                for _ in range(length):
                    writer.add({"state": np.zeros(1), "task": "t"}, np.zeros(1))
                writer.save_episode()
        column = nested(values, fixed=data.draw(st.booleans()))
        add_columns(path, {"extra": {"dtype": kind, "shape": list(shape), "names": None}}, {"extra": column})
        read = LeRobotDataset(path).column("extra")
    assert read.dtype == kind and read.shape == values.shape
    np.testing.assert_array_equal(read, values)


def test_texts_are_read_and_equal_ones_kept_once(record):
    path = record()
    texts = [["left", "right"][i % 2] * 50 for i in range(12)]
    add_columns(path, {"arm": {"dtype": "string", "shape": [1], "names": None}}, {"arm": pa.array(texts)})
    column = LeRobotDataset(path).column("arm")
    assert column[:, 0].tolist() == texts
    assert len({id(text) for text in column[:3, 0]}) == 2


def test_text_that_is_not_utf8_is_named(record):
    path = record()
    broken = pa.array([b"\xff"] * 12).view(pa.string())
    add_columns(path, {"arm": {"dtype": "string", "shape": [1], "names": None}}, {"arm": broken})
    with pytest.raises(DataError, match=r"file-000\.parquet: column 'arm' has text that is not UTF-8"):
        LeRobotDataset(path).column("arm")


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        ({"motors": ["x", "y"]}, ("x", "y")),
        ({"left": {"arm": ["x"]}, "right": {"arm": ["y"]}}, ("x", "y")),
        (["x", "y"], ("x", "y")),
        (["both"], None),
        (None, None),
    ],
)
def test_names_of_dimensions_may_be_nested(record, names, expected):
    path = record()
    info = json.loads((path / "meta/info.json").read_text())
    info["features"]["action"]["names"] = names
    (path / "meta/info.json").write_text(json.dumps(info))
    assert LeRobotDataset(path).features["action"].names == expected


REMARK = {"role": "assistant", "camera": None, "tool_calls": None}


def remark(style: str | None, content: str | None, seconds: float | None = None) -> dict[str, Any]:
    return REMARK | {"style": style, "content": content} | ({} if seconds is None else {"timestamp": seconds})


def test_language_columns_give_the_text_in_force(record):
    path = record((4, 2, 2))  # at 10 frames per second
    held = [
        remark("plan", "reach, then grasp", 0.0),
        remark("subtask", "grasp", 0.2),  # not in the order of time
        remark("subtask", "reach", 0.1),
        remark("subtask", "another way to say it", 0.1),
        remark("task_aug", "first", 0.0),
        remark("task_aug", "second", 0.0),
        remark("memory", None, 0.0),
    ]
    persistent = [held] * 4 + [[remark("subtask", "wait", 0.0)]] * 2 + [[], None]
    events = [[] for _ in range(8)]
    events[2] = [remark(None, "not of any style"), remark("interjection", "stop!")]
    text = pa.string()
    fields = [("role", text), ("content", text), ("style", text), ("camera", text), ("tool_calls", pa.list_(text))]
    stamped = pa.list_(pa.struct([*fields, ("timestamp", pa.float32())]))
    entry = {"dtype": "language", "shape": [1], "names": None}
    add_columns(
        path,
        {"language_persistent": entry, "language_events": entry},
        {
            "language_persistent": pa.array(persistent, stamped),
            "language_events": pa.array(events, pa.list_(pa.struct(fields))),
        },
    )
    dataset = LeRobotDataset(path)
    assert "language_persistent" not in dataset.features
    assert dataset.features["language.subtask"] == Feature(dtype="string", shape=(1,))

    def texts(style: str) -> list[str]:
        return dataset.column(f"language.{style}")[:, 0].tolist()

    assert texts("subtask") == ["", "reach", "grasp", "grasp", "wait", "wait", "", ""]
    assert texts("plan") == ["reach, then grasp"] * 4 + [""] * 4
    assert texts("task_aug") == ["first"] * 4 + [""] * 4
    assert texts("memory") == texts("vqa") == [""] * 8
    assert texts("interjection") == ["", "", "stop!"] + [""] * 5


def blank(path: Path) -> None:
    """Leave nothing readable of the data files but their footers, and their times."""
    for file in path.glob("data/*/*.parquet"):
        about, content = file.stat(), file.read_bytes()
        footer = 8 + int.from_bytes(content[-8:-4], "little")
        file.write_bytes(bytes(len(content) - footer) + content[-footer:])
        os.utime(file, ns=(about.st_atime_ns, about.st_mtime_ns))


def test_opening_reads_no_column_and_asks_for_no_fingerprint(record):
    path = record()
    blank(path)
    dataset = LeRobotDataset(path)
    assert len(dataset) == 12 and not dataset.damaged and dataset.episode_bounds[1].tolist() == [3, 8]
    for read in (lambda: dataset.column("action"), lambda: dataset.task(4), lambda: dataset.fingerprint):
        with pytest.raises(EpisodeError, match=r"file-000\.parquet .* is damaged"):
            read()


def test_wide_columns_are_read_only_for_themselves(record):
    path = record()
    cloud = nested(np.zeros((12, 300, 3), np.float32), fixed=False)
    add_columns(path, {"cloud": {"dtype": "float32", "shape": [300, 4], "names": None}}, {"cloud": cloud})
    dataset = LeRobotDataset(path)
    assert dataset.fingerprint and dataset.column("action").shape == (12, 2)
    with pytest.raises(DataError, match=r"'cloud' .*shape \[300, 4\]"):
        dataset.column("cloud")


@pytest.fixture
def home(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("FLA_DATA_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def numbers(dataset: LeRobotDataset) -> dict[str, np.ndarray]:
    return {name: dataset.column(name) for name, f in dataset.features.items() if not f.is_camera}


def test_large_columns_are_copied_once_and_mapped(record, home, capsys):
    path = record()
    small, large = LeRobotDataset(path), LeRobotDataset(path, column_bytes=100)
    assert not home.exists()
    for name, column in numbers(large).items():
        assert isinstance(column, np.memmap) and not column.flags.writeable
        np.testing.assert_array_equal(column, small.column(name))
    assert large.fingerprint == small.fingerprint and large.task(4) == small.task(4)
    copies = {file: file.stat().st_mtime_ns for file in home.rglob("*.npy")}
    assert len(copies) == len(numbers(small)) and "copying columns: 3/3" in capsys.readouterr().out
    blank(path)  # the copy belongs to these files, which are not read again
    np.testing.assert_array_equal(LeRobotDataset(path, column_bytes=100).column("action"), small.column("action"))
    assert {file: file.stat().st_mtime_ns for file in home.rglob("*.npy")} == copies


def test_a_copy_is_whole_or_absent_and_renewed_when_files_change(record, home):
    path = record()
    file = path / "data/chunk-000/file-002.parquet"
    table = pq.read_table(file)
    pq.write_table(table.drop_columns("action"), file)
    with pytest.raises(DataError, match="no column 'action'"):
        LeRobotDataset(path, column_bytes=100).column("index")
    assert not list(home.rglob("*.npy"))
    pq.write_table(table, file)
    np.testing.assert_array_equal(LeRobotDataset(path, column_bytes=100).column("index")[:, 0], np.arange(12))
    changed = table.set_column(
        table.schema.get_field_index("action"), "action", nested(np.full((4, 2), 7, np.float32), fixed=True)
    )
    pq.write_table(changed, file)
    assert (LeRobotDataset(path, column_bytes=100).column("action")[-4:] == 7).all()
