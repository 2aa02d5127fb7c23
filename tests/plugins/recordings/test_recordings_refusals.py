"""What is wrong with a recording is said when it is opened, or at the frame that cannot be had."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import yaml

import fla_sdk as fla
from fla_sdk.data.dataset import Dataset
from fla_sdk.errors import ConfigError, DataError, EpisodeError

from . import layouts as made
from .layouts import CAMERA


def opened(registry: fla.Registry, path: Path) -> Dataset:
    dataset = registry.open_dataset(str(path))
    assert dataset is not None
    return dataset


def _set(*keys: str, value: Any) -> Callable[[dict[str, Any]], None]:
    def change(entries: dict[str, Any]) -> None:
        node = entries
        for key in keys[:-1]:
            node = node[key]
        node[keys[-1]] = value

    return change


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (_set("column", value={}), "Mapping has no field 'column'; did you mean 'columns'?"),
        (_set("format", value="hdf"), "format is 'hdf', must be one of hdf5, numpy, frames; did you mean 'hdf5'?"),
        (_set("fps", value=0), "fps is 0.0, must be above 0"),
        (_set("fps", value="50"), "expected float, got '50'"),
        (_set("files", value="*.hdf"), "no recordings '*.hdf'"),
        (_set("files", value="/data/*.h5"), "must be relative to the mapping file"),
        (_set("episodes", value="run/run*"), "no 'run/run*'; nearest is 'runs"),
        (_set("task", value="x"), "task and task_key are both given"),
        (_set("task_key", value="sya"), "no 'sya'; nearest is 'say'"),
        (_set("columns", "action", value={"keys": ["cmdd"]}), "no 'cmdd'; nearest is 'cmd' (it has cam, cmd, gripper"),
        (_set("columns", "action", value={"keys": "cmd"}), "expected a list, got 'cmd'"),
        (_set("columns", "action", "names", value=["a", "b"]), "has 14 dimensions (cmd), but 2 names (a, b)"),
        (_set("columns", "action", "dtype", value="float33"), "dtype is 'float33', which numpy does not know"),
        (_set("columns", "action", value={"keys": ["cmd", "cam"]}), "only numbers and vectors can be put side by side"),
        (_set("cameras", CAMERA, "rotate", value=45), "rotate is 45, must be one of 0, 90, 180, 270"),
        (_set("cameras", CAMERA, "order", value="gbr"), "order is 'gbr', must be one of rgb, bgr; did you mean"),
        (_set("cameras", CAMERA, "layout", value="hwc"), "which is no picture"),
        (_set("cameras", CAMERA, "key", value="cmd"), "which is no picture"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_mapping_that_does_not_fit_is_refused(
    change: Callable[[dict[str, Any]], None], said: str, tmp_path: Path, registry: fla.Registry
) -> None:
    path = made.mapped_hdf5(tmp_path)
    entries = yaml.safe_load(path.read_text())
    change(entries)
    path.write_text(yaml.safe_dump(entries))
    with pytest.raises((ConfigError, DataError), match=re.escape(said)):
        opened(registry, path).task(0)


def _shorten(file: h5py.File, key: str) -> None:
    values = file[key][:-1]  # pyright: ignore[reportIndexIssue]
    del file[key]
    file[key] = values


def _rename(file: h5py.File, key: str) -> None:
    file.move(key, key + "_old")


def _narrow(file: h5py.File, key: str) -> None:
    values = file[key][:, :-1]  # pyright: ignore[reportIndexIssue]
    del file[key]
    file[key] = values


def _empty(file: h5py.File, _: str) -> None:
    for key in ("action", "observations/qpos", "observations/qvel", "observations/images/front"):
        values = file[key][:0]  # pyright: ignore[reportIndexIssue]
        del file[key]
        file[key] = values


@pytest.mark.parametrize(
    ("damage", "key", "said"),
    [
        (_shorten, "action", "different numbers of rows (observations/qpos 3, action 2"),
        (_shorten, "observations/images/front", "observations/images/front 2)"),
        (_rename, "observations/qpos", "no 'observations/qpos'; nearest is 'observations/qpos_old'"),
        (_narrow, "observations/qvel", "has 13 dimensions (observations/qvel), but 14 names"),
        (_empty, "", "the episode is empty"),
    ],
)
def test_a_damaged_episode_is_named_and_the_others_are_read(
    damage: Callable[[h5py.File, str], None],
    key: str,
    said: str,
    tmp_path: Path,
    registry: fla.Registry,
) -> None:
    path = made.aloha_pixels(tmp_path)
    with h5py.File(path / "episode_10.hdf5", "a") as file:
        damage(file, key)
    dataset = opened(registry, path)
    assert list(dataset.damaged) == [1]
    assert said in dataset.damaged[1] and "episode_10.hdf5" in dataset.damaged[1]
    assert dataset.episode_bounds.tolist() == [[0, 4], [4, 4], [4, 9]]
    np.testing.assert_array_equal(dataset.column("action")[4:], made.takes()[2].action.astype(np.float32))
    np.testing.assert_array_equal(dataset.frame(CAMERA, 4), made.takes()[2].images[0])


@pytest.mark.parametrize("layout", ["aloha_pixels", "numpy_archives"])
@pytest.mark.parametrize("kept", [0, 100, -400])
def test_a_file_that_was_cut_short_is_one_damaged_episode(
    layout: str, kept: int, tmp_path: Path, registry: fla.Registry
) -> None:
    path = getattr(made, layout)(tmp_path)
    file = sorted(path.iterdir())[-1]
    file.write_bytes(file.read_bytes()[:kept])
    dataset = opened(registry, path)
    assert [file.name in reason for reason in dataset.damaged.values()] == [True]
    assert len(dataset) == sum(made.LENGTHS) - made.LENGTHS[next(iter(dataset.damaged))]


def test_when_no_episode_fits_the_reason_is_the_error(tmp_path: Path, registry: fla.Registry) -> None:
    path = made.numpy_folders(tmp_path)
    for file in tmp_path.glob("*/q.npy"):
        file.rename(file.with_name("qq.npy"))
    with pytest.raises(DataError, match=re.escape("take0 has no 'q'; nearest is 'qq' (it has qq, rgb, u) (and 2 more")):
        opened(registry, path)


def test_a_picture_that_cannot_be_read_names_file_episode_and_frame(tmp_path: Path, registry: fla.Registry) -> None:
    path = made.frames_csv(tmp_path)
    (tmp_path / "take1/front/9.png").write_bytes(b"no picture")
    dataset = opened(registry, path)
    with pytest.raises(
        EpisodeError, match=r"take1: 'observation.images.front' of episode 1, frame 1 cannot be"
    ) as told:
        dataset.frame(CAMERA, 5)
    assert told.value.episode == 1
    dataset.frame(CAMERA, 4)


def test_a_picture_of_another_size_is_refused(tmp_path: Path, registry: fla.Registry) -> None:
    path = made.frames_csv(tmp_path)
    (tmp_path / "take1/front/9.png").write_bytes(made.encoded(np.zeros((5, 6, 3), np.uint8)))
    with pytest.raises(EpisodeError, match=re.escape("[5, 6, 3], but the first episode has [8, 12, 3]")):
        opened(registry, path).frame(CAMERA, 5)


def test_nothing_is_unpickled(tmp_path: Path, registry: fla.Registry) -> None:
    np.savez(tmp_path / "a.npz", actions=np.zeros((2, 3)), obs=np.array([{"q": 1}, {"q": 2}], object))
    with pytest.raises(DataError, match="'obs' holds Python objects, which are not read because unpickling runs code"):
        opened(registry, tmp_path)


def test_an_unknown_layout_lists_what_there_is(tmp_path: Path, registry: fla.Registry) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["pose"] = np.zeros((5, 6), np.float32)
    with pytest.raises(
        DataError, match=re.escape("a mapping file (docs/data.md)") + ".*" + re.escape("pose float32 [5, 6]")
    ):
        opened(registry, tmp_path)


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ("a,b\n1,2\n3,\n", "column 'b' has 1 empty cells"),
        ("a,a\n1,2\n", "columns a are there twice"),
        ("a,c\n1,2\n3,4\n", "no 'b'"),
        ("a,b\n1,2\n", "different numbers of rows (a 1, b 1, *.png 2)"),
    ],
)
def test_a_table_that_does_not_fit_is_refused(rows: str, said: str, tmp_path: Path, registry: fla.Registry) -> None:
    folder = tmp_path / "take0"
    folder.mkdir()
    (folder / "log.csv").write_text(rows)
    for number in range(2):
        (folder / f"{number}.png").write_bytes(made.encoded(np.zeros((4, 4, 3), np.uint8)))
    path = made.write_yaml(
        tmp_path / "robot.yaml",
        format="frames",
        files="take*",
        table="log.csv",
        fps=10,
        columns={"action": {"keys": ["a", "b"]}},
        cameras={CAMERA: {"key": "*.png"}},
    )
    with pytest.raises(DataError, match=re.escape(said)):
        opened(registry, path)


def test_what_is_not_ours_is_left_to_others(tmp_path: Path, registry: fla.Registry) -> None:
    (tmp_path / "run.yaml").write_text("model: pi05\n")
    (tmp_path / "empty").mkdir()
    for name in ("run.yaml", "empty", "absent.yaml", "absent"):
        assert registry.open_dataset(str(tmp_path / name)) is None
