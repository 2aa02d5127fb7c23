"""Every layout gives what was recorded, in place."""

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import fla_sdk as fla
from fla_plugins.recordings.mapping import CameraImages
from fla_plugins.recordings.pictures import to_rgb
from fla_sdk.data.dataset import Dataset
from fla_sdk.data.demonstrations import Demonstrations

from . import layouts as made
from .layouts import CAMERA, TASK, takes


def opened(registry: fla.Registry, path: Path) -> Dataset:
    dataset = registry.open_dataset(str(path))
    assert dataset is not None
    return dataset


def test_every_layout_gives_what_was_recorded(layout: Path, registry: fla.Registry) -> None:
    dataset, recorded = opened(registry, layout), takes()
    assert (dataset.fps, len(dataset), dataset.damaged) == (50, 12, {})
    assert dataset.episode_bounds.tolist() == [[0, 4], [4, 7], [7, 12]]
    for name, written in (("observation.state", "state"), ("action", "action")):
        expected = np.concatenate([getattr(take, written) for take in recorded]).astype(np.float32)
        np.testing.assert_array_equal(dataset.column(name), expected)
        assert (dataset.features[name].shape, dataset.features[name].dtype) == ((14,), "float32")
    images = np.concatenate([take.images for take in recorded])
    assert dataset.features[CAMERA].shape == images.shape[1:]
    rows = np.random.default_rng(1).permutation(len(images)).tolist() * 3
    with ThreadPoolExecutor(4) as pool:
        for row, frame in zip(rows, pool.map(lambda row: dataset.frame(CAMERA, row), rows), strict=True):
            np.testing.assert_array_equal(frame, images[row])
    assert {dataset.task(row) for row in range(12)} == {"" if (layout / "episode_9.hdf5").is_file() else TASK}


