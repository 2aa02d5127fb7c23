"""`LeRobotWriter`: records episodes into a LeRobot v3 dataset; a kill at any instant loses at most the current one."""

import json
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from fla_plugins.lerobot import schema
from fla_plugins.lerobot.commit import Commits
from fla_plugins.lerobot.continuation import Progress, is_unbegun, resume
from fla_plugins.lerobot.episode import Episode
from fla_plugins.lerobot.layout import (
    BOOKKEEPING,
    DATA_TEMPLATE,
    EPISODES_TEMPLATE,
    INFO,
    STATS,
    TASKS,
    VIDEO_TEMPLATE,
)
from fla_plugins.lerobot.stats import ColorCounts, all_stats
from fla_plugins.lerobot.video_writer import video_details
from fla_sdk.data.dataset import Feature
from fla_sdk.errors import DataError

FILES_PER_CHUNK = 1000
EPISODES_PER_TABLE = 50
"""Rows of one `meta/episodes` file. The newest file is rewritten for every episode, so it must stay small."""


class LeRobotWriter:
    """Every saved episode is one closed data file, and one closed mp4 per video camera.

    They are published in the order data, videos, tasks, episode table, `info.json`: whatever is not yet counted by
    `info.json` does not exist for readers. `stats.json` is renewed when the dataset has grown by half, and at the end.
    """

    def __init__(
        self,
        path: Path,
        *,
        robot: str,
        fps: float,
        state_names: tuple[str, ...] = (),
        action_names: tuple[str, ...] = (),
        cameras: tuple[str, ...] = (),
        video: bool = False,
        columns: Mapping[str, Feature] | None = None,
        append: bool = False,
    ) -> None:
        """Begin a dataset in `path`, which must be absent or empty; or go on with the one there, to `append` to it.

        `fps` is in moments per second; the names are those of `state` and `action` dimensions; `cameras` are recorded
        as lossless PNG, or as `video` (lossy). `columns` are further ones, of any dtype and width, and cameras under
        their full names; one of shape `()` learns its size from the first frame. Raises `DataError`, with both sides
        where a dataset to append to has other columns.
        """
        if not (np.isfinite(fps) and fps > 0):
            raise DataError(f"cannot record {path}: fps is {fps!r}, but must be above 0 frames per second")
        for kind, names in (("state", state_names), ("action", action_names), ("camera", cameras)):
            if len(set(names)) != len(names) or any(not name or "/" in name for name in names):
                raise DataError(f"cannot record {path}: {kind} names {list(names)} must be different, without '/'")
        features = schema.recorded(state_names, action_names, cameras, video=video)
        _check_columns(path, features, columns or {})
        features |= columns or {}
        self._path, self._robot = path, robot
        self._fps: float = int(fps) if fps == int(fps) else fps
        self._commits = Commits()
        if append and (path / INFO).is_file():
            self._made = resume(path, features, robot=robot, fps=self._fps, commits=self._commits)
        elif path.exists() and not (path.is_dir() and is_unbegun(path, leftovers=append)):
            raise DataError(f"{path} exists and is not an empty folder; record into another one, or remove it first")
        else:
            path.mkdir(parents=True, exist_ok=True)
            self._made = Progress(features=features)
        self._drafts = 0
        self._closed = False
        self._episode = self.begin()

    @property
    def episodes(self) -> int:
        """How many episodes the dataset has."""
        return self._made.episodes

    def add(self, observation: Mapping[str, Any], action: NDArray[np.floating]) -> None:
        """One moment: `images/<camera>` uint8 `[H, W, 3]`, `state` `[S]`, `task`; and the action `[A]` taken there.

        Images of cameras that are not recorded are ignored. A refused moment leaves the episode as it was.
        """
        self._check_open()
        self._episode.add(observation, action)

    def add_row(self, row: Mapping[str, Any], *, task: str) -> None:
        """One row: a value for every column. A refused one leaves the episode as it was."""
        self._check_open()
        self._episode.add_row(row, task=task)

    def save_episode(self) -> None:
        """Commit the current episode. When it fails (a full disk), the episode is not in the dataset."""
        self._check_open()
        if not len(self._episode):
            raise DataError(f"episode {self.episodes} of {self._path} has no frames; add some before saving it")
        try:
            self.commit(self._episode)
        finally:
            self._episode = self.begin()

    def discard_episode(self) -> None:
        """Forget the current episode."""
        self._check_open()
        self._episode.abort()
        self._episode = self.begin()

    def begin(self) -> Episode:
        """An episode besides the current one, to be filled in any one thread and given to `commit`."""
        self._check_open()
        self._drafts += 1
        draft = self._drafts
        return Episode(
            self._made.features,
            fps=self._fps,
            where=f"{self._path}, episode {self.episodes}",
            scratch=lambda name: self._path / "videos" / f"{name}-{draft}.mp4.tmp",
            codecs=self._made.codecs,
        )

    def commit(self, episode: Episode) -> None:
        """Make an episode the next one of the dataset. When it fails, the episode is not in the dataset."""
        self._check_open()
        try:
            self._commit(episode)
        except OSError as error:
            raise DataError(
                f"cannot write episode {self.episodes} of {self._path}: {error}; the {self.episodes} episodes"
                " before it are safe"
            ) from error
        finally:
            episode.abort()

    def close(self) -> None:
        """Finish the dataset; an uncommitted episode is forgotten. May be called twice."""
        if self._closed:
            return
        self._episode.abort()
        if self._made.rows_in_stats < self._made.rows:
            self._write_stats()
        if self._made.info:
            self._write_info(self._made.info, indent=4)  # now for people, too
        self._commits.sync(at_once=True)
        self._closed = True

    def __enter__(self) -> "LeRobotWriter":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _check_open(self) -> None:
        if self._closed:
            raise DataError(f"the recording of {self._path} is closed; open it with append=True for more episodes")

    # --- commit -------------------------------------------------------------------------------------------------------

    def _commit(self, episode: Episode) -> None:
        made, length = self._made, len(episode)
        frames = {name: len(images) for name, images in episode.images.items()}
        frames |= {name: video.frames for name, video in episode.videos.items()}
        for name, count in frames.items():
            if count != length:
                raise DataError(
                    f"episode {self.episodes} of {self._path}: camera {name!r} has {count} frames for {length} rows;"
                    " the episode is dropped"
                )
        _check_sizes(self._path, made.features, episode.features)
        info = made.info or self._first_info(episode)
        tasks = dict(made.tasks)
        for task in episode.tasks:
            tasks.setdefault(task, len(tasks))
        vectors = self._vectors(episode, tasks)
        with self._commits.replacing(self._file(info, "data_path", made.next_data)) as temporary:
            pq.write_table(_data_table(episode, vectors), temporary)
        for name, video in episode.videos.items():
            video.finish()
            number = made.next_video.get(name, 0)
            file = self._file(info, "video_path", number, video_key=name)
            file.parent.mkdir(parents=True, exist_ok=True)
            self._commits.publish(video.path, file)
        if len(tasks) > len(made.tasks):
            with self._commits.replacing(self._path / TASKS) as temporary:
                pq.write_table(schema.tasks_table(list(tasks)), temporary)
        row = pa.Table.from_pylist([self._episode_row(episode, vectors, info["chunks_size"])], schema=made.table_schema)
        table = row if made.table is None else pa.concat_tables([made.table, row]).combine_chunks()
        with self._commits.replacing(self._table_file(made.next_table)) as temporary:
            pq.write_table(table, temporary, use_dictionary=False, write_statistics=False)
        self._commits.sync()
        episodes, rows = made.episodes + 1, made.rows + length
        info = info | {"total_episodes": episodes, "total_frames": rows, "total_tasks": len(tasks)}
        info["splits"] = {"train": f"0:{episodes}"}
        self._write_info(info)
        # From here the episode exists.
        made.features, made.tasks, made.info = episode.features, tasks, info
        made.episodes, made.rows, made.next_data = episodes, rows, made.next_data + 1
        made.codecs = {name: video.codec for name, video in episode.videos.items()}
        for name in episode.videos:
            made.next_video[name] = made.next_video.get(name, 0) + 1
        full = len(table) >= EPISODES_PER_TABLE
        made.table, made.next_table = None if full else table, made.next_table + full
        episode.videos = {}
        for name, values in vectors.items():
            if name not in BOOKKEEPING:
                made.vectors.setdefault(name, []).append(values)
        for name, colors in episode.colors.items():
            made.colors.setdefault(name, ColorCounts()).merge(colors)
        if made.rows >= 1.5 * made.rows_in_stats:
            self._write_stats()

    def _vectors(self, episode: Episode, tasks: Mapping[str, int]) -> dict[str, NDArray[Any]]:
        """Every low-dimensional column of the episode, `[T, *shape]`."""
        count = np.arange(len(episode))
        own = {
            name: np.array(values, object)[:, None] if episode.features[name].dtype == "string" else np.stack(values)
            for name, values in episode.columns.items()
        }
        return own | {
            "timestamp": (count / self._fps).astype(np.float32)[:, None],
            "frame_index": count[:, None],
            "episode_index": np.full_like(count, self.episodes)[:, None],
            "index": (self._made.rows + count)[:, None],
            "task_index": np.array([tasks[task] for task in episode.tasks])[:, None],
        }

    def _episode_row(self, episode: Episode, vectors: Mapping[str, NDArray[Any]], size: int) -> dict[str, Any]:
        made, length = self._made, len(episode)
        row: dict[str, Any] = {
            "episode_index": self.episodes,
            "tasks": list(dict.fromkeys(episode.tasks)),
            "length": length,
            **_place("data", made.next_data, size),
            "dataset_from_index": made.rows,
            "dataset_to_index": made.rows + length,
        }
        for name in episode.videos:
            row |= _place(f"videos/{name}", made.next_video.get(name, 0), size)
            row |= {f"videos/{name}/from_timestamp": 0.0, f"videos/{name}/to_timestamp": length / self._fps}
        for name, stats in all_stats(vectors, episode.colors).items():
            row |= {f"stats/{name}/{stat}": value for stat, value in stats.items()}
        return row | _place("meta/episodes", made.next_table, FILES_PER_CHUNK)

    def _first_info(self, episode: Episode) -> dict[str, Any]:
        details = {
            name: video_details(fps=self._fps, height=shape[0], width=shape[1], codec=video.codec)
            for name, video in episode.videos.items()
            if (shape := episode.features[name].shape)
        }
        return {
            "codebase_version": "v3.0",
            "fps": self._fps,
            "features": schema.declared(episode.features, details),
            "total_episodes": 0,
            "total_frames": 0,
            "total_tasks": 0,
            "chunks_size": FILES_PER_CHUNK,
            "data_files_size_in_mb": 100,
            "video_files_size_in_mb": 200,
            "data_path": DATA_TEMPLATE,
            "video_path": VIDEO_TEMPLATE if details else None,
            "robot_type": self._robot,
            "splits": {},
        }

    def _write_info(self, info: dict[str, Any], *, indent: int | None = None) -> None:
        self._commits.write_text(self._path / INFO, json.dumps(info, indent=indent))

    def _write_stats(self) -> None:
        vectors = {name: np.concatenate(parts) for name, parts in self._made.vectors.items()}
        self._commits.write_text(self._path / STATS, json.dumps(all_stats(vectors, self._made.colors)))
        self._made.rows_in_stats = self._made.rows

    def _file(self, info: Mapping[str, Any], template: str, number: int, **keys: str) -> Path:
        chunk, file = divmod(number, info["chunks_size"])
        return self._path / info[template].format(chunk_index=chunk, file_index=file, **keys)

    def _table_file(self, number: int) -> Path:
        chunk, file = divmod(number, FILES_PER_CHUNK)
        return self._path / EPISODES_TEMPLATE.format(chunk_index=chunk, file_index=file)


