"""A stand-in for Isaac Lab, which needs Isaac Sim and an NVIDIA GPU: its names, shapes and habits, no physics."""

import sys
from collections.abc import Iterator
from types import ModuleType, SimpleNamespace
from typing import Any

import gymnasium
import numpy as np
import pytest

TASK = "Isaac-Lift-Cube-Franka-v0"


class Tensor:
    """As much of a torch tensor as is used: importing torch would take longer than the tests."""

    def __init__(self, values: Any) -> None:
        self.values = np.array(values)

    def new_tensor(self, values: Any) -> "Tensor":
        return Tensor(np.asarray(values, self.values.dtype))

    def detach(self) -> "Tensor":
        return self

    def cpu(self) -> "Tensor":
        return self

    def numpy(self) -> np.ndarray:
        return self.values


class FakeEnvironment(gymnasium.Env[Any, Any]):
    """One instance; joints follow the action, and a sum above 1 solves the task. Resets itself at the end."""

    metadata: dict[str, Any] = {"render_modes": []}  # noqa: RUF012

    def __init__(self, cfg: Any, **_: Any) -> None:
        assert cfg == (TASK, "cpu", 1)
        self.single_action_space = gymnasium.spaces.Box(-0.5, 0.5, (2,))
        self.action_space = gymnasium.spaces.Box(-0.5, 0.5, (1, 2))
        self.observation_space = gymnasium.spaces.Dict({"policy": gymnasium.spaces.Box(-9, 9, (1, 2))})
        self.device, self.step_dt, self._steps = "cpu", 0.02, 0
        self.data = SimpleNamespace(joint_pos=Tensor(np.zeros((1, 2), np.float32)))
        self._picture = SimpleNamespace(output={"rgb": Tensor(np.zeros((1, 8, 12, 4), np.uint8))})
        camera = SimpleNamespace(cfg=SimpleNamespace(data_types=["rgb", "depth"]), data=self._picture)
        contact = SimpleNamespace(cfg=SimpleNamespace(history_length=3))
        arm = SimpleNamespace(data=self.data, joint_names=["panda_joint1", "panda_joint2"])
        self.scene = SimpleNamespace(articulations={"robot": arm}, sensors={"wrist": camera, "contact": contact})
        self.termination_manager = SimpleNamespace(
            active_terms=["time_out", "success"], get_term=lambda name: self._done[name]
        )
        self._draw()

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self._steps = 0
        self.data.joint_pos = Tensor(np.full((1, 2), seed or 0, np.float32))
        self._draw()
        return {"policy": self.data.joint_pos}, {}

    def step(self, action: Any) -> Any:
        assert action.values.shape == (1, 2) and action.values.dtype == np.float32
        self._steps += 1
        self.data.joint_pos = Tensor(self.data.joint_pos.values + action.values)
        self._draw()
        success, late = Tensor(self.data.joint_pos.values.sum(1) > 1), Tensor([self._steps >= 2])
        self._done = {"success": success, "time_out": late}
        if success.values[0] or late.values[0]:
            self.reset()
        return {"policy": self.data.joint_pos}, Tensor(np.zeros(1)), success, late, {}

    def _draw(self) -> None:
        self._picture.output["rgb"].values[:] = self._steps * 10


@pytest.fixture
def isaaclab(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[dict[str, Any]]]:
    """Isaac Lab, installed; how its app was launched."""
    launched: list[dict[str, Any]] = []

    def launcher(**options: Any) -> SimpleNamespace:
        launched.append(options)
        return SimpleNamespace(app=object())

    contents: dict[str, dict[str, Any]] = {
        "isaaclab": {},
        "isaaclab.app": {"AppLauncher": launcher},
        "isaaclab_tasks": {},
        "isaaclab_tasks.utils": {"parse_env_cfg": lambda task, device, num_envs: (task, device, num_envs)},
    }
    for name, attributes in contents.items():
        module = ModuleType(name)
        vars(module).update(attributes)
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setattr("fla_plugins.isaaclab.environment._app", None)
    gymnasium.register(TASK, entry_point=FakeEnvironment, disable_env_checker=True, order_enforce=False)
    yield launched
    del gymnasium.registry[TASK]
