"""`LeRobotDataset`: a LeRobot v3 folder as the SDK's `Dataset`."""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fla_plugins.lerobot.episodes import EpisodeTable, File, read_episodes, read_tasks
from fla_plugins.lerobot.images import ImageColumns
from fla_plugins.lerobot.layout import BOOKKEEPING, EPISODES, TASKS, Layout, read_layout
from fla_plugins.lerobot.parquet import open_parquet, read_columns, to_numpy
from fla_plugins.lerobot.video_reader import VideoFiles
from fla_sdk.data.dataset import Feature
from fla_sdk.data.files import files_fingerprint
from fla_sdk.errors import DataError, UnknownNameError


class LeRobotDataset:
    """Reads a local LeRobot v3 dataset: no network, nothing is created, every referenced file is checked to exist.

    Low-dimensional columns are kept in memory; camera frames are decoded on demand, from any thread. Frames are those
    of the lerobot library's PyAV backend, bit for bit; arrays are read-only.
    """

    def __init__(self, path: Path, *, image_cache_bytes: int = 2 << 30) -> None:
        """`image_cache_bytes` bounds the encoded images (of `image` features) kept in memory."""
        layout = read_layout(path)
        episodes = read_episodes(layout)
        self.path = path
        self.fps: float = layout.fps
        self.robot: str | None = layout.robot
        self.features: Mapping[str, Feature] = layout.features
        self.episode_bounds: NDArray[np.int64] = episodes.bounds
        self.damaged: Mapping[int, str] = {}
        self._layout, self._episodes = layout, episodes
        self._episode_ends = self.episode_bounds[:, 1]
        self._columns, groups, starts = _read_data(layout, episodes)
        _check_rows(layout, episodes, self._columns)
        self._tasks = read_tasks(layout)
        _check_tasks(layout, self._tasks, self._columns["task_index"])
        self._images = ImageColumns(path, groups, starts, cache_bytes=image_cache_bytes)
        self._videos = VideoFiles()
        self._video_offsets = {name: _frame_offsets(layout, episodes, name) for name in layout.videos}
        self.fingerprint: str = _fingerprint(self)

    def __len__(self) -> int:
        return self._layout.rows

    def column(self, name: str) -> NDArray[Any]:
        """`[N, *shape]`, read-only. Raises `DataError` for cameras and language columns, `UnknownNameError` else."""
        if name in self._columns:
            return self._columns[name]
        if name in self.features:
            kind = self.features[name].dtype
            hint = f"use frame({name!r}, row)" if self.features[name].is_camera else "they are not supported"
            raise DataError(f"{self.path}: {name!r} is of kind {kind}, not a column of numbers; {hint}")
        raise UnknownNameError(f"column of {self.path}", name, self._columns)

    def frame(self, name: str, row: int) -> NDArray[np.uint8]:
        """RGB `[H, W, 3]`, read-only."""
        feature = self.features.get(name)
        if feature is None or not feature.is_camera:
            raise UnknownNameError(f"camera of {self.path}", name, (*self._layout.images, *self._layout.videos))
        if name in self._layout.depth:
            raise DataError(f"{self.path}: {name!r} is a depth camera, which cannot be read as colour; leave it out")
        if not 0 <= row < len(self):
            raise IndexError(f"row {row} of {self.path}, which has rows 0 to {len(self) - 1}")
        image = self._images.frame(name, row) if feature.dtype == "image" else self._video_frame(name, row)
        if image.shape != feature.shape:
            raise DataError(
                f"{self.path}: frame {row} of {name!r} is {list(image.shape)}, but meta/info.json declares"
                f" {list(feature.shape)}; correct the declaration or record the episode again"
            )
        return image

    def frames_fingerprint(self, name: str) -> str:
        """Over the files that hold the frames of a camera, and the episode table."""
        layout, episodes = self._layout, self._episodes
        if name in layout.videos:
            files = [layout.video_file(name, *file) for file in set(episodes.videos[name])]
        else:
            files = [layout.data_file(*file) for file in set(episodes.data)]
        return files_fingerprint(self.path, [*files, *(self.path / EPISODES).glob("*/*.parquet")])

    def task(self, row: int) -> str:
        """What the robot was told to do at this row."""
        return self._tasks[int(self._columns["task_index"][row, 0])]

    def _video_frame(self, name: str, row: int) -> NDArray[np.uint8]:
        episode = int(np.searchsorted(self._episode_ends, row, side="right"))
        offsets, totals = self._video_offsets[name]
        file = self._episodes.videos[name][episode]
        within = row - int(self.episode_bounds[episode, 0])
        return self._videos.frame(
            self._layout.video_file(name, *file), int(offsets[episode]) + within, expected=totals[file]
        )