def test_more_files_than_stay_open_are_read_from_many_threads(
    tmp_path: Path, registry: fla.Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fla_plugins.recordings.hdf5.OPEN_FILES", 1)
    dataset = opened(registry, made.aloha_encoded(tmp_path))
    images = np.concatenate([take.images for take in takes()])
    rows = np.random.default_rng(0).integers(0, len(images), 200).tolist()
    with ThreadPoolExecutor(4) as pool:
        for row, frame in zip(rows, pool.map(lambda row: dataset.frame(CAMERA, row), rows), strict=True):
            np.testing.assert_array_equal(frame, images[row])


def test_a_layout_is_trained_on_in_place(tmp_path: Path, registry: fla.Registry) -> None:
    robot = registry.embodiment("aloha")
    with h5py.File(tmp_path / "episode_0.hdf5", "w") as file:
        take = takes([6])[0]
        file["observations/qpos"], file["action"] = take.state, take.action
        file["observations/images/cam_high"] = take.images
        file["observations/images/cam_high_depth"] = take.images[..., 0].astype(np.uint16)
    dataset = opened(registry, tmp_path)
    assert dataset.features["observation.state"].names == robot.state.names
    assert [name for name, feature in dataset.features.items() if feature.is_camera] == ["observation.images.cam_high"]
    demonstrations = Demonstrations(dataset, robot, horizon=4)
    sample = demonstrations[4]
    np.testing.assert_array_equal(sample.images["cam_high"], take.images[4])
    assert sample.actions_is_pad is not None and sample.actions_is_pad.tolist() == [False, False, True, True]


def test_jpeg_of_aloha_is_what_any_viewer_shows(tmp_path: Path, registry: fla.Registry) -> None:
    image = np.zeros((16, 16, 3), np.uint8)
    image[..., 0] = 250
    with h5py.File(tmp_path / "episode_0.hdf5", "w") as file:
        file["observations/qpos"], file["action"] = np.zeros((1, 14)), np.zeros((1, 14))
        file["observations/images/top"] = made.padded(image[None], "JPEG")
    red = opened(registry, tmp_path).frame("observation.images.top", 0)[8, 8]
    assert red[0] > 240 and red[1] < 10 and red[2] < 10


def _libero(path: Path, instruction: str | None, **env_args: Any) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    arrays = {
        "actions": rng.normal(size=(5, 7)),
        "obs/ee_states": rng.normal(size=(5, 6)),
        "obs/gripper_states": rng.normal(size=(5, 2)),
        "obs/agentview_rgb": rng.integers(0, 256, (5, 8, 8, 3), np.uint8),
        "obs/eye_in_hand_rgb": rng.integers(0, 256, (5, 8, 8, 3), np.uint8),
        "dones": np.zeros(5, np.uint8),
    }
    with h5py.File(path, "w") as file:
        data = file.create_group("data")
        data.attrs["env_args"] = json.dumps(env_args)
        if instruction is not None:
            data.attrs["problem_info"] = json.dumps({"language_instruction": instruction})
        for name, array in arrays.items():
            data[f"demo_0/{name}"] = array
    return arrays


def test_libero_is_read_as_its_robot_sees_it(tmp_path: Path, registry: fla.Registry) -> None:
    robot = registry.embodiment("libero")
    arrays = _libero(tmp_path / "KITCHEN_SCENE3_turn_on_the_stove_demo.hdf5", "turn on the stove and wait")
    demonstrations = Demonstrations(opened(registry, tmp_path), robot, horizon=2)
    sample = demonstrations[2]
    state = np.concatenate([arrays["obs/ee_states"], arrays["obs/gripper_states"]], axis=1)
    np.testing.assert_array_equal(sample.state, state[2].astype(np.float32))
    np.testing.assert_array_equal(sample.actions, arrays["actions"][2:4].astype(np.float32))
    np.testing.assert_array_equal(sample.images["image"], arrays["obs/agentview_rgb"][2, ::-1, ::-1])
    np.testing.assert_array_equal(sample.images["wrist_image"], arrays["obs/eye_in_hand_rgb"][2, ::-1, ::-1])
    assert sample.task == "turn on the stove and wait"


def test_a_file_of_libero_without_words_has_them_in_its_name(tmp_path: Path, registry: fla.Registry) -> None:
    _libero(tmp_path / "LIVING_ROOM_SCENE12_pick_up_the_mug_demo.hdf5", None)
    assert opened(registry, tmp_path).task(0) == "pick up the mug"


def test_the_rate_of_isaac_lab_is_that_of_its_actions(tmp_path: Path, registry: fla.Registry) -> None:
    _libero(tmp_path / "a.hdf5", None, sim_args={"dt": 0.005, "decimation": 4})
    assert opened(registry, tmp_path / "a.hdf5").fps == 50


def test_one_set_has_one_fingerprint_wherever_it_lies(tmp_path: Path, registry: fla.Registry) -> None:
    (tmp_path / "a").mkdir()
    path = made.aloha_pixels(tmp_path / "a")
    before = opened(registry, path)
    prints = before.fingerprint, before.frames_fingerprint(CAMERA)
    del before
    moved = path.rename(tmp_path / "b")
    after = opened(registry, moved)
    assert (after.fingerprint, after.frames_fingerprint(CAMERA)) == prints
    del after
    with h5py.File(moved / "episode_9.hdf5", "a") as file:
        actions: Any = file["action"]
        actions[2, 3] += 1
    assert opened(registry, moved).fingerprint != prints[0]


@given(
    order=st.sampled_from(["rgb", "bgr"]),
    layout=st.sampled_from(["hwc", "chw"]),
    rotate=st.sampled_from([0, 90, 180, 270]),
    size=st.tuples(st.integers(1, 9), st.integers(1, 9)),
)
def test_a_picture_is_put_upright_whatever_way_it_was_stored(
    order: str, layout: str, rotate: int, size: tuple[int, int]
) -> None:
    upright = np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8)
    stored = np.rot90(upright, -rotate // 90)
    stored = stored[..., ::-1] if order == "bgr" else stored
    stored = np.moveaxis(stored, -1, 0) if layout == "chw" else stored
    camera = CameraImages(key="k", order=order, layout=layout, rotate=rotate)
    np.testing.assert_array_equal(to_rgb(stored, camera, "here"), upright)


@pytest.mark.parametrize("colours", [1, 4])
def test_grey_and_transparent_pictures_become_rgb(colours: int) -> None:
    image = np.random.default_rng(0).integers(0, 256, (4, 5, colours), np.uint8)
    rgb = to_rgb(image, CameraImages(key="k"), "here")
    np.testing.assert_array_equal(rgb, np.broadcast_to(image[..., : min(colours, 3)], (4, 5, 3)))


def test_a_picture_is_resized_where_the_mapping_says_so() -> None:
    image = np.full((16, 8, 3), 7, np.uint8)
    assert to_rgb(image, CameraImages(key="k", rotate=90, size=(4, 6)), "here").shape == (4, 6, 3)
    png = made.encoded(image)
    assert png.startswith(b"\x89PNG")
    np.testing.assert_array_equal(to_rgb(png, CameraImages(key="k"), "here"), image)
