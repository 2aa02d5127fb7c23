"""Serving a dataset as if it were a policy: a robot moves, or a client is proved to work, before anything is trained.

`fla serve DATASET` answers each observation with what was done in the most similar moment: the nearest state among the
rows that have the same task, or among all rows when no row has it. With `--model-option episode=3` each robot is led
through that one episode, from its beginning to its end.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs
import numpy as np
from numpy.typing import NDArray

import fla_sdk as fla
from fla_sdk.config import structure
from fla_sdk.errors import ConfigError, DataError, FlaError, ObservationError
from fla_sdk.space import RESOLUTION

if TYPE_CHECKING:
    from fla_sdk.data.demonstrations import Demonstrations
    from fla_sdk.policy.interface import Request

REACH = 200
"""A robot is where a moment was recorded when no dimension is farther off than this many resolutions of its unit:
0.2 rad, 2 cm, 20 deg."""

MOST_ROBOTS = 1000
"""Of so many the place in the episode is known; the one that asked longest ago is forgotten first."""


@attrs.frozen(kw_only=True)
class Options:
    """What `--model-option` may say."""

    horizon: int = 16
    """Actions per answer."""

    episode: int | None = None
    """Which one to replay; None answers from all of them."""


class ReplayPolicy:
    """Answers from `demonstrations`; the same observation always gets the same actions."""

    def __init__(self, demonstrations: "Demonstrations") -> None:
        self._demonstrations = demonstrations
        self._spread = demonstrations.states.std(axis=0) + 1e-6
        rows = range(len(demonstrations))
        self._tasks = np.array([demonstrations.dataset.task(row) for row in rows])
        self.embodiments = {demonstrations.embodiment.name: demonstrations.embodiment}
        self.default_embodiment = demonstrations.embodiment.name
        self.horizon = demonstrations.horizon

    @property
    def metadata(self) -> dict[str, Any]:
        return {"policy": "replay", "default_embodiment": self.default_embodiment}

    def infer(self, observation: Mapping[str, Any]) -> dict[str, Any]:
        """`actions` `[T, A]` recorded from the most similar row on, the last one repeated at the episode's end."""
        demonstrations = self._demonstrations
        sample = demonstrations.embodiment.observe(observation)
        distance = np.linalg.norm((demonstrations.states - sample.state) / self._spread, axis=1)
        same_task = self._tasks == sample.task
        if same_task.any():
            distance = np.where(same_task, distance, np.inf)
        rows, _ = demonstrations.window(int(np.argmin(distance)))
        return {"actions": demonstrations.actions[rows].astype(np.float32)}


