"""`EpisodeTable`: how long each episode is and in which files it lies; and the tasks by number."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs
import numpy as np
from numpy.typing import NDArray

from fla_plugins.lerobot.layout import EPISODES, EPISODES_LINES, INFO, TASKS, TASKS_LINES, Layout
from fla_plugins.lerobot.parquet import open_parquet, read_columns
from fla_sdk.errors import DataError

Ints = NDArray[np.int64]


@attrs.frozen(kw_only=True, eq=False)
class Placement:
    """Which file holds each episode, and where in it: one after the other, in the order of their numbers."""

    files: Ints
    """`[F, 2]` chunk and number of each file, rising."""

    of: Ints
    """`[E]` the file of each episode, as an index into `files`."""

    first: Ints
    """`[E]` the episode's first row, or frame, within its file."""

    rows: Ints
    """`[F]` rows, or frames, of all episodes in the file."""

    order: Ints
    """`[E]` episodes by file."""

    ends: Ints
    """`[F]` where the episodes of each file end in `order`."""

    def episodes(self, file: int) -> Ints:
        """Numbers of the episodes in a file, rising."""
        return self.order[self.ends[file - 1] if file else 0 : self.ends[file]]


@attrs.frozen(kw_only=True, eq=False)
class EpisodeTable:
    """The committed episodes, in order."""

    lengths: Ints
    """`[E]` rows per episode."""

    data: Placement
    videos: Mapping[str, Placement]
    """Per camera that is stored as video."""

    frames: Mapping[str, Ints]
    """Per camera stored as video, `[E]` frames per episode by the time stamps in the table. Only to find out which
    episodes of a video are at fault when it has other frames than its episodes have rows.
    """

    @property
    def bounds(self) -> Ints:
        """`[E, 2]` first row and one past the last row."""
        ends = np.cumsum(self.lengths)
        return np.stack([ends - self.lengths, ends], axis=1)


