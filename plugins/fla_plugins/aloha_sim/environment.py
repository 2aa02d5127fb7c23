"""`AlohaSim`: gym-aloha's two tasks as an `Environment` that renders only when it is looked at.

The physics, the objects' placement and the reward are gym-aloha's own. Its `gym.Env` is not used, because that one
renders three 480x640 pictures in every step; here the same task classes run in the same dm_control loop without them.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fla_plugins.aloha_sim import rendering
from fla_sdk.errors import ConfigError, ObservationError, UnknownNameError

ACTION_WIDTH = 14
SUCCESS_REWARD = 4
INSTRUCTIONS = {
    "transfer_cube": "transfer the cube from the right arm to the left arm",
    "insertion": "insert the peg into the socket",
}


class AlohaSim:
    """Two ViperX arms over a table, in MuJoCo, at 50 Hz. Use an environment from the thread that made it.

    An action is `[14]`: six absolute joint angles (rad) and the gripper (0 closed, 1 open) of the left arm, then of
    the right one; the state is the same fourteen as measured. Joint targets beyond the limits are clipped by MuJoCo.
    """

    def __init__(
        self, task_name: str, *, camera_height: int = 480, camera_width: int = 640, fast_rendering: bool = True
    ) -> None:
        """`fast_rendering` drops shadows and 4x antialiasing, about ten times the frames per second in software.

        Pictures with and without it differ, so record and evaluate with the same setting.

        Raises `UnknownNameError` for another task, `ConfigError` when the simulator is not installed.
        """
        if task_name not in INSTRUCTIONS:
            raise UnknownNameError("aloha_sim task", task_name, INSTRUCTIONS)
        if camera_height < 1 or camera_width < 1:
            raise ConfigError(f"aloha_sim: a picture of {camera_height}x{camera_width} pixels has no content")
        self.task_name = task_name
        self.task = INSTRUCTIONS[task_name]
        self.success = False
        self._size = {"height": camera_height, "width": camera_width}
        self._began = self._over = False
        self._backend, self._loop = _simulator(task_name)
        visual = self.physics.model.vis
        visual.global_.offheight = max(visual.global_.offheight, camera_height)
        visual.global_.offwidth = max(visual.global_.offwidth, camera_width)
        if fast_rendering:
            visual.quality.offsamples = 0
            visual.quality.shadowsize = 0

    @property
    def physics(self) -> Any:
        """dm_control's `Physics`: the true state, for experts and tests."""
        return self._loop.physics

    def reset(self, seed: int) -> None:
        """Arms to the start pose, objects to a place drawn from `seed` (0 to 2**32 - 1) just as gym-aloha draws it."""
        _place_objects(self.task_name, seed)
        self._loop.reset()
        self._began, self._over, self.success = True, False, False

    def observe(self) -> Mapping[str, Any]:
        """`images/top` uint8 `[camera_height, camera_width, 3]`, `state` float32 `[14]`, `task`.

        Raises `ConfigError` where neither EGL nor OSMesa works, `ObservationError` before the first `reset`.
        """
        picture = self._picture("top")
        state = self._loop.task.get_qpos(self.physics).astype(np.float32)
        return {"images/top": picture, "state": state, "task": self.task}

    def step(self, action: NDArray[np.floating]) -> bool:
        """Hold the joint targets `action` `[14]` for 20 ms; True when the task is solved or the physics diverged.

        After that nothing moves any more. Raises `ObservationError` when the action has another width or is not finite.
        """
        from dm_control.rl.control import PhysicsError

        self._check_began()
        targets = _checked(action)
        if self._over:
            return True
        try:
            reward = self._loop.step(targets).reward
        except PhysicsError:
            # A policy that blows the simulation up has failed its episode, not the whole evaluation.
            self._over = True
        else:
            self._over = self.success = reward == SUCCESS_REWARD
        return self._over

    def render(self) -> NDArray[np.uint8]:
        """A picture uint8 `[camera_height, camera_width, 3]` from in front of the table."""
        return self._picture("angle")

    def close(self) -> None:
        """Free the model and the rendering context."""
        self.physics.free()

    def _picture(self, camera: str) -> NDArray[np.uint8]:
        self._check_began()
        if self._backend == rendering.NONE:
            raise rendering.no_renderer()
        # OpenGL's rows come bottom up and dm_control returns a flipped view of them.
        return np.ascontiguousarray(self.physics.render(camera_id=camera, **self._size))

    def _check_began(self) -> None:
        if not self._began:
            raise ObservationError("aloha_sim: there is no episode yet; call reset(seed) first")


def _checked(action: NDArray[np.floating]) -> NDArray[np.float64]:
    values = np.asarray(action, np.float64)
    if values.shape != (ACTION_WIDTH,):
        raise ObservationError(
            f"aloha_sim: an action is [{ACTION_WIDTH}] (6 joints and gripper of the left arm, then of the right), "
            f"got {list(values.shape)}; step through a chunk [T, {ACTION_WIDTH}] one row at a time"
        )
    if not np.isfinite(values).all():
        bad = np.flatnonzero(~np.isfinite(values)).tolist()
        raise ObservationError(
            f"aloha_sim: the action is not finite at dimensions {bad}: {values[bad].tolist()}; a policy that predicts "
            "such values has diverged, or was trained with statistics that contain them"
        )
    return values


def _simulator(task_name: str) -> tuple[str, Any]:
    """Backend name and dm_control loop of the task. The simulator is imported here, after the choice of a renderer."""
    try:
        backend = rendering.prepare()
        from dm_control import mujoco
        from dm_control.rl import control
        from gym_aloha import constants
        from gym_aloha.tasks import sim
    except ModuleNotFoundError as error:
        raise ConfigError(
            f'the benchmark aloha_sim needs {error.name}, which is not installed: pip install "fla-sdk[sim]"'
        ) from error
    task: Any = sim.InsertionTask(random=0) if task_name == "insertion" else sim.TransferCubeTask(random=0)
    # dm_control asks for an observation after every step, and gym-aloha's answer costs three pictures.
    task.get_observation = lambda physics: {}
    physics = mujoco.Physics.from_xml_path(str(constants.ASSETS_DIR / f"bimanual_viperx_{task_name}.xml"))
    return backend, control.Environment(physics, task, control_timestep=constants.DT)


def _place_objects(task_name: str, seed: int) -> None:
    """Draw the objects' poses. gym-aloha keeps them in a list of one that its tasks read when an episode begins."""
    from gym_aloha import utils
    from gym_aloha.tasks import sim

    placed: list[Any] = sim.BOX_POSE
    placed[0] = (
        np.concatenate(utils.sample_insertion_pose(seed)) if task_name == "insertion" else utils.sample_box_pose(seed)
    )
