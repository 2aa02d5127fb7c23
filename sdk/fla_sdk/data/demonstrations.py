"""`Demonstrations`: a dataset bound to the embodiment that made it, read as `Sample`s."""

import hashlib
import warnings
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fla_sdk.data.dataset import Dataset, Feature
from fla_sdk.data.quarantine import Quarantine
from fla_sdk.data.wording import Wording
from fla_sdk.embodiment import Embodiment
from fla_sdk.errors import DataError, nearest
from fla_sdk.normalization import fingerprint
from fla_sdk.sample import PendingImage, Sample
from fla_sdk.space import RESOLUTION, Space, default_aliases

Floats = NDArray[np.floating]


class Demonstrations:
    """Samples of one embodiment: the state and images of a row, and the `horizon` actions from there.

    Windows are index arithmetic on columns; images are decoded one row at a time. Raises `DataError` when the dataset
    does not fit the embodiment, with both sides printed.
    """

    def __init__(
        self,
        dataset: Dataset,
        embodiment: Embodiment,
        *,
        horizon: int,
        episodes: NDArray[np.integer] | None = None,
        prompt: str = "{task}",
        skip_idle: bool = False,
        quarantine: Quarantine | None = None,
    ) -> None:
        """`episodes` are the numbers of those to use, rising; all by default. `prompt` is a `Wording`.

        `skip_idle` leaves out the moments after which nothing moves for a whole chunk; they stay in the chunks of the
        moments before them. Where a robot rests, its state gives the action away and nothing is learned about images
        (openpi filters DROID for the same reason). `quarantine` is where damaged episodes go; without one they are
        refused.
        """
        self.dataset, self.embodiment, self.horizon = dataset, embodiment, horizon
        self.quarantine = Quarantine() if quarantine is None else quarantine
        chosen = np.arange(len(dataset.episode_bounds)) if episodes is None else episodes
        for episode in chosen:
            if (reason := dataset.damaged.get(int(episode))) is not None:
                self.quarantine.add(dataset.path, int(episode), reason)
        self.episodes = chosen[~np.isin(chosen, list(dataset.damaged))]
        """Numbers of the episodes that samples begin in."""
        columns = _Columns(dataset)
        self.states = _vectors(dataset, columns, embodiment, embodiment.state, "state")
        self.actions = _vectors(dataset, columns, embodiment, embodiment.action, "action")
        self.camera_keys = camera_keys(dataset, embodiment)
        self.wording = Wording(prompt, dataset)
        if dataset.fps != embodiment.control_hz:
            warnings.warn(
                f"{dataset.path}: recorded at {dataset.fps:g} Hz, embodiment {embodiment.name!r} is controlled at "
                f"{embodiment.control_hz:g} Hz; a chunk of {horizon} actions will be executed in "
                f"{horizon / embodiment.control_hz:.2f} s instead of {horizon / dataset.fps:.2f} s",
                stacklevel=2,
            )
        bounds = dataset.episode_bounds[self.episodes]
        lengths = bounds[:, 1] - bounds[:, 0]
        skipped = np.repeat(bounds[:, 1] - np.cumsum(lengths), lengths)
        self.rows: NDArray[np.int64] = np.arange(len(skipped)) + skipped
        """Rows of the dataset that samples begin at, rising."""
        starts: NDArray[np.int64] | None = getattr(dataset, "starts", None)
        if starts is not None:
            self.rows = np.intersect1d(self.rows, starts, assume_unique=True)
        if skip_idle:
            self.rows = np.concatenate([rows[~self._idle(rows)] for rows in self._blocks()])
        if not len(self.rows):
            raise DataError(
                f"dataset {dataset.path}: nothing is left to train on, because "
                + ("nothing ever moves" if skip_idle else f"{len(self.episodes)} episodes are chosen and have no rows")
            )
        self._check_finite()

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> Sample:
        return self._sample(index, self.dataset.frame)

    def pending(self, index: int) -> Sample:
        """The sample with images to be decoded later, where the dataset can put that off."""
        return self._sample(index, getattr(self.dataset, "pending", self.dataset.frame))

    def _sample(self, index: int, frame: Callable[[str, int], NDArray[np.uint8] | PendingImage]) -> Sample:
        row = int(self.rows[index])
        rows, is_pad = self.window(row)
        return Sample(
            images={camera: frame(key, row) for camera, key in self.camera_keys.items()},
            state=self.states[row],
            task=self.wording(row),
            actions=self.actions[rows],
            actions_is_pad=is_pad,
        )

    def place(self, row: int) -> int:
        """The inverse of `rows`: the number of the sample that begins at `row`."""
        return int(np.searchsorted(self.rows, row))

    def window(self, row: int) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """Rows of the action chunk that begins at `row`, `[T]`, and which of them repeat the episode's last one."""
        rows = row + np.arange(self.horizon)
        last = int(self.episode_end(np.array([row]))[0]) - 1
        return np.minimum(rows, last), rows > last

    def episode_end(self, rows: NDArray[np.integer]) -> NDArray[np.int64]:
        """One past the last row of the episode that each of `rows` is in."""
        ends = self.dataset.episode_bounds[:, 1]
        return ends[np.searchsorted(ends, rows, side="right")]

    def _idle(self, rows: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Of each row, whether the state stays where it is, as far as its units tell, for the rest of the chunk."""
        still = np.array([RESOLUTION[field.unit] for field in self.embodiment.state for _ in field.names])
        idle = np.ones(len(rows), np.bool_)
        last = self.episode_end(rows) - 1
        for step in range(1, self.horizon + 1):
            later = self.states[np.minimum(rows + step, last)]
            idle &= (np.abs(later - self.states[rows]) < still).all(axis=1)
        return idle

    def _check_finite(self) -> None:
        for kind, vectors in (("state", self.states), ("action", self.actions)):
            for rows in self._blocks():
                if not (finite := np.isfinite(vectors[rows]).all(axis=1)).all():
                    row = int(rows[np.argmin(finite)])
                    episode = int(np.searchsorted(self.dataset.episode_bounds[:, 1], row, side="right"))
                    raise DataError(
                        f"dataset {self.dataset.path}: the {kind} of row {row} (episode {episode}, frame "
                        f"{row - int(self.dataset.episode_bounds[episode, 0])}) is not finite; leave the episode out "
                        "with --episodes, or record it again"
                    )

    def _blocks(self, size: int = 1 << 16) -> Iterator[NDArray[np.int64]]:
        """All `rows`, some at a time."""
        for start in range(0, len(self.rows), size):
            yield self.rows[start : start + size]

    @property
    def fingerprint(self) -> str:
        """Of everything that statistics depend on."""
        e = self.embodiment
        return fingerprint(
            {
                "data": self.dataset.fingerprint,
                "embodiment": e.name,
                "mode": e.control_mode,
                "state": e.state.names,
                "action": [(f.names, f.unit, f.predict) for f in e.action],
                "horizon": self.horizon,
                "rows": len(self.rows),
                "episodes": hashlib.sha256(np.asarray(self.episodes, np.int64).tobytes()).hexdigest(),
            }
        )


class _Columns(Mapping[str, Any]):
    """A dataset's low-dimensional columns as a mapping that reads on demand."""

    def __init__(self, dataset: Dataset) -> None:
        self._dataset = dataset
        self._names = [name for name, feature in dataset.features.items() if not feature.is_camera]

    def __getitem__(self, name: str) -> NDArray[Any]:
        return self._dataset.column(name)

    def __contains__(self, name: object) -> bool:
        return name in self._names

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


def _vectors(dataset: Dataset, columns: _Columns, embodiment: Embodiment, space: Space, kind: str) -> Floats:
    where = f"dataset {dataset.path} does not fit embodiment {embodiment.name!r}"
    vectors = space.gather(columns, kind)
    if vectors is None:
        raise DataError(
            f"{where}: it has no {kind}; expected {space.keys(kind)}, "
            f"the dataset has {', '.join(columns) or 'no columns'}. "
            "Add the dataset's key to the embodiment's aliases, or choose another embodiment."
        )
    if vectors.ndim != 2 or vectors.shape[1] != space.width:
        raise DataError(
            f"{where}: the {kind} has {vectors.shape[-1]} dimensions in the dataset "
            f"({_described(dataset, space, kind)}), {space.width} in the embodiment ({', '.join(space.names)})"
        )
    names = _names_in(dataset, space, kind)
    if names is not None and not _generic(names) and names != space.names:
        raise DataError(
            f"{where}: the {kind} dimensions are named {', '.join(names)} in the dataset, "
            f"{', '.join(space.names)} in the embodiment. Rename one side, in the order of the data."
        )
    return vectors


def _feature(dataset: Dataset, space: Space, kind: str) -> Feature | None:
    for alias in (*space.aliases, *default_aliases(kind)):
        if alias in dataset.features:
            return dataset.features[alias]
    return None


def _names_in(dataset: Dataset, space: Space, kind: str) -> tuple[str, ...] | None:
    feature = _feature(dataset, space, kind)
    return feature.names if feature else None


def _described(dataset: Dataset, space: Space, kind: str) -> str:
    return ", ".join(_names_in(dataset, space, kind) or ()) or "unnamed"


def _generic(names: tuple[str, ...]) -> bool:
    """Names such as `motor_0` or `3` say nothing about what a dimension is."""
    return all(name.rstrip("0123456789").rstrip("_").lower() in ("", "motor", "dim", "joint_", "x") for name in names)


def camera_keys(dataset: Dataset, embodiment: Embodiment) -> dict[str, str]:
    """Camera of the embodiment -> its key in the dataset. Raises `DataError` when one is missing."""
    available = [name for name, feature in dataset.features.items() if feature.is_camera]
    found: dict[str, str] = {}
    for camera in embodiment.cameras:
        if camera.slot is None:
            continue
        key = next((k for k in camera.keys if k in available), None)
        if key is not None:
            found[camera.name] = key
        elif camera.required:
            hint = f"; did you mean {close!r}?" if (close := nearest(camera.name, available)) else ""
            raise DataError(
                f"dataset {dataset.path} does not fit embodiment {embodiment.name!r}: camera {camera.name!r} is "
                f"missing; expected one of {', '.join(camera.keys)}, "
                f"the dataset has {', '.join(available) or 'no cameras'}{hint}"
            )
    return found
