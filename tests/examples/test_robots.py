"""The examples of robots: the simulated one runs, LeRobot's is driven without motors, ROS 2 is not installed."""

import ast
import importlib.util
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fla_sdk.client import Runtime
from fla_sdk.errors import ConfigError
from fla_sdk.evaluation.server_process import server_process
from fla_sdk.plugins import load_plugins

EXAMPLES = Path(__file__).parents[2] / "examples"


def test_the_simulated_robot_runs_at_50_hz_and_records(tmp_path: Path) -> None:
    command = [
        sys.executable,
        str(EXAMPLES / "simulated_robot.py"),
        "--seconds",
        "1",
        "--record",
        str(tmp_path / "run"),
    ]
    with server_process("scripted:sine", arguments=["--embodiment", "planar2"]) as url:
        done = subprocess.run([*command, "--url", url], capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    said = re.search(r"(\d+) steps in ([\d.]+) s, limit, .* (\d+) missed; ", done.stdout)
    assert said is not None, done.stdout
    steps, seconds, missed = (float(one) for one in said.groups())
    dataset: Any = load_plugins().open_dataset(str(tmp_path / "run"))
    assert dataset.fps == 50
    assert len(dataset) == steps > 0
    # A step or a missed one for each tick, the first of them at once; the seconds are rounded.
    assert steps + missed <= 50 * (seconds + 0.05) + 1
    assert {"success", "intervention"} <= set(dataset.features)


@pytest.fixture
def so101() -> Any:
    return load_plugins().embodiment("so101")


def _lerobot_robot(tmp_path: Path, *, without: str = "") -> Any:
    """A robot of LeRobot's own kind whose motors are numbers."""
    from lerobot.robots import Robot, RobotConfig

    motors = [
        f"{name}.pos"
        for name in ("shoulder_pan", "shoulder_lift", "elbow_flex", "wrist_flex", "wrist_roll", "gripper")
        if name != without
    ]

    class Follower(Robot):
        config_class, name = RobotConfig, "follower"

        @property
        def is_connected(self) -> bool:
            return True

        @property
        def is_calibrated(self) -> bool:
            return True

        @property
        def observation_features(self) -> dict[str, Any]:
            return {"front": (48, 64, 3), **dict.fromkeys(reversed(motors), float)}

        @property
        def action_features(self) -> dict[str, Any]:
            return dict.fromkeys(motors, float)

        def __init__(self) -> None:
            config = RobotConfig.__new__(RobotConfig)
            config.id, config.calibration_dir = "test", tmp_path
            super().__init__(config)
            self.positions = dict.fromkeys(motors, 0.0)

        def get_observation(self) -> dict[str, Any]:
            return {**self.positions, "front": np.zeros((48, 64, 3), np.uint8)}

        def send_action(self, action: dict[str, float]) -> dict[str, float]:
            for name, target in action.items():  # as `max_relative_target` does
                self.positions[name] += float(np.clip(target - self.positions[name], -5, 5))
            return dict(self.positions)

        def connect(self, calibrate: bool = True) -> None: ...
        def calibrate(self) -> None: ...
        def configure(self) -> None: ...
        def disconnect(self) -> None: ...

    return Follower()


def _adapter() -> Any:
    spec = importlib.util.spec_from_file_location("lerobot_robot", EXAMPLES / "lerobot_robot.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.LeRobotRobot


def test_a_robot_of_lerobot_is_driven(so101: Any, tmp_path: Path) -> None:
    class Policy:
        def infer(self, observation: Any) -> dict[str, Any]:
            sample = so101.observe(observation)  # every key is where the embodiment looks for it
            assert (sample.task, sample.images["front"].shape) == ("wave", (48, 64, 3))
            return {"actions": sample.state + 10.0 * np.arange(6) + np.zeros((2, 1))}

    robot = _lerobot_robot(tmp_path)
    executed: list[Any] = []
    runtime = Runtime(
        _adapter()(robot, so101, task="wave"),
        Policy(),
        rate_hz=200,
        on_step=[lambda step: executed.append(step.action)],
    )
    runtime.run_episode(limit_steps=2)
    # Joint by joint: what was wanted was 0, 10, 20, ... and the robot takes at most 5 in a step.
    np.testing.assert_array_equal(executed, [[0, 5, 5, 5, 5, 5], [0, 10, 10, 10, 10, 10]])
    assert list(robot.positions.values()) == [0, 10, 10, 10, 10, 10]


def test_a_robot_that_lacks_a_motor_is_refused(so101: Any, tmp_path: Path) -> None:
    with pytest.raises(
        ConfigError, match=r"state of 'so101': the robot 'follower' has no elbow_flex.pos; it has front"
    ):
        _adapter()(_lerobot_robot(tmp_path, without="elbow_flex"), so101, task="wave")


def test_the_ros_node_is_python_and_says_that_it_was_not_run() -> None:
    source = (EXAMPLES / "ros2_node.py").read_text()
    assert "Not run by FLA's tests" in str(ast.get_docstring(ast.parse(source, feature_version=(3, 10))))
