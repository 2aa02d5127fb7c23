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
from fla_plugins.lerobot.commit import Commits, unfinished
from fla_plugins.lerobot.episode import Moment, check_moment
from fla_plugins.lerobot.images import encode_png
from fla_plugins.lerobot.layout import (
    BOOKKEEPING,
    DATA_TEMPLATE,
    EPISODES_TEMPLATE,
    INFO,
    STATS,
    TASKS,
    VIDEO_TEMPLATE,
)
from fla_plugins.lerobot.stats import ColorCounts, Stats, vector_stats
from fla_plugins.lerobot.video_writer import VideoEncoder, choose_codec, video_details
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
        state_names: tuple[str, ...],
        action_names: tuple[str, ...],
        cameras: tuple[str, ...],
        video: bool = False,
    ) -> None:
        """Begin a dataset in `path`, which must be absent or empty. Image sizes are learned from the first frame.

        `fps` is in moments per second; the names are those of `state` and `action` dimensions; `cameras` are recorded
        as lossless PNG, or as `video` (lossy). Raises `DataError`.
        """
        if path.exists() and (not path.is_dir() or any(path.iterdir())):
            raise DataError(f"{path} exists and is not an empty folder; record into another one, or remove it first")
        if not (np.isfinite(fps) and fps > 0):
            raise DataError(f"cannot record {path}: fps is {fps!r}, but must be above 0 frames per second")
        for kind, names in (("state", state_names), ("action", action_names), ("camera", cameras)):
            if len(set(names)) != len(names) or any(not name or "/" in name for name in names):
                raise DataError(f"cannot record {path}: {kind} names {list(names)} must be different, without '/'")
        if not state_names or not action_names:
            raise DataError(f"cannot record {path}: state and action need at least one dimension each")
        path.mkdir(parents=True, exist_ok=True)
        self._path, self._robot = path, robot
        self._commits = Commits()
        self._fps: float = int(fps) if fps == int(fps) else fps
        self._state_names, self._action_names = tuple(state_names), tuple(action_names)
        self._sizes: dict[str, tuple[int, int] | None] = dict.fromkeys(cameras)
        self._video = video and bool(cameras)
        self._codecs: dict[str, str] = {}
        self._features: dict[str, Any] = {}
        self._tasks: dict[str, int] = {}
        self._episodes = self._rows = self._rows_in_stats = 0
        self._table: pa.Table | None = None
        self._vectors: dict[str, list[NDArray[Any]]] = {}
        self._colors = {camera: ColorCounts() for camera in cameras}
        self._closed = False
        self._begin_episode()

    def add(self, observation: Mapping[str, Any], action: NDArray[np.floating]) -> None:
        """One moment: `images/<camera>` uint8 `[H, W, 3]`, `state` `[S]`, `task`; and the action `[A]` taken there.

        Images of cameras that are not recorded are ignored. A refused moment leaves the episode as it was.
        """
        self._check_open()
        moment = check_moment(
            observation,
            action,
            where=f"episode {self._episodes}, frame {len(self._moments)} of {self._path}",
            state_names=self._state_names,
            action_names=self._action_names,
            sizes=self._sizes,
        )
        if not self._features:
            self._learn_features(moment)
        for camera, image in moment.images.items():
            self._episode_colors[camera].add(image)
            if not self._video:
                self._encoded[camera].append(encode_png(image))
                continue
            try:
                self._encoder(camera).add(image)
            except OSError as error:
                raise DataError(f"cannot write video of {camera!r} in {self._path}: {error}; free the disk") from error
        self._moments.append((moment.state, moment.action, moment.task))

    def save_episode(self) -> None:
        """Commit the current episode. When it fails (a full disk), the episode is not in the dataset."""
        self._check_open()
        if not self._moments:
            raise DataError(f"episode {self._episodes} of {self._path} has no frames; add some before saving it")
        try:
            self._commit()
        except OSError as error:
            self.discard_episode()
            raise DataError(
                f"cannot write episode {self._episodes} of {self._path}: {error}; the {self._episodes} episodes"
                " before it are safe"
            ) from error
        self._begin_episode()

    def discard_episode(self) -> None:
        """Forget the current episode."""
        self._check_open()
        for encoder in self._encoders.values():
            encoder.abort()
        self._begin_episode()

    def close(self) -> None:
        """Finish the dataset; an uncommitted episode is forgotten. May be called twice."""
        if self._closed:
            return
        self.discard_episode()
        if self._rows_in_stats < self._rows:
            self._write_stats()
        if self._episodes:
            self._write_info(self._episodes, self._rows, len(self._tasks), indent=4)  # now for people, too
        self._commits.sync(at_once=True)
        self._closed = True

    def __enter__(self) -> "LeRobotWriter":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # --- the current episode ------------------------------------------------------------------------------------------

    def _check_open(self) -> None:
        if self._closed:
            raise DataError(f"the recording of {self._path} is closed; create another dataset for more episodes")

    def _begin_episode(self) -> None:
        self._moments: list[tuple[NDArray[np.float32], NDArray[np.float32], str]] = []
        self._encoded: dict[str, list[bytes]] = {camera: [] for camera in self._sizes}
        self._encoders: dict[str, VideoEncoder] = {}
        self._episode_colors = {camera: ColorCounts() for camera in self._sizes}

    def _learn_features(self, moment: Moment) -> None:
        sizes = {camera: (image.shape[0], image.shape[1]) for camera, image in moment.images.items()}
        codecs = {camera: choose_codec(*size) for camera, size in sizes.items()} if self._video else {}
        cameras: dict[str, Any] = {}
        for camera, (height, width) in sizes.items():
            details = (
                video_details(fps=self._fps, height=height, width=width, codec=codecs[camera]) if self._video else None
            )
            cameras[_key(camera)] = schema.camera("video" if self._video else "image", height, width, details)
        self._sizes.update(sizes)
        self._codecs = codecs
        self._features = {
            "observation.state": schema.vector(self._state_names),
            "action": schema.vector(self._action_names),
            **cameras,
            **schema.bookkeeping(),
        }
        self._schema = schema.data_schema(self._features)

    def _encoder(self, camera: str) -> VideoEncoder:
        if camera not in self._encoders:
            size = self._sizes[camera]
            assert size is not None  # learned from the first frame
            self._encoders[camera] = VideoEncoder(
                unfinished(self._file(VIDEO_TEMPLATE, self._episodes, video_key=_key(camera))),
                fps=self._fps,
                height=size[0],
                width=size[1],
                codec=self._codecs[camera],
            )
        return self._encoders[camera]

    # --- commit -------------------------------------------------------------------------------------------------------

    def _commit(self) -> None:
        length = len(self._moments)
        for camera in self._sizes:
            frames = self._encoders[camera].frames if self._video else len(self._encoded[camera])
            if frames != length:
                raise DataError(
                    f"episode {self._episodes} of {self._path}: camera {camera!r} has {frames} frames for {length}"
                    " rows; discard the episode"
                )
        tasks = dict(self._tasks)
        for _, _, task in self._moments:
            tasks.setdefault(task, len(tasks))
        vectors = self._episode_vectors(tasks)
        with self._commits.replacing(self._file(DATA_TEMPLATE, self._episodes)) as temporary:
            pq.write_table(self._data_table(vectors), temporary)
        for camera, encoder in self._encoders.items():
            encoder.finish()
            self._commits.publish(encoder.path, self._file(VIDEO_TEMPLATE, self._episodes, video_key=_key(camera)))
        if len(tasks) > len(self._tasks):
            with self._commits.replacing(self._path / TASKS) as temporary:
                pq.write_table(schema.tasks_table(list(tasks)), temporary)
        row = pa.Table.from_pylist([self._episode_row(length, vectors)])
        table = row if self._table is None else pa.concat_tables([self._table, row]).combine_chunks()
        with self._commits.replacing(self._file(EPISODES_TEMPLATE, self._episodes // EPISODES_PER_TABLE)) as temporary:
            pq.write_table(table, temporary, use_dictionary=False, write_statistics=False)
        self._commits.sync()
        self._write_info(self._episodes + 1, self._rows + length, len(tasks))
        # From here the episode exists.
        self._tasks, self._table = tasks, table if len(table) < EPISODES_PER_TABLE else None
        self._episodes, self._rows = self._episodes + 1, self._rows + length
        for name, values in vectors.items():
            if name not in BOOKKEEPING:
                self._vectors.setdefault(name, []).append(values)
        for camera, colors in self._episode_colors.items():
            self._colors[camera].merge(colors)
        if self._rows >= 1.5 * self._rows_in_stats:
            self._write_stats()

    def _episode_vectors(self, tasks: Mapping[str, int]) -> dict[str, NDArray[Any]]:
        """Every low-dimensional column of the episode, `[T, D]`."""
        count = np.arange(len(self._moments))
        return {
            "observation.state": np.stack([state for state, _, _ in self._moments]),
            "action": np.stack([action for _, action, _ in self._moments]),
            "timestamp": (count / self._fps).astype(np.float32)[:, None],
            "frame_index": count[:, None],
            "episode_index": np.full_like(count, self._episodes)[:, None],
            "index": (self._rows + count)[:, None],
            "task_index": np.array([tasks[task] for _, _, task in self._moments])[:, None],
        }

    def _data_table(self, vectors: Mapping[str, NDArray[Any]]) -> pa.Table:
        columns: list[pa.Array] = []
        for field in self._schema:
            if field.name in vectors:
                values = pa.array(vectors[field.name].ravel())
                is_list = pa.types.is_fixed_size_list(field.type)
                columns.append(pa.FixedSizeListArray.from_arrays(values, type=field.type) if is_list else values)
            else:
                encoded = self._encoded[field.name.removeprefix(_key(""))]
                paths = [f"frame-{i:06d}.png" for i in range(len(encoded))]
                columns.append(pa.StructArray.from_arrays([encoded, paths], fields=list(field.type)))
        return pa.Table.from_arrays(columns, schema=self._schema)

    def _episode_row(self, length: int, vectors: Mapping[str, NDArray[Any]]) -> dict[str, Any]:
        chunk, file = divmod(self._episodes, FILES_PER_CHUNK)
        row: dict[str, Any] = {
            "episode_index": self._episodes,
            "tasks": list(dict.fromkeys(task for _, _, task in self._moments)),
            "length": length,
            "data/chunk_index": chunk,
            "data/file_index": file,
            "dataset_from_index": self._rows,
            "dataset_to_index": self._rows + length,
        }
        for camera in self._encoders:
            prefix = f"videos/{_key(camera)}"
            row |= {f"{prefix}/chunk_index": chunk, f"{prefix}/file_index": file}
            row |= {f"{prefix}/from_timestamp": 0.0, f"{prefix}/to_timestamp": length / self._fps}
        for name, stats in _all_stats(vectors, self._episode_colors).items():
            row |= {f"stats/{name}/{stat}": value for stat, value in stats.items()}
        table_chunk, table_file = divmod(self._episodes // EPISODES_PER_TABLE, FILES_PER_CHUNK)
        return row | {"meta/episodes/chunk_index": table_chunk, "meta/episodes/file_index": table_file}

    def _write_info(self, episodes: int, rows: int, tasks: int, *, indent: int | None = None) -> None:
        info = {
            "codebase_version": "v3.0",
            "fps": self._fps,
            "features": self._features,
            "total_episodes": episodes,
            "total_frames": rows,
            "total_tasks": tasks,
            "chunks_size": FILES_PER_CHUNK,
            "data_files_size_in_mb": 100,
            "video_files_size_in_mb": 200,
            "data_path": DATA_TEMPLATE,
            "video_path": VIDEO_TEMPLATE if self._video else None,
            "robot_type": self._robot,
            "splits": {"train": f"0:{episodes}"},
        }
        self._commits.write_text(self._path / INFO, json.dumps(info, indent=indent))

    def _write_stats(self) -> None:
        vectors = {name: np.concatenate(parts) for name, parts in self._vectors.items()}
        self._commits.write_text(self._path / STATS, json.dumps(_all_stats(vectors, self._colors)))
        self._rows_in_stats = self._rows

    def _file(self, template: str, number: int, **keys: str) -> Path:
        chunk, file = divmod(number, FILES_PER_CHUNK)
        return self._path / template.format(chunk_index=chunk, file_index=file, **keys)


def _key(camera: str) -> str:
    return f"observation.images.{camera}"


def _all_stats(vectors: Mapping[str, NDArray[Any]], colors: Mapping[str, ColorCounts]) -> dict[str, Stats]:
    """Of the robot's own columns; nothing is ever normalized by a row number."""
    own = {name: vector_stats(values) for name, values in vectors.items() if name not in BOOKKEEPING}
    return own | {_key(camera): counts.stats() for camera, counts in colors.items()}
