"""A ROS 2 node that drives an arm from a policy server.

    python3 examples/ros2_node.py --ros-args -p url:=ws://gpu-box:8000 -p embodiment:=ur5

It listens to `sensor_msgs/JointState` and one `sensor_msgs/Image` per camera, and publishes
`trajectory_msgs/JointTrajectory` of one point, which `ros2_control`'s joint trajectory controller takes. The names of
joints are those of the embodiment.

Not run by FLA's tests: they have no ROS. Only its syntax is checked. Try it on a simulated arm first.
"""

import threading
import time
from collections.abc import Mapping
from typing import Any

import numpy as np
import rclpy
from builtin_interfaces.msg import Duration
from numpy.typing import NDArray
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import qos_profile_sensor_data
from sensor_msgs.msg import Image, JointState
from trajectory_msgs.msg import JointTrajectory, JointTrajectoryPoint

import fla_sdk as fla
from fla_sdk.client import AsynchronousExecutor, PolicyClient, Runtime, SafetyFilter

FRESH_WITHIN_S = 1.0


class Ros2Robot:
    """The newest messages of a ROS 2 graph as a robot, for `fla_sdk.client.Runtime`."""

    def __init__(self, node: Node, embodiment: fla.Embodiment, *, task: str) -> None:
        self._embodiment, self._task = embodiment, task
        self._changed = threading.Condition()
        self._joints: dict[str, float] = {}
        self._images: dict[str, NDArray[np.uint8]] = {}
        self._heard_s: dict[str, float] = {}
        self._publisher = node.create_publisher(JointTrajectory, "joint_trajectory", 1)
        node.create_subscription(JointState, "joint_states", self._on_joints, qos_profile_sensor_data)
        for camera in embodiment.cameras:
            node.create_subscription(
                Image, f"{camera.name}/image_raw", self._on_image(camera.name), qos_profile_sensor_data
            )

    def reset(self) -> None:
        """Waits until every joint and required camera has been heard of."""
        with self._changed:
            self._changed.wait_for(lambda: not self._silent(), 2 * FRESH_WITHIN_S)
            self._refuse_silence()

    def observe(self) -> Mapping[str, Any]:
        with self._changed:
            self._refuse_silence()
            state = np.array([self._joints[name] for name in self._embodiment.state.names], np.float32)
            images = {f"images/{name}": image for name, image in self._images.items()}
        return {**images, "state": state, "task": self._task}

    def act(self, action: NDArray[np.floating]) -> None:
        period_ns = int(1e9 / self._embodiment.control_hz)
        point = JointTrajectoryPoint(positions=action.tolist(), time_from_start=Duration(sec=0, nanosec=period_ns))
        self._publisher.publish(JointTrajectory(joint_names=list(self._embodiment.action.names), points=[point]))

    def _refuse_silence(self) -> None:
        if silent := self._silent():
            raise TimeoutError(f"nothing came from {', '.join(silent)} within {FRESH_WITHIN_S:g} s")

    def _silent(self) -> list[str]:
        """Joints and required cameras of which nothing was heard lately."""
        cameras = [camera.name for camera in self._embodiment.cameras if camera.required]
        since_s = time.monotonic() - FRESH_WITHIN_S
        names = (*self._embodiment.state.names, *cameras)
        return [name for name in names if self._heard_s.get(name, -np.inf) < since_s]

    def _heard(self, *names: str) -> None:
        self._heard_s.update(dict.fromkeys(names, time.monotonic()))
        self._changed.notify_all()

    def _on_joints(self, message: JointState) -> None:
        with self._changed:
            self._joints.update(zip(message.name, message.position, strict=True))
            self._heard(*message.name)

    def _on_image(self, name: str) -> Any:
        def keep(message: Image) -> None:
            if message.encoding not in ("rgb8", "bgr8"):
                raise ValueError(f"{name}: images must be rgb8 or bgr8, not {message.encoding}")
            rows = np.frombuffer(message.data, np.uint8).reshape(message.height, message.step)
            pixels = rows[:, : 3 * message.width].reshape(message.height, message.width, 3)
            image = pixels[..., ::-1].copy() if message.encoding == "bgr8" else pixels.copy()
            with self._changed:
                self._images[name] = image
                self._heard(name)

        return keep


def main() -> None:
    rclpy.init()
    node = Node("fla_policy")
    settings = {
        name: node.declare_parameter(name, default).value
        for name, default in (("url", "ws://127.0.0.1:8000"), ("embodiment", "ur5"), ("task", "do something"))
    }
    embodiment = fla.load_plugins().embodiment(settings["embodiment"])
    robot = Ros2Robot(node, embodiment, task=settings["task"])
    spinning = SingleThreadedExecutor()
    spinning.add_node(node)
    listener = threading.Thread(target=spinning.spin, daemon=True)
    listener.start()
    try:
        with (
            PolicyClient(settings["url"], embodiment=embodiment, execution="asynchronous") as policy,
            AsynchronousExecutor(policy) as executor,
        ):
            runtime = Runtime(
                robot,
                executor,
                rate_hz=embodiment.control_hz,
                safety=SafetyFilter(embodiment, velocity={"rad": 1.0}, stale_after_s=FRESH_WITHIN_S),
            )
            node.get_logger().info(str(runtime.run_episode()))
    finally:
        spinning.shutdown()
        node.destroy_node()
        rclpy.shutdown()


if __name__ == "__main__":
    main()
