"""`EpisodeTable`: how long each episode is and in which files it lies; and the tasks by number."""

from collections.abc import Mapping
from pathlib import Path

import attrs
import numpy as np
from numpy.typing import NDArray

from fla_plugins.lerobot.layout import EPISODES, INFO, TASKS, Layout
from fla_plugins.lerobot.parquet import open_parquet, read_columns
from fla_sdk.errors import DataError

File = tuple[int, int]
"""Chunk index and file index."""


@attrs.frozen(kw_only=True, eq=False)
class EpisodeTable:
    """The committed episodes, in order."""

    lengths: NDArray[np.int64]
    """`[E]` rows per episode."""

    data: tuple[File, ...]
    """Per episode, the data file that holds its rows."""

    videos: Mapping[str, tuple[File, ...]]
    """Per camera stored as video and per episode, the mp4 that holds its frames."""

    @property
    def bounds(self) -> NDArray[np.int64]:
        """`[E, 2]` first row and one past the last row."""
        ends = np.cumsum(self.lengths)
        return np.stack([ends - self.lengths, ends], axis=1)


def read_episodes(layout: Layout) -> EpisodeTable:
    """Read `meta/episodes/**`; episodes beyond the count in info.json were never committed and are left out."""
    folder = layout.root / EPISODES
    paths = sorted(folder.glob("*/*.parquet"))
    if not paths:
        raise DataError(f"missing files {folder}/chunk-*/file-*.parquet; the dataset is incomplete: copy it again")
    pairs = {"data": "data"} | {f"videos/{name}": name for name in layout.videos}
    places = [f"{prefix}/{part}_index" for prefix in pairs for part in ("chunk", "file")]
    names = ["episode_index", "length", "dataset_from_index", "dataset_to_index", *places]
    parts: dict[str, list[NDArray[np.int64]]] = {name: [] for name in names}
    for path in paths:
        table = read_columns(path, open_parquet(path), names)
        for name in names:
            if table[name].null_count:
                raise DataError(f"{path}: column {name!r} has empty cells; copy the dataset again")
            parts[name].append(table[name].to_numpy().astype(np.int64))
    columns = {name: np.concatenate(values) for name, values in parts.items()}
    order = np.argsort(columns["episode_index"], kind="stable")
    columns = {name: values[order] for name, values in columns.items()}
    _check(layout, folder, columns)
    columns = {name: values[: layout.episodes] for name, values in columns.items()}

    def files(prefix: str) -> tuple[File, ...]:
        chunks, numbers = columns[f"{prefix}/chunk_index"].tolist(), columns[f"{prefix}/file_index"].tolist()
        return tuple(zip(chunks, numbers, strict=True))

    return EpisodeTable(
        lengths=columns["length"],
        data=files("data"),
        videos={name: files(f"videos/{name}") for name in layout.videos},
    )


def _check(layout: Layout, folder: Path, columns: Mapping[str, NDArray[np.int64]]) -> None:
    index = columns["episode_index"]
    wanted = np.arange(layout.episodes)
    if len(index) < layout.episodes or not np.array_equal(index[: layout.episodes], wanted):
        lost = np.setdiff1d(wanted, index)
        what = f"lacks episode {lost[0]}" if len(lost) else "lists an episode twice"
        raise DataError(
            f"{layout.root / INFO} counts {layout.episodes} episodes, but {folder} lists {len(np.unique(index))} and"
            f" {what}; the recording was cut short or a file is missing: copy the dataset again"
        )
    lengths = columns["length"][: layout.episodes]
    ends = np.cumsum(lengths)
    if (lengths < 1).any():
        raise DataError(f"{folder}: episode {int(np.argmax(lengths < 1))} has no rows; record or convert it again")
    if ends[-1] != layout.rows:
        raise DataError(
            f"{layout.root / INFO} counts {layout.rows} frames, but the episodes in {folder} have {ends[-1]} rows;"
            " the two are from different copies: copy the dataset again"
        )
    starts = columns["dataset_from_index"][: layout.episodes]
    wrong = (starts != ends - lengths) | (columns["dataset_to_index"][: layout.episodes] != ends)
    if wrong.any():
        episode = int(np.argmax(wrong))
        raise DataError(
            f"{folder}: episode {episode} claims to start at row {starts[episode]}, but the lengths before it sum to"
            f" {ends[episode] - lengths[episode]}; repair the table or convert the dataset again"
        )


def read_tasks(layout: Layout) -> dict[int, str]:
    """Task number -> what the robot was told."""
    path = layout.root / TASKS
    file = open_parquet(path)
    text = next((name for name in ("task", "__index_level_0__") if name in file.schema_arrow.names), "task")
    table = read_columns(path, file, ["task_index", text])
    return dict(zip(table["task_index"].to_pylist(), map(str, table[text].to_pylist()), strict=True))
