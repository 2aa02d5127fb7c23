"""Robots find their numbers and cameras under the names that published datasets and clients give them."""

from typing import Any

import numpy as np
import pytest

import fla_sdk as fla
from fla_sdk.data.demonstrations import Demonstrations
from fla_sdk.errors import DataError
from fla_sdk.testing import MemoryDataset

ROBOTS = fla.load_plugins(environment={}).embodiments
ROWS = 4

# Dataset of Open X-Embodiment -> widths of the columns that its robot reads, in order; 0 is a number by itself.
CATALOGUE: dict[str, tuple[dict[str, int], dict[str, int], tuple[str, ...]]] = {
    "bridge": (
        {"observation/state": 7},
        {"action/world_vector": 3, "action/rotation_delta": 3, "action/open_gripper": 0},
        ("observation/image",),
    ),
    "fractal": (
        {"observation/base_pose_tool_reached": 7, "observation/gripper_closed": 1},
        {"action/world_vector": 3, "action/rotation_delta": 3, "action/gripper_closedness_action": 1},
        ("observation/image",),
    ),
    "taco_play": (
        {"observation/robot_obs": 15},
        {"action/rel_actions_world": 7},
        ("observation/rgb_static", "observation/rgb_gripper"),
    ),
    "jaco_play": (
        {"observation/joint_pos": 8},
        {"action/world_vector": 3, "action/gripper_closedness_action": 1},
        ("observation/image", "observation/image_wrist"),
    ),
    "berkeley_autolab_ur5": (
        {"observation/robot_state": 15},
        {"action/world_vector": 3, "action/rotation_delta": 3, "action/gripper_closedness_action": 0},
        ("observation/image", "observation/hand_image"),
    ),
    "viola": (
        {"observation/joint_states": 7, "observation/gripper_states": 1},
        {"action/world_vector": 3, "action/rotation_delta": 3, "action/gripper_closedness_action": 0},
        ("observation/agentview_rgb", "observation/eye_in_hand_rgb"),
    ),
}


def recorded(
    columns: dict[str, np.ndarray[Any, Any]], cameras: tuple[str, ...], fps: float, **names: tuple[str, ...]
) -> MemoryDataset:
    frames = {key: np.full((ROWS, 8, 8, 3), place, np.uint8) for place, key in enumerate(cameras)}
    return MemoryDataset(columns, lengths=[ROWS], fps=fps, cameras=frames, names=names)


@pytest.mark.parametrize("name", CATALOGUE)
def test_robots_of_open_x_read_the_columns_of_the_catalogue(name: str) -> None:
    state, action, cameras = CATALOGUE[name]
    robot, widths, rng = ROBOTS[name], state | action, np.random.default_rng(0)
    wide = {key: rng.standard_normal((ROWS, width or 1), np.float32) for key, width in widths.items()}
    given = {key: one if widths[key] else one[:, 0] for key, one in wide.items()}
    found = Demonstrations(recorded(given, cameras, robot.control_hz), robot, horizon=2)
    np.testing.assert_array_equal(found.states, np.concatenate([wide[key] for key in state], axis=1))
    np.testing.assert_array_equal(found.actions, np.concatenate([wide[key] for key in action], axis=1))
    assert tuple(found.camera_keys.values()) == cameras


@pytest.mark.parametrize("camera", ["front", "top", "up"])
def test_lerobot_s_arm_is_known_by_its_names_and_no_other(camera: str) -> None:
    motors = ("shoulder_pan", "shoulder_lift", "elbow_flex", "wrist_flex", "wrist_roll", "gripper")
    columns = {key: np.zeros((ROWS, 6), np.float32) for key in ("observation.state", "action")}
    cameras = (f"observation.images.{camera}", "observation.images.wrist")
    names = dict.fromkeys(columns, tuple(f"{motor}.pos" for motor in motors))
    found = Demonstrations(recorded(columns, cameras, 30, **names), ROBOTS["so101"], horizon=2)
    assert found.camera_keys == {"front": cameras[0], "wrist": cameras[1]}
    names["action"] = tuple(reversed(names["action"]))
    with pytest.raises(DataError, match=r"named gripper\.pos, wrist_roll\.pos"):
        Demonstrations(recorded(columns, cameras, 30, **names), ROBOTS["so101"], horizon=2)


def test_openpi_s_ur5_client_is_understood() -> None:
    image = np.zeros((8, 8, 3), np.uint8)
    told = {"joints": np.arange(6.0), "gripper": 0.5, "base_rgb": image, "wrist_rgb": image + 1, "prompt": "pick"}
    sample = ROBOTS["ur5"].observe(told)
    assert sample.state.tolist() == [0, 1, 2, 3, 4, 5, 0.5]
    assert np.asarray(sample.images["base"]).max() == 0
    assert np.asarray(sample.images["wrist"]).min() == 1
