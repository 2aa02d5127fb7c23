"""`replay`: a dataset that answers like a policy."""

from pathlib import Path

import numpy as np
import pytest

from fla_embodiments.planar import PLANAR2
from fla_plugins.lerobot.writer import LeRobotWriter
from fla_plugins.replay import HORIZON
from fla_sdk.errors import DataError, ObservationError
from fla_sdk.plugins import load_plugins
from fla_sdk.policy.opening import open_policy

_IMAGE = np.zeros((64, 64, 3), np.uint8)


def _record(path: Path, *, robot: str) -> Path:
    """Two episodes of 20 and 4 rows, one task each; joint1 counts rows, actions are the state and a half."""
    names = PLANAR2.state.names
    writer = LeRobotWriter(path, robot=robot, fps=10, state_names=names, action_names=names, cameras=("front",))
    for task, rows in (("reach the red target", 20), ("reach the blue target", 4)):
        for row in range(rows):
            state = np.array([row / 10, 0], np.float32)
            writer.add({"images/front": _IMAGE, "state": state, "task": task}, state + np.float32(0.5))
        writer.save_episode()
    writer.close()
    return path


def _ask(policy: object, task: str, joint1: float) -> np.ndarray:
    state = np.array([joint1, 0], np.float32)
    observation = {"images/front": _IMAGE, "state": state, "task": task}
    return policy.infer(observation)["actions"]  # pyright: ignore[reportAttributeAccessIssue]


def test_the_nearest_moment_of_the_same_task_answers(tmp_path: Path) -> None:
    policy = open_policy(_record(tmp_path / "data", robot="planar2"), load_plugins())
    assert policy.metadata["default_embodiment"] == "planar2"
    red = _ask(policy, "reach the red target", 0.21)
    assert (red.shape, red.dtype) == ((HORIZON, 2), np.float32)
    np.testing.assert_allclose(red[:, 0], np.arange(2, 2 + HORIZON) / 10 + 0.5, rtol=1e-6)
    blue = _ask(policy, "reach the blue target", 0.21)
    # Two moments are left of that episode; the last action is held.
    np.testing.assert_allclose(blue[:, 0], [0.7, *[0.8] * (HORIZON - 1)], rtol=1e-6)
    other = _ask(policy, "fold the towel", 1.9)
    np.testing.assert_allclose(other[:, 0], [2.4] * HORIZON, rtol=1e-6)


def test_a_wrong_observation(tmp_path: Path) -> None:
    policy = open_policy(_record(tmp_path / "data", robot="planar2"), load_plugins())
    with pytest.raises(ObservationError, match="state must have shape"):
        policy.infer({"images/front": _IMAGE, "state": np.zeros(5), "task": "reach the red target"})


def test_a_dataset_that_does_not_name_its_robot(tmp_path: Path) -> None:
    path = _record(tmp_path / "data", robot="")
    with pytest.raises(DataError, match="does not say which robot recorded it"):
        open_policy(path, load_plugins())
