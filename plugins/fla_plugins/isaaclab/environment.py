"""`IsaacLabEnvironment`: one instance of an Isaac Lab task as the SDK's `Environment`.

Isaac Lab's API of 2.x: tasks are registered with gymnasium, numbers are tensors with one row per instance, and an
instance that ends is reset within the step that ends it.
"""

import re
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fla_sdk.embodiment import Camera, Embodiment
from fla_sdk.errors import ConfigError, UnknownNameError
from fla_sdk.space import Field, Space

_app: Any = None
"""Isaac Sim runs once per process, must be started before torch is imported, and ends the process when closed."""


class IsaacLabEnvironment:
    """State: the positions of the robot's joints. Cameras: those of the scene's sensors that give `rgb`."""

    def __init__(self, task: str, *, robot: str, device: str) -> None:
        _start()
        import gymnasium
        import isaaclab_tasks  # noqa: F401  # pyright: ignore[reportMissingImports]
        from isaaclab_tasks.utils import parse_env_cfg  # pyright: ignore[reportMissingImports]

        if task not in gymnasium.registry:
            known = [name for name in gymnasium.registry if name.startswith("Isaac-")]
            raise UnknownNameError("task of Isaac Lab", task, known)
        self._gym: Any = gymnasium.make(task, cfg=parse_env_cfg(task, device=device, num_envs=1))
        self._env: Any = self._gym.unwrapped
        articulations = self._env.scene.articulations
        if robot not in articulations:
            raise UnknownNameError(f"robot of {task} (--option robot=NAME)", robot, articulations)
        self._robot = articulations[robot]
        self._cameras: dict[str, Any] = {
            name: sensor
            for name, sensor in self._env.scene.sensors.items()
            if "rgb" in getattr(getattr(sensor, "cfg", None), "data_types", ())
        }
        self.task = _words(task)
        self.success = False
        self.embodiment = self._describe()

    def reset(self, seed: int) -> None:
        self._gym.reset(seed=seed)
        self.success = False

    def observe(self) -> Mapping[str, Any]:
        images = {f"images/{name}": _picture(sensor.data.output["rgb"]) for name, sensor in self._cameras.items()}
        return {**images, "state": _row(self._robot.data.joint_pos).astype(np.float32), "task": self.task}

    def step(self, action: NDArray[np.floating]) -> bool:
        # A tensor on the simulator's device, without importing torch.
        actions = self._robot.data.joint_pos.new_tensor(np.asarray(action, np.float32)[None])
        _, _, terminated, truncated, _ = self._gym.step(actions)
        self.success = self._solved()
        return bool(_row(terminated)) or bool(_row(truncated))

    def render(self) -> NDArray[np.uint8]:
        if not self._cameras:
            raise ConfigError(f"{self.task}: the scene has no camera to render with")
        return self.observe()[f"images/{next(iter(self._cameras))}"]

    def close(self) -> None:
        self._gym.close()

    def _solved(self) -> bool:
        """Whether the task ended by a condition called success; tasks for reinforcement learning have none."""
        manager = getattr(self._env, "termination_manager", None)
        return manager is not None and "success" in manager.active_terms and bool(_row(manager.get_term("success")))

    def _describe(self) -> Embodiment:
        space = self._env.single_action_space
        low, high = np.ravel(space.low), np.ravel(space.high)
        bounded = np.isfinite([low, high]).all() and (low < high).all()
        return Embodiment(
            name="isaaclab",
            description=self.task,
            state=Space(Field(names=tuple(self._robot.joint_names), unit="rad")),
            action=Space(
                *(
                    Field(
                        names=(f"action_{i}",),
                        unit="normalized",
                        limits=(float(low[i]), float(high[i])) if bounded else None,
                    )
                    for i in range(len(low))
                )
            ),
            cameras=tuple(Camera(name, slot=name) for name in self._cameras),
            control_hz=round(1 / float(self._env.step_dt), 3),
        )


def _start() -> None:
    global _app
    if _app is None:
        from isaaclab.app import AppLauncher  # pyright: ignore[reportMissingImports]

        _app = AppLauncher(headless=True, enable_cameras=True).app


def _row(tensor: Any) -> NDArray[Any]:
    """What a tensor `[1, ...]` has for the only instance."""
    return np.asarray(tensor.detach().cpu().numpy())[0]


def _picture(tensor: Any) -> NDArray[np.uint8]:
    """`[1, H, W, 3 or 4]` to `[H, W, 3]`; a copy, because the simulator draws into the same memory again."""
    return np.array(_row(tensor)[..., :3], np.uint8)


def _words(task: str) -> str:
    """`Isaac-Lift-Cube-Franka-v0` -> `lift cube franka`."""
    return re.sub(r"-v\d+$", "", task).removeprefix("Isaac-").replace("-", " ").lower()
