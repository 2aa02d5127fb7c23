"""`LeRobotDataset`: a LeRobot folder, v2 or v3, as the SDK's `Dataset`."""

import hashlib
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fla_plugins.lerobot.columns import Columns
from fla_plugins.lerobot.damage import find_damage
from fla_plugins.lerobot.episodes import Placement, read_episodes, read_tasks
from fla_plugins.lerobot.images import ImageColumns
from fla_plugins.lerobot.language import STYLES, column_of
from fla_plugins.lerobot.layout import BOOKKEEPING, EPISODES, EPISODES_LINES, TASKS, TASKS_LINES, read_layout
from fla_plugins.lerobot.video_reader import FrameIndex, VideoFiles
from fla_sdk.data.dataset import Feature
from fla_sdk.data.files import files_fingerprint
from fla_sdk.errors import DataError, EpisodeError, UnknownNameError

_HASHED_ROWS = 1 << 18
"""At a time, so that columns mapped from disk are not in memory as a whole."""


class LeRobotDataset:
    """Reads a local LeRobot dataset where it lies, v2 and v3 alike: no network, nothing is created in its folder.

    Opening reads metadata and lists folders; columns are read at first use, frames one by one and from any thread.
    Frames are those of the lerobot library, bit for bit; arrays are read-only. What annotators wrote is read as texts
    named `language.subtask`, `language.plan` and so on.
    """

    def __init__(self, path: Path, *, image_cache_bytes: int = 2 << 30, column_bytes: int = 512 << 20) -> None:
        """`image_cache_bytes` bounds the encoded images (of `image` features) kept in memory, `column_bytes` the
        columns; larger ones are copied once into `<data home>/columns` and mapped from there.
        """
        layout = read_layout(path)
        episodes = read_episodes(layout)
        damage = find_damage(layout, episodes)
        self.path = path
        self.fps: float = layout.fps
        self.robot: str | None = layout.robot
        self.features: Mapping[str, Feature] = _with_language(layout.features)
        self.episode_bounds: NDArray[np.int64] = episodes.bounds
        self.damaged: Mapping[int, str] = damage.episodes
        self._layout, self._episodes = layout, episodes
        self._episode_ends = self.episode_bounds[:, 1]
        self._columns = Columns(layout, episodes, unreadable=damage.data, memory_bytes=column_bytes)
        self._tasks = read_tasks(layout)
        self._images = ImageColumns(path, cache_bytes=image_cache_bytes)
        self._videos = VideoFiles()

    def __len__(self) -> int:
        return self._layout.rows

    def column(self, name: str) -> NDArray[Any]:
        """`[N, *shape]`, read-only. Raises `DataError` for cameras and damaged files, `UnknownNameError` else."""
        if name in self._columns:
            return self._columns[name]
        if name in self.features:
            kind = self.features[name].dtype
            raise DataError(f"{self.path}: {name!r} is of kind {kind}, not a column; use frame({name!r}, row)")
        raise UnknownNameError(f"column of {self.path}", name, self._columns)

    def frame(self, name: str, row: int) -> NDArray[np.uint8]:
        """RGB `[H, W, 3]`, read-only. Raises `EpisodeError` when the frame cannot be had."""
        feature = self.features.get(name)
        if feature is None or not feature.is_camera:
            raise UnknownNameError(f"camera of {self.path}", name, (*self._layout.images, *self._layout.videos))
        if name in self._layout.depth:
            raise DataError(f"{self.path}: {name!r} is a depth camera, which cannot be read as colour; leave it out")
        if not 0 <= row < len(self):
            raise IndexError(f"row {row} of {self.path}, which has rows 0 to {len(self) - 1}")
        episode = int(np.searchsorted(self._episode_ends, row, side="right"))
        step = row - int(self.episode_bounds[episode, 0])
        try:
            if reason := self.damaged.get(episode):
                raise DataError(reason)
            read = self._image if feature.dtype == "image" else self._video_frame
            image = read(name, episode, step)
            if image.shape != feature.shape:
                raise DataError(
                    f"it is {list(image.shape)}, but meta/info.json of {self.path} declares {list(feature.shape)};"
                    " correct the declaration or record the episode again"
                )
        except DataError as error:
            raise EpisodeError(f"episode {episode}, frame {step} of {name!r}: {error}", episode=episode) from error
        return image

    def frames_fingerprint(self, name: str) -> str:
        """Over the files that hold the frames of a camera, and the episode table."""
        layout, episodes = self._layout, self._episodes
        if name in layout.videos:
            files = [layout.video_file(name, *file) for file in episodes.videos[name].files.tolist()]
        else:
            files = [layout.data_file(*file) for file in episodes.data.files.tolist()]
        tables = [self.path / EPISODES_LINES] if layout.file_per_episode else (self.path / EPISODES).glob("*/*.parquet")
        return files_fingerprint(self.path, [*files, *tables])

    def task(self, row: int) -> str:
        """What the robot was told to do at this row; `""` where the row cannot be read."""
        return self._tasks.get(int(self._task_numbers[row]), "")

    @property
    def fingerprint(self) -> str:
        """Over the robot's own columns, the tasks as text and the bounds; not over how they are spread over files."""
        return self._fingerprint

    @cached_property
    def _fingerprint(self) -> str:
        digest = hashlib.blake2b(digest_size=16)
        digest.update(np.ascontiguousarray(self.episode_bounds).data)
        own = set(self._columns.narrow) | {n for n, f in self._layout.features.items() if f.dtype == "string"}
        for name in sorted(own - set(BOOKKEEPING)):
            column = self.column(name)
            digest.update(f"{name} {column.dtype} {column.shape}".encode())
            for start in range(0, len(column), _HASHED_ROWS):
                block = column[start : start + _HASHED_ROWS]
                digest.update(repr(block.tolist()).encode() if block.dtype == object else np.ascontiguousarray(block))
        numbers = self._task_numbers
        changes = np.flatnonzero(np.diff(numbers, prepend=numbers[0] - 1))
        digest.update(repr([(row, self.task(row)) for row in changes.tolist()]).encode())
        return digest.hexdigest()

    @cached_property
    def _task_numbers(self) -> NDArray[np.int64]:
        """`[N]`; those of rows that can be read are known."""
        numbers = self.column("task_index")[:, 0]
        for number in np.unique(numbers).tolist():
            if number not in self._tasks:
                row = int(np.argmax(numbers == number))
                episode = int(np.searchsorted(self._episode_ends, row, side="right"))
                if episode not in self.damaged:
                    table = self.path / (TASKS_LINES if self._layout.file_per_episode else TASKS)
                    raise DataError(
                        f"{table} has no task {number}, which row {row} refers to (it has {sorted(self._tasks)});"
                        " copy the dataset again"
                    )
        return numbers

    def _image(self, name: str, episode: int, step: int) -> NDArray[np.uint8]:
        path, row = self._find(self._episodes.data, episode, self._layout.data_file)
        return self._images.frame(name, path, row + step)

    def _video_frame(self, name: str, episode: int, step: int) -> NDArray[np.uint8]:
        placement = self._episodes.videos[name]
        path, first = self._find(placement, episode, lambda *file: self._layout.video_file(name, *file))
        self._check_video(path, self._videos.index(path), placement, name, episode)
        return self._videos.frame(path, first + step)

    def _find(self, placement: Placement, episode: int, name: Any) -> tuple[Path, int]:
        """The file that holds an episode, and where in it the episode begins."""
        return name(*placement.files[placement.of[episode]].tolist()), int(placement.first[episode])

    def _check_video(self, path: Path, index: FrameIndex, placement: Placement, name: str, episode: int) -> None:
        """Raise `DataError` when the images and the rows of an episode cannot be matched."""
        # A rate that is a little off is how containers round; frames are counted, so it does no harm.
        if abs(index.rate / self.fps - 1) > 0.02:
            raise DataError(
                f"{path} has {index.rate:g} frames per second, but meta/info.json declares {self.fps:g}; encode the"
                " video again or correct the declaration"
            )
        file = placement.of[episode]
        if len(index) == placement.rows[file]:
            return
        # By the time stamps of the table, the episodes up to this one may have all of their frames nevertheless.
        before = placement.episodes(file)
        before = before[before <= episode]
        lengths, end = self._episodes.lengths, placement.first[episode] + self._episodes.lengths[episode]
        intact = np.array_equal(self._episodes.frames[name][before], lengths[before]) and end <= len(index)
        if not intact or before[-1] == placement.episodes(file)[-1]:
            raise DataError(
                f"{path} holds {len(index)} frames, but its episodes have {placement.rows[file]} rows, so images and"
                " states cannot be matched; record or convert the episode again"
            )


def _with_language(features: Mapping[str, Feature]) -> dict[str, Feature]:
    """With a text per style in the place of the columns that hold remarks."""
    found: dict[str, Feature] = {}
    for name, feature in features.items():
        if feature.dtype == "language":
            found |= {column_of(style): Feature(dtype="string", shape=(1,)) for style in STYLES.get(name, ())}
        else:
            found[name] = feature
    return found
