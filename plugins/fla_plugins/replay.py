"""Serving a dataset as if it were a policy: each observation is answered with what was done in the most similar one.

`fla serve DATASET` moves a robot, or proves that a client is wired up, before anything is trained. Similar means the
nearest state among the rows that have the same task, or among all rows when no row has it.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

import fla_sdk as fla
from fla_sdk.errors import DataError

if TYPE_CHECKING:
    from fla_sdk.data.demonstrations import Demonstrations

HORIZON = 16
"""Actions per answer."""


class ReplayPolicy:
    """Answers from `demonstrations`; the same observation always gets the same actions."""

    def __init__(self, demonstrations: "Demonstrations") -> None:
        self._demonstrations = demonstrations
        self._spread = demonstrations.states.std(axis=0) + 1e-6
        rows = range(len(demonstrations))
        self._tasks = np.array([demonstrations.dataset.task(row) for row in rows])

    @property
    def metadata(self) -> dict[str, Any]:
        return {"policy": "replay", "default_embodiment": self._demonstrations.embodiment.name}

    def infer(self, observation: Mapping[str, Any]) -> dict[str, Any]:
        """`actions` `[16, A]` recorded from the most similar row on, the last one repeated at the episode's end."""
        demonstrations = self._demonstrations
        sample = demonstrations.embodiment.observe(observation)
        distance = np.linalg.norm((demonstrations.states - sample.state) / self._spread, axis=1)
        same_task = self._tasks == sample.task
        if same_task.any():
            distance = np.where(same_task, distance, np.inf)
        rows, _ = demonstrations.window(int(np.argmin(distance)))
        return {"actions": demonstrations.actions[rows].astype(np.float32)}


@fla.hookimpl
def fla_open_checkpoint(path: Path, registry: fla.Registry, embodiment: str | None) -> ReplayPolicy | None:
    """A recorded dataset, for the robot that it or the user names."""
    from fla_sdk.data.demonstrations import Demonstrations

    dataset = registry.open_dataset(str(path))
    if dataset is None:
        return None
    robot = embodiment or getattr(dataset, "robot", None)
    if not robot:
        raise DataError(f"{path} does not say which robot recorded it (robot_type): give --embodiment NAME")
    return ReplayPolicy(Demonstrations(dataset, registry.embodiment(robot), horizon=HORIZON))
