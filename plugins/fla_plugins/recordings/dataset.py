"""`RecordedDataset`: recordings that a mapping describes, as the SDK's `Dataset`; read in place, nothing is created."""

import hashlib
import threading
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import attrs
import numpy as np
from numpy.typing import NDArray

from fla_plugins.recordings.mapping import CameraImages, Column
from fla_plugins.recordings.mapping import Mapping as Described
from fla_plugins.recordings.pictures import to_rgb
from fla_plugins.recordings.recording import Recording
from fla_sdk.data.dataset import Feature
from fla_sdk.data.files import files_fingerprint
from fla_sdk.errors import DataError, EpisodeError, UnknownNameError
from fla_sdk.normalization import fingerprint


@attrs.frozen(kw_only=True)
class _Contents:
    """What one episode has for the mapping's columns."""

    rows: int
    columns: Mapping[str, tuple[tuple[int, ...], np.dtype[Any]]]
    """Name -> shape of one row, and dtype."""


class RecordedDataset:
    """Every recording is one episode. Episodes that cannot be used are in `damaged` and have no rows.

    Opening reads metadata alone, and the first picture of each camera. Frames are read one by one, columns all at once.
    """

    def __init__(
        self,
        path: Path,
        mapping: Described,
        recordings: Sequence[Recording],
        *,
        task: Callable[[Recording], str] | None = None,
    ) -> None:
        """`task` says what the robot was told, where the mapping does not. Raises `DataError` when nothing fits."""
        if not recordings:
            raise DataError(f"{path} has no recordings {mapping.files!r}; correct the pattern or the folder")
        self.path = path
        self.fps: float = mapping.fps
        self.robot: str | None = mapping.robot
        self._mapping, self._recordings, self._task_of = mapping, list(recordings), task
        contents, reasons = _inspect(mapping, self._recordings)
        self.damaged: Mapping[int, str] = reasons
        lengths = [0 if one is None else one.rows for one in contents]
        ends = np.cumsum(np.asarray(lengths, np.int64))
        self.episode_bounds: NDArray[np.int64] = np.stack([ends - lengths, ends], axis=1)
        example = next(index for index, one in enumerate(contents) if one is not None)
        first = contents[example]
        assert first is not None
        self.features: Mapping[str, Feature] = {
            **{
                name: Feature(dtype=_dtype_name(dtype), shape=shape or (1,), names=mapping.columns[name].names)
                for name, (shape, dtype) in first.columns.items()
            },
            **{
                name: Feature(dtype="image", shape=self._picture(name, camera, example, 0).shape)
                for name, camera in mapping.cameras.items()
            },
        }
        self._columns: dict[str, NDArray[Any]] = {}
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return int(self.episode_bounds[-1, 1])

    def column(self, name: str) -> NDArray[Any]:
        """`[N, *shape]`, read-only; read from all files the first time."""
        if name not in self._mapping.columns:
            raise UnknownNameError(f"column of {self.path}", name, self._mapping.columns)
        with self._lock:
            if name not in self._columns:
                self._columns[name] = self._read(name)
            return self._columns[name]

    def frame(self, name: str, row: int) -> NDArray[np.uint8]:
        """RGB `[H, W, 3]`."""
        if name not in self._mapping.cameras:
            raise UnknownNameError(f"camera of {self.path}", name, self._mapping.cameras)
        if not 0 <= row < len(self):
            raise IndexError(f"row {row} of {self.path}, which has rows 0 to {len(self) - 1}")
        episode = self._episode(row)
        frame = row - int(self.episode_bounds[episode, 0])
        image = self._picture(name, self._mapping.cameras[name], episode, frame)
        if image.shape != self.features[name].shape:
            raise EpisodeError(
                f"{self._place(name, episode, frame)} is {list(image.shape)}, but the first episode has"
                f" {list(self.features[name].shape)} (height, width, colours); give the camera a `size`, or leave the"
                " episode out",
                episode=episode,
            )
        return image

    def task(self, row: int) -> str:
        """What the robot was told; empty where neither mapping nor files say it."""
        return self._tasks[self._episode(row)]

    @cached_property
    def _tasks(self) -> list[str]:
        def told(episode: int, recording: Recording) -> str:
            if self._mapping.task is not None or episode in self.damaged:
                return self._mapping.task or ""
            if self._mapping.task_key is not None:
                return recording.text(self._mapping.task_key).strip()
            return self._task_of(recording) if self._task_of else ""

        return [told(episode, recording) for episode, recording in enumerate(self._recordings)]

    def frames_fingerprint(self, name: str) -> str:
        if name not in self._mapping.cameras:
            raise UnknownNameError(f"camera of {self.path}", name, self._mapping.cameras)
        camera = self._mapping.cameras[name]
        files = [
            file
            for episode, recording in enumerate(self._recordings)
            if episode not in self.damaged
            for file in recording.files(camera.key)
        ]
        root = self.path if self.path.is_dir() else self.path.parent
        return fingerprint({"files": files_fingerprint(root, files), "camera": str(camera)})

    @property
    def fingerprint(self) -> str:
        return self._fingerprint

    @cached_property
    def _fingerprint(self) -> str:
        """Over bounds, tasks and columns, not over how they are spread over files."""
        digest = hashlib.blake2b(digest_size=16)
        digest.update(np.ascontiguousarray(self.episode_bounds).data)
        digest.update(repr(self._tasks).encode())
        for name in sorted(self._mapping.columns):
            column = self.column(name)
            digest.update(f"{name} {column.dtype} {column.shape}".encode())
            digest.update(
                repr(column.tolist()).encode() if column.dtype == object else np.ascontiguousarray(column).data
            )
        return digest.hexdigest()

    def _read(self, name: str) -> NDArray[Any]:
        feature, column = self.features[name], self._mapping.columns[name]
        dtype = np.dtype(object if feature.dtype == "string" else feature.dtype)
        values = np.zeros((len(self), *feature.shape), dtype)
        for episode, (start, end) in enumerate(self.episode_bounds.tolist()):
            if episode in self.damaged:
                continue
            try:
                parts = [self._recordings[episode].read(key) for key in column.keys]
            except DataError as error:
                raise EpisodeError(f"episode {episode}: {error}", episode=episode) from error
            values[start:end] = _side_by_side(parts).reshape(end - start, *feature.shape)
        values.flags.writeable = False
        return values

    def _episode(self, row: int) -> int:
        return int(np.searchsorted(self.episode_bounds[:, 1], row, side="right"))

    def _place(self, name: str, episode: int, frame: int) -> str:
        return f"{self._recordings[episode].where}: {name!r} of episode {episode}, frame {frame}"

    def _picture(self, name: str, camera: CameraImages, episode: int, frame: int) -> NDArray[np.uint8]:
        place = self._place(name, episode, frame)
        try:
            return to_rgb(self._recordings[episode].picture(camera.key, frame), camera, place)
        except DataError as error:
            text = str(error)
            raise EpisodeError(text if text.startswith(place) else f"{place}: {text}", episode=episode) from error