def read_episodes(layout: Layout) -> EpisodeTable:
    """Read the episode table; episodes beyond the count in info.json were never committed and are left out."""
    columns = _read_lines(layout) if layout.file_per_episode else _read_tables(layout)
    order = np.argsort(columns["episode_index"], kind="stable")
    columns = {name: values[order] for name, values in columns.items()}
    _check(layout, columns)
    columns = {name: values[: layout.episodes] for name, values in columns.items()}
    lengths = columns["length"]
    if layout.file_per_episode:
        numbers = columns["episode_index"]
        alone = _place(np.stack([numbers // layout.chunk_size, numbers], axis=1), lengths)
        every = dict.fromkeys(layout.videos, lengths)
        return EpisodeTable(lengths=lengths, data=alone, videos=dict.fromkeys(layout.videos, alone), frames=every)

    def place(prefix: str) -> Placement:
        return _place(np.stack([columns[f"{prefix}/chunk_index"], columns[f"{prefix}/file_index"]], axis=1), lengths)

    return EpisodeTable(
        lengths=lengths,
        data=place("data"),
        videos={name: place(f"videos/{name}") for name in layout.videos},
        frames={name: columns[f"videos/{name}/frames"] for name in layout.videos},
    )


def _place(places: Ints, lengths: Ints) -> Placement:
    """`places` is `[E, 2]`: chunk and number of each episode's file."""
    files, of = np.unique(places, axis=0, return_inverse=True)
    of = of.reshape(-1).astype(np.int64)
    order = np.argsort(of, kind="stable")
    rows = np.bincount(of, weights=lengths, minlength=len(files)).astype(np.int64)
    first = np.empty_like(lengths)
    first[order] = np.cumsum(lengths[order]) - lengths[order] - (np.cumsum(rows) - rows)[of[order]]
    ends = np.cumsum(np.bincount(of, minlength=len(files)))
    return Placement(files=files, of=of, first=first, rows=rows, order=order, ends=ends)


def _read_tables(layout: Layout) -> dict[str, Ints]:
    """The columns that are needed of `meta/episodes/**`; the statistics in it are many times larger."""
    folder = layout.root / EPISODES
    paths = sorted(folder.glob("*/*.parquet"))
    if not paths:
        raise DataError(f"missing files {folder}/chunk-*/file-*.parquet; the dataset is incomplete: copy it again")
    prefixes = ["data", *(f"videos/{name}" for name in layout.videos)]
    places = [f"{prefix}/{part}_index" for prefix in prefixes for part in ("chunk", "file")]
    stamps = [f"videos/{name}/{end}_timestamp" for name in layout.videos for end in ("from", "to")]
    names = ["episode_index", "length", "dataset_from_index", "dataset_to_index", *places, *stamps]
    parts: dict[str, list[Any]] = {name: [] for name in names}
    for path in paths:
        table = read_columns(path, open_parquet(path), names)
        for name in names:
            if table[name].null_count:
                raise DataError(f"{path}: column {name!r} has empty cells; copy the dataset again")
            parts[name].append(table[name].to_numpy())
    columns = {name: np.concatenate(values) for name, values in parts.items()}
    for name in layout.videos:
        begin, end = (columns.pop(f"videos/{name}/{end}_timestamp") for end in ("from", "to"))
        columns[f"videos/{name}/frames"] = np.rint((end - begin) * layout.fps)
    return {name: values.astype(np.int64) for name, values in columns.items()}


def _read_lines(layout: Layout) -> dict[str, Ints]:
    """`meta/episodes.jsonl`."""
    lines = read_lines(layout.root / EPISODES_LINES, {"episode_index": int, "length": int})
    return {name: np.array([line[name] for line in lines], np.int64) for name in ("episode_index", "length")}


def read_lines(path: Path, entries: Mapping[str, type]) -> list[dict[str, Any]]:
    """Objects of a file with one per line. Raises `DataError` naming file and line where an entry is not as told."""
    try:
        lines = path.read_bytes().splitlines()
    except FileNotFoundError as error:
        raise DataError(f"missing file {path}; the dataset is incomplete: copy or download it again") from error
    found: list[dict[str, Any]] = []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            value = json.loads(line.decode("utf-8"))
        except ValueError as error:  # of the encoding too
            raise DataError(f"{path}, line {number}: not valid JSON in UTF-8 ({error}); copy it again") from error
        for name, kind in entries.items():
            entry = value.get(name) if isinstance(value, dict) else None
            if not isinstance(entry, kind):
                raise DataError(f"{path}, line {number}: {name!r} is {entry!r}, but must be {kind.__name__}")
        found.append(value)
    return found


def _check(layout: Layout, columns: Mapping[str, Ints]) -> None:
    table = layout.root / (EPISODES_LINES if layout.file_per_episode else EPISODES)
    index = columns["episode_index"]
    wanted = np.arange(layout.episodes)
    if len(index) < layout.episodes or not np.array_equal(index[: layout.episodes], wanted):
        lost = np.setdiff1d(wanted, index)
        what = f"lacks episode {lost[0]}" if len(lost) else "lists an episode twice"
        raise DataError(
            f"{layout.root / INFO} counts {layout.episodes} episodes, but {table} lists {len(np.unique(index))} and"
            f" {what}; the recording was cut short or a file is missing: copy the dataset again"
        )
    lengths = columns["length"][: layout.episodes]
    ends = np.cumsum(lengths)
    if (lengths < 0).any():
        episode = int(np.argmax(lengths < 0))
        raise DataError(f"{table}: episode {episode} has {lengths[episode]} rows; copy the dataset again")
    if ends[-1] != layout.rows:
        raise DataError(
            f"{layout.root / INFO} counts {layout.rows} frames, but the episodes in {table} have {ends[-1]} rows;"
            " the two are from different copies: copy the dataset again"
        )
    if layout.file_per_episode:
        return
    starts = columns["dataset_from_index"][: layout.episodes]
    wrong = (starts != ends - lengths) | (columns["dataset_to_index"][: layout.episodes] != ends)
    if wrong.any():
        episode = int(np.argmax(wrong))
        raise DataError(
            f"{table}: episode {episode} claims to start at row {starts[episode]}, but the lengths before it sum to"
            f" {ends[episode] - lengths[episode]}; repair the table or convert the dataset again"
        )


def read_tasks(layout: Layout) -> dict[int, str]:
    """Task number -> what the robot was told."""
    if layout.file_per_episode:
        lines = read_lines(layout.root / TASKS_LINES, {"task_index": int, "task": str})
        return {line["task_index"]: line["task"] for line in lines}
    path = layout.root / TASKS
    file = open_parquet(path)
    text = next((name for name in ("task", "__index_level_0__") if name in file.schema_arrow.names), "task")
    table = read_columns(path, file, ["task_index", text])
    try:
        return dict(zip(table["task_index"].to_pylist(), map(str, table[text].to_pylist()), strict=True))
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: a task is not text in UTF-8 ({error}); write the tasks again") from error