def _read_data(
    layout: Layout, episodes: EpisodeTable
) -> tuple[dict[str, NDArray[Any]], list[tuple[Path, int]], NDArray[np.int64]]:
    """All low-dimensional columns; and every row group of the data files with its first row."""
    names = [name for name, feature in layout.features.items() if not feature.is_camera and feature.dtype != "language"]
    expected: dict[File, int] = {}
    for file, length in zip(episodes.data, episodes.lengths.tolist(), strict=True):
        expected[file] = expected.get(file, 0) + length
    parts: dict[str, list[NDArray[Any]]] = {name: [] for name in names}
    groups: list[tuple[Path, int]] = []
    sizes: list[int] = []
    for place, rows in expected.items():
        path = layout.data_file(*place)
        file = open_parquet(path)
        if file.metadata.num_rows != rows:
            raise DataError(
                f"{path} holds {file.metadata.num_rows} rows, but meta/episodes gives its episodes {rows};"
                " the files are from different copies or the recording was cut short: copy the dataset again"
            )
        for camera in layout.images:
            if camera not in file.schema_arrow.names:
                raise DataError(f"{path} has no column {camera!r}, which meta/info.json declares as images")
        table = read_columns(path, file, names)
        for name in names:
            parts[name].append(to_numpy(path, table[name], name, layout.features[name]))
        for group in range(file.metadata.num_row_groups):
            groups.append((path, group))
            sizes.append(file.metadata.row_group(group).num_rows)
    columns = {name: np.concatenate(values) for name, values in parts.items()}
    for column in columns.values():
        column.flags.writeable = False
    return columns, groups, np.cumsum([0, *sizes[:-1]], dtype=np.int64)


def _check_rows(layout: Layout, episodes: EpisodeTable, columns: Mapping[str, NDArray[Any]]) -> None:
    """Rows must lie in the order in which the episode table says they do."""
    numbers = np.repeat(np.arange(layout.episodes), episodes.lengths)
    for name, expected in (("index", np.arange(layout.rows)), ("episode_index", numbers)):
        wrong = columns[name][:, 0] != expected
        if wrong.any():
            row = int(np.argmax(wrong))
            path = layout.data_file(*episodes.data[numbers[row]])
            raise DataError(
                f"{path}: {name} is {columns[name][row, 0]} where meta/episodes expects {expected[row]} (row {row} of"
                " the dataset); rows are missing or out of order: convert or record the dataset again"
            )


def _check_tasks(layout: Layout, tasks: Mapping[int, str], numbers: NDArray[np.int64]) -> None:
    if unknown := sorted(set(np.unique(numbers).tolist()) - set(tasks)):
        raise DataError(
            f"{layout.root / TASKS} has no task {unknown[0]}, which rows refer to (it has {sorted(tasks)});"
            " copy the dataset again"
        )


def _frame_offsets(layout: Layout, episodes: EpisodeTable, name: str) -> tuple[NDArray[np.int64], dict[File, int]]:
    """Per episode, the number of its first frame within its mp4; and per mp4, how many frames it must have."""
    totals: dict[File, int] = {}
    offsets: list[int] = []
    for file, length in zip(episodes.videos[name], episodes.lengths.tolist(), strict=True):
        offsets.append(totals.setdefault(file, 0))
        totals[file] += length
    for file in totals:
        path = layout.video_file(name, *file)
        if not path.is_file():
            raise DataError(f"missing file {path}; the dataset is incomplete: copy or download it again")
    return np.array(offsets, np.int64), totals


def _fingerprint(dataset: LeRobotDataset) -> str:
    """Over the robot's own columns, the tasks as text and the bounds; not over how they are spread over files."""
    digest = hashlib.blake2b(digest_size=16)
    digest.update(np.ascontiguousarray(dataset.episode_bounds).data)
    for name in sorted(set(dataset.features) - set(BOOKKEEPING)):
        if dataset.features[name].is_camera or dataset.features[name].dtype == "language":
            continue
        column = dataset.column(name)
        digest.update(f"{name} {column.dtype} {column.shape}".encode())
        digest.update(repr(column.tolist()).encode() if column.dtype == object else np.ascontiguousarray(column).data)
    numbers = dataset.column("task_index")[:, 0]
    changes = np.flatnonzero(np.diff(numbers, prepend=numbers[0] - 1))
    digest.update(repr([(row, dataset.task(row)) for row in changes.tolist()]).encode())
    return digest.hexdigest()