def _place(prefix: str, number: int, size: int) -> dict[str, int]:
    chunk, file = divmod(number, size)
    return {f"{prefix}/chunk_index": chunk, f"{prefix}/file_index": file}


def _data_table(episode: Episode, vectors: Mapping[str, NDArray[Any]]) -> pa.Table:
    fields = schema.data_schema(episode.features)
    columns: list[pa.Array] = []
    for field in fields:
        if field.name in vectors:
            columns.append(schema.column(vectors[field.name], field.type))
            continue
        encoded = episode.images[field.name]
        paths = [f"frame-{i:06d}.png" for i in range(len(encoded))]
        columns.append(pa.StructArray.from_arrays([encoded, paths], fields=list(field.type)))
    return pa.Table.from_arrays(columns, schema=fields)


def _check_columns(path: Path, recorded: Mapping[str, Feature], columns: Mapping[str, Feature]) -> None:
    for name, feature in columns.items():
        if name in recorded or name in BOOKKEEPING:
            raise DataError(f"cannot record {path}: column {name!r} is made by the recorder; leave it out")
        if not name or "/" in name:
            raise DataError(f"cannot record {path}: column name {name!r} must not be empty, nor have a '/'; rename it")
        if not feature.is_camera and (not feature.shape or 0 in feature.shape):
            raise DataError(f"cannot record {path}: column {name!r} has shape {list(feature.shape)}; 1 number is [1]")
        if feature.dtype == "string" and feature.shape != (1,):
            raise DataError(f"cannot record {path}: column {name!r} of text has shape {list(feature.shape)}, not [1]")
    if not columns and not {"observation.state", "action"} <= recorded.keys():
        raise DataError(f"cannot record {path}: state and action need at least one dimension each")


def _check_sizes(path: Path, dataset: Mapping[str, Feature], episode: Mapping[str, Feature]) -> None:
    """Episodes that were filled at the same time have learned their sizes each on its own."""
    for name, feature in dataset.items():
        if feature.shape and feature.shape != episode[name].shape:
            raise DataError(
                f"{path}: images {name!r} of the episode are {list(episode[name].shape[:2])}, but the dataset has"
                f" {list(feature.shape[:2])} (height, width); resize them, or record another dataset"
            )
