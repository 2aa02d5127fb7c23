"""Any robot that LeRobot knows, driven by a policy server; here an SO-101 with a camera called `front`.

    python examples/lerobot_robot.py --port /dev/ttyACM0 --camera 0 --url ws://gpu-box:8000 --task "put the brick away"

Needs `pip install "fla-sdk[lerobot]"` on Python 3.12, and what LeRobot needs for the motors. For another robot, make it
in `main`: the adapter takes whatever its class describes.
"""

import argparse
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

import fla_sdk as fla
from fla_sdk.client import AsynchronousExecutor, PolicyClient, Runtime, SafetyFilter
from fla_sdk.errors import ConfigError

if TYPE_CHECKING:
    from lerobot.robots import Robot


class LeRobotRobot:
    """A connected `lerobot.robots.Robot`, for `fla_sdk.client.Runtime`.

    LeRobot speaks of a robot in named numbers, `shoulder_pan.pos`, and of cameras by their names. The names of the
    embodiment say which of them make up the state and the action, and in which order.
    """

    def __init__(self, robot: "Robot", embodiment: fla.Embodiment, *, task: str) -> None:
        """Raises `ConfigError` with both sides where the robot has no motor of a name, or no required camera."""
        self._robot, self._embodiment, self._task = robot, embodiment, task
        required = [camera.name for camera in embodiment.cameras if camera.required]
        for what, needed, has in (
            ("state", (*embodiment.state.names, *required), robot.observation_features),
            ("action", embodiment.action.names, robot.action_features),
        ):
            if missing := [name for name in needed if name not in has]:
                raise ConfigError(
                    f"{what} of {embodiment.name!r}: the robot {robot.name!r} has no {', '.join(missing)}; "
                    f"it has {', '.join(has)}"
                )

    def reset(self) -> None:
        """LeRobot's robots have no place to begin from: put the scene in order and let the person say so."""

    def observe(self) -> Mapping[str, Any]:
        seen = self._robot.get_observation()
        state = np.array([seen[name] for name in self._embodiment.state.names], np.float32)
        images = {f"images/{c.name}": np.array(seen[c.name]) for c in self._embodiment.cameras if c.name in seen}
        return {**images, "state": state, "task": self._task}

    def act(self, action: NDArray[np.floating]) -> Mapping[str, Any]:
        names = self._embodiment.action.names
        # What LeRobot returns is what it sent, after limits of its own such as `max_relative_target`.
        sent = self._robot.send_action({name: float(value) for name, value in zip(names, action, strict=True)})
        return {"action": np.array([sent[name] for name in names], np.float32)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--port", required=True, help="serial port of the motors")
    parser.add_argument("--camera", type=int, default=0, help="number of the camera")
    parser.add_argument("--url", default="ws://127.0.0.1:8000")
    parser.add_argument("--task", required=True, help="what to do, in words")
    parser.add_argument("--seconds", type=float, default=60.0)
    options = parser.parse_args()

    from lerobot.cameras.opencv import OpenCVCameraConfig
    from lerobot.robots.so_follower import SO101Follower, SO101FollowerConfig

    embodiment = fla.load_plugins().embodiment("so101")
    front = OpenCVCameraConfig(index_or_path=options.camera, fps=30, width=640, height=480)
    config = SO101FollowerConfig(port=options.port, id="so101", cameras={"front": front})
    with (
        SO101Follower(config) as robot,
        PolicyClient(options.url, embodiment=embodiment, execution="asynchronous") as policy,
        AsynchronousExecutor(policy) as executor,
    ):
        runtime = Runtime(
            LeRobotRobot(robot, embodiment, task=options.task),
            executor,
            rate_hz=embodiment.control_hz,
            safety=SafetyFilter(embodiment, velocity={"deg": 120.0}, stale_after_s=5.0),
        )
        print(runtime.run_episode(limit_s=options.seconds))


if __name__ == "__main__":
    main()
