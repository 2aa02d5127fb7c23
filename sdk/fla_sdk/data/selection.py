"""`Selection`: what of a dataset is copied, and under which names."""

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import attrs
import numpy as np
from numpy.typing import NDArray

from fla_sdk.data.dataset import Dataset, Feature
from fla_sdk.data.demonstrations import Demonstrations
from fla_sdk.embodiment import Embodiment
from fla_sdk.errors import ConfigError, DataError, EpisodeError, UnknownNameError

COUNTED = ("timestamp", "frame_index", "episode_index", "index", "task_index")
"""Columns that LeRobot datasets count themselves: made anew by whoever writes."""


class Selection:
    """Episodes and columns of a dataset, named as LeRobot names them; numbers as they are, frames RGB."""

    def __init__(
        self,
        dataset: Dataset,
        *,
        episodes: Sequence[int] | None = None,
        task: str | None = None,
        robot: Embodiment | None = None,
        leave_out: Sequence[str] = (),
        video: bool | None = None,
    ) -> None:
        """`episodes` are numbers, rising; `task` replaces what the dataset says. With `robot`, its state, action and
        cameras are copied under their standard names, and nothing else; otherwise all columns but `leave_out`.
        `video` is how all cameras are to be stored; None: each as it is. Raises `ConfigError` and `DataError`.
        """
        self.dataset = dataset
        total = len(dataset.episode_bounds)
        self.episodes = list(range(total)) if episodes is None else [int(number) for number in episodes]
        if not self.episodes or self.episodes[-1] >= total:
            raise ConfigError(f"no such episodes in {dataset.path}, which has 0 to {total - 1}")
        self.damaged = {number: dataset.damaged[number] for number in self.episodes if number in dataset.damaged}
        if len(self.damaged) == len(self.episodes):
            number, reason = next(iter(self.damaged.items()))
            raise DataError(f"{dataset.path}: every chosen episode is damaged; episode {number}: {reason}")
        for name in leave_out:
            if name not in dataset.features:
                raise UnknownNameError(f"column of {dataset.path}", name, dataset.features)
        self._numbers: dict[str, NDArray[Any]]
        if robot is None:
            features = {n: f for n, f in dataset.features.items() if n not in (*COUNTED, *leave_out)}
            self._sources = _renamed(dataset, features)
            self._numbers = {
                name: dataset.column(source)
                for name, source in self._sources.items()
                if not dataset.features[source].is_camera
            }
            names = {name: dataset.features[source].names for name, source in self._sources.items()}
            self.robot = str(getattr(dataset, "robot", None) or "unknown")
        else:
            healthy = np.array([number for number in self.episodes if number not in self.damaged])
            fitted = Demonstrations(dataset, robot, horizon=1, episodes=healthy)
            self._numbers = {"observation.state": fitted.states, "action": fitted.actions}
            cameras = {f"observation.images.{name}": key for name, key in fitted.camera_keys.items()}
            self._sources = {name: key for name, key in cameras.items() if key not in leave_out}
            names = {"observation.state": robot.state.names, "action": robot.action.names}
            self.robot = robot.name
        self.features: dict[str, Feature] = {
            name: Feature(dtype=_dtype_name(values), shape=values.shape[1:] or (1,), names=names[name])
            for name, values in self._numbers.items()
        }
        for name, source in self._sources.items():
            if name not in self._numbers:
                feature = dataset.features[source]
                dtype = feature.dtype if video is None else "video" if video else "image"
                self.features[name] = attrs.evolve(feature, dtype=dtype)
        self._task = None if task is None else task.strip()
        for number in self.episodes:
            if number not in self.damaged and not self.task(self.rows(number)[0]):
                raise DataError(
                    f"{dataset.path}: episode {number} does not say what the robot was told; say it with --task"
                )

    def rows(self, number: int) -> range:
        """Rows of the dataset that episode `number` has."""
        first, end = self.dataset.episode_bounds[number].tolist()
        return range(first, end)

    def row(self, row: int) -> dict[str, Any]:
        """A value per feature. Raises `EpisodeError`."""
        values = {name: _value(numbers, row) for name, numbers in self._numbers.items()}
        return values | {name: self.frame(name, row) for name, f in self.features.items() if f.is_camera}

    def numbers(self, name: str, number: int) -> NDArray[Any]:
        """A column of one episode, `[T, *shape]`."""
        rows = self.rows(number)
        return self._numbers[name][rows.start : rows.stop].reshape(len(rows), *self.features[name].shape)

    def frame(self, name: str, row: int) -> NDArray[np.uint8]:
        """RGB `[H, W, 3]`. Raises `EpisodeError`."""
        return self.dataset.frame(self._sources[name], row)

    def first_frame(self, name: str) -> NDArray[np.uint8]:
        """The first one that can be read. Raises `DataError` when the camera cannot be read at all."""
        for number in (healthy := [number for number in self.episodes if number not in self.damaged]):
            try:
                return self.frame(name, self.rows(number)[0])
            except EpisodeError:
                if number == healthy[-1]:
                    raise
            except DataError as error:
                raise DataError(f"{error} (--leave-out {self._sources[name]})") from error
        raise AssertionError("checked when built: some episodes are not damaged")

    def task(self, row: int) -> str:
        return self.dataset.task(row).strip() if self._task is None else self._task

    @cached_property
    def described(self) -> dict[str, Any]:
        """Everything that the copy depends on, as plain values."""
        cameras = sorted(name for name, feature in self.features.items() if feature.is_camera)
        return {
            "source": self.dataset.path.name,
            "fingerprint": self.dataset.fingerprint,
            "frames": {name: self.dataset.frames_fingerprint(self._sources[name]) for name in cameras},
            "episodes": self.episodes,
            "features": {name: [f.dtype, *f.shape] for name, f in sorted(self.features.items())},
            "robot": self.robot,
            "task": self._task,
        }


def _renamed(dataset: Dataset, features: Mapping[str, Feature]) -> dict[str, str]:
    """Name in the copy -> name in the dataset; LeRobot allows no slash."""
    names: dict[str, str] = {}
    for source in features:
        name = source.replace("/", ".")
        if name in names:
            raise DataError(
                f"{dataset.path}: columns {names[name]!r} and {source!r} would both be called {name!r}; leave one out"
                f" with --leave-out {source}"
            )
        names[name] = source
    return names


def _dtype_name(values: NDArray[Any]) -> str:
    return "string" if values.dtype == object else values.dtype.name


def _value(values: NDArray[Any], row: int) -> Any:
    """Numbers as an array, text as `str`."""
    return values[row].item() if values.ndim > 1 and values.dtype == object else values[row]