class EpisodeReplay:
    """Leads each robot through one episode of `demonstrations`, which have no other.

    A robot begins at the first frame and goes on from the frame that is most like where it is now, at most one chunk
    ahead: so it may execute as much of a chunk as it likes. Where the recorded robot waited, the wait is skipped. At
    the end the last action is held; a robot that was brought back to where the episode begins, begins again.
    """

    max_batch = 1

    def __init__(self, demonstrations: "Demonstrations") -> None:
        (self._episode,) = demonstrations.episodes.tolist()
        self._robot, self.horizon = demonstrations.embodiment, demonstrations.horizon
        first, end = demonstrations.dataset.episode_bounds[self._episode].tolist()
        self._states = demonstrations.states[first:end]
        self._actions = demonstrations.actions[first:end].astype(np.float32)
        self._task = demonstrations.wording(first)
        self._resolution = np.array([RESOLUTION[field.unit] for field in self._robot.state for _ in field.names])
        self._frames: dict[str | None, int] = {}
        """Session -> frame that it was answered from last; the one that asked last comes last."""
        self.embodiments = {self._robot.name: self._robot}
        self.default_embodiment = self._robot.name

    @property
    def metadata(self) -> dict[str, Any]:
        replay = {"episode": self._episode, "frames": len(self._states), "task": self._task}
        return {"policy": "replay", "default_embodiment": self.default_embodiment, "replay": replay}

    def infer(self, observation: Mapping[str, Any]) -> dict[str, Any]:
        """As the one robot that has no session."""
        return self._lead(None, observation)

    def infer_many(self, requests: "Sequence[Request]") -> list[dict[str, Any] | FlaError]:
        """`actions` `[T, A]`; and as `replay` the `episode`, its `frames`, the `frame`, and whether it has `ended`."""
        answers: list[dict[str, Any] | FlaError] = []
        for request in requests:
            try:
                answers.append(self._lead(request.session, request.observation))
            except FlaError as error:
                answers.append(error)
        return answers

    def _lead(self, session: str | None, observation: Mapping[str, Any]) -> dict[str, Any]:
        state = self._robot.observe({"task": self._task, **observation}).state
        frame = self._frame(self._frames.pop(session, None), state)
        self._frames[session] = frame
        if len(self._frames) > MOST_ROBOTS:
            del self._frames[next(iter(self._frames))]
        last = len(self._states) - 1
        actions = self._actions[np.minimum(np.arange(frame, frame + self.horizon), last)]
        replay = {"episode": self._episode, "frames": last + 1, "frame": frame, "ended": frame == last}
        return {"actions": actions, "replay": replay}

    def _frame(self, before: int | None, state: NDArray[np.floating]) -> int:
        """Where a robot in `state` is, that was in frame `before`. Raises `ObservationError` when it cannot begin."""
        if before is not None:
            off = self._off(self._states[before : before + self.horizon + 1], state)
            if off.min() <= REACH or self._off(self._states[:1], state).item() > REACH:
                return before + int(np.flatnonzero(off <= off.min() + 1)[-1])
        elif self._off(self._states[:1], state).item() > REACH:
            raise ObservationError(self._too_far(state))
        return 0

    def _off(self, states: NDArray[np.floating], state: NDArray[np.floating]) -> NDArray[np.floating]:
        """How far `state` is from each of `states`, in resolutions, where it is farthest."""
        return np.abs((states - state) / self._resolution).max(axis=1)

    def _too_far(self, state: NDArray[np.floating]) -> str:
        named = zip(self._robot.state.names, state.tolist(), self._states[0].tolist(), self._resolution, strict=True)
        far = ", ".join(
            f"{name} at {here:.4g} instead of {there:.4g}"
            for name, here, there, resolution in named
            if abs(here - there) > REACH * resolution
        )
        return (
            f"{self._robot.name} is not where episode {self._episode} begins: {far}. Bring it there first, by hand "
            "or with `fla serve scripted:home`"
        )


@fla.hookimpl
def fla_open_checkpoint(
    path: Path, registry: fla.Registry, embodiment: str | None, options: Mapping[str, Any]
) -> ReplayPolicy | EpisodeReplay | None:
    """A recorded dataset, for the robot that it or the user names."""
    from fla_sdk.data.demonstrations import Demonstrations

    dataset = registry.open_dataset(str(path))
    if dataset is None:
        return None
    robot = embodiment or getattr(dataset, "robot", None)
    if not robot:
        raise DataError(f"{path} does not say which robot recorded it (robot_type): give --embodiment NAME")
    chosen = structure(options.get("model", {}), Options, where=f"--model-option for the dataset {path}")
    if chosen.horizon < 1:
        raise ConfigError(f"horizon is {chosen.horizon}, must be above 0 (actions per answer)")
    if chosen.episode is None:
        return ReplayPolicy(Demonstrations(dataset, registry.embodiment(robot), horizon=chosen.horizon))
    count = len(dataset.episode_bounds)
    if not 0 <= chosen.episode < count:
        raise ConfigError(f"episode is {chosen.episode}, {path} has {count}: 0 to {count - 1}")
    only = np.array([chosen.episode])
    return EpisodeReplay(Demonstrations(dataset, registry.embodiment(robot), horizon=chosen.horizon, episodes=only))