def _inspect(mapping: Described, recordings: Sequence[Recording]) -> tuple[list[_Contents | None], dict[int, str]]:
    """What each episode has, and why some cannot be used. When none can, the mapping is wrong: raises `DataError`."""
    contents: list[_Contents | None] = []
    reasons: dict[int, str] = {}
    first: _Contents | None = None
    for episode, recording in enumerate(recordings):
        try:
            found = _contents(mapping, recording)
            first = first or found
            _compare(found, first, recording.where)
        except DataError as error:
            contents.append(None)
            reasons[episode] = str(error)
        else:
            contents.append(found)
    if first is None:
        raise DataError(reasons[0] + (f" (and {len(reasons) - 1} more episodes like it)" if len(reasons) > 1 else ""))
    return contents, reasons


def _contents(mapping: Described, recording: Recording) -> _Contents:
    rows: dict[str, int] = {}
    columns: dict[str, tuple[tuple[int, ...], np.dtype[Any]]] = {}
    for name, column in mapping.columns.items():
        shapes: list[tuple[int, ...]] = []
        dtypes: list[np.dtype[Any]] = []
        for key in column.keys:
            stream = recording.stream(key)
            rows[key] = stream.rows
            shapes.append(stream.shape)
            dtypes.append(stream.dtype)
        columns[name] = _joined(f"{recording.where}: column {name!r}", column, shapes, dtypes)
    for camera in mapping.cameras.values():
        rows[camera.key] = recording.stream(camera.key).rows
    if len(set(rows.values())) > 1:
        counted = ", ".join(f"{key} {count}" for key, count in rows.items())
        raise DataError(f"{recording.where}: the arrays have different numbers of rows ({counted}); record it again")
    length = next(iter(rows.values()))
    if not length:
        raise DataError(f"{recording.where}: the episode is empty; leave it out")
    return _Contents(rows=length, columns=columns)


def _joined(
    where: str, column: Column, shapes: list[tuple[int, ...]], dtypes: list[np.dtype[Any]]
) -> tuple[tuple[int, ...], np.dtype[Any]]:
    """Shape of a row and dtype of one or several arrays side by side."""
    if len(shapes) == 1 and not column.names:
        shape = shapes[0]
    elif any(len(shape) > 1 for shape in shapes):
        shown = ", ".join(f"{key} {list(shape)}" for key, shape in zip(column.keys, shapes, strict=True))
        raise DataError(f"{where}: only numbers and vectors can be put side by side or named, a row has {shown}")
    else:
        shape = (sum(shape[0] if shape else 1 for shape in shapes),)
    if column.names is not None and shape != (len(column.names),):
        raise DataError(
            f"{where} has {shape[0]} dimensions ({', '.join(column.keys)}), but {len(column.names)} names"
            f" ({', '.join(column.names)})"
        )
    dtype = dtypes[0] if len(set(dtypes)) == 1 else np.result_type(*dtypes)
    if column.dtype is not None:
        dtype = np.dtype(column.dtype)
    elif dtype.kind == "f":
        dtype = np.dtype(np.float32)
    return shape, dtype


def _compare(found: _Contents, first: _Contents, where: str) -> None:
    for name, (shape, dtype) in found.columns.items():
        expected, kind = first.columns[name]
        if shape != expected or dtype != kind:
            raise DataError(
                f"{where}: a row of {name!r} is {dtype} {list(shape)}, but {kind} {list(expected)} in the first"
                " episode; leave one of them out"
            )


def _side_by_side(parts: list[NDArray[Any]]) -> NDArray[Any]:
    """Arrays `[T, ...]` as one; text as `str`."""
    if len(parts) == 1:
        only = parts[0]
        if only.dtype.kind in "OSU":
            texts = [value.decode("utf-8") if isinstance(value, bytes) else str(value) for value in only.ravel()]
            return np.array(texts, object).reshape(only.shape)
        return only
    return np.concatenate([part.reshape(len(part), -1) for part in parts], axis=1)


def _dtype_name(dtype: np.dtype[Any]) -> str:
    return "string" if dtype.kind in "OSU" else dtype.name
