"""Rows of `meta/episodes`, written anew when episodes get other numbers and places."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs
import pyarrow as pa
import pyarrow.parquet as pq

from fla_plugins.lerobot.commit import Commits
from fla_plugins.lerobot.layout import BOOKKEEPING, EPISODES, EPISODES_TEMPLATE, Layout

EPISODES_PER_TABLE = 1000


@attrs.define(kw_only=True)
class Row:
    """One episode, at its new place."""

    old: int
    """Its number where it comes from."""

    tasks: tuple[str, ...]
    first: int
    """Its first row in the dataset."""

    length: int
    data: tuple[int, int]
    """Chunk and number of its data file."""

    videos: dict[str, tuple[int, int, int]] = attrs.field(factory=dict[str, tuple[int, int, int]])
    """Per camera, chunk and number of the mp4, and the episode's first frame in it."""


def read_rows_of_tables(layout: Layout) -> dict[int, dict[str, Any]]:
    """Episode number -> its statistics, `stats/<column>/<name>`; empty where a version of LeRobot keeps none here."""
    found: dict[int, dict[str, Any]] = {}
    for file in sorted((layout.root / EPISODES).glob("*/*.parquet")):
        table = pq.read_table(file)
        kept = [n for n in table.column_names if n.startswith("stats/") and n.split("/")[1] not in BOOKKEEPING]
        for row in table.select(["episode_index", *kept]).to_pylist():
            found[row.pop("episode_index")] = row
    return found


def write_tables(
    out: Path, rows: Sequence[Row], stats: Mapping[int, Mapping[str, Any]], *, fps: float, commits: Commits
) -> None:
    """`stats` by old episode number; columns that some episode lacks are left out, as readers want the same in all."""
    common = set.intersection(*({*stats.get(row.old, {})} for row in rows)) if rows else set[str]()
    for begin in range(0, len(rows), EPISODES_PER_TABLE):
        place = divmod(begin // EPISODES_PER_TABLE, 1000)
        table = [
            _cells(number, row, fps)
            | {name: value for name, value in stats.get(row.old, {}).items() if name in common}
            | {"meta/episodes/chunk_index": place[0], "meta/episodes/file_index": place[1]}
            for number, row in enumerate(rows[begin : begin + EPISODES_PER_TABLE], start=begin)
        ]
        file = out / EPISODES_TEMPLATE.format(chunk_index=place[0], file_index=place[1])
        with commits.replacing(file) as temporary:
            pq.write_table(pa.Table.from_pylist(table), temporary)


def _cells(number: int, row: Row, fps: float) -> dict[str, Any]:
    cells: dict[str, Any] = {
        "episode_index": number,
        "tasks": list(row.tasks),
        "length": row.length,
        "data/chunk_index": row.data[0],
        "data/file_index": row.data[1],
        "dataset_from_index": row.first,
        "dataset_to_index": row.first + row.length,
    }
    for camera, (chunk, file, first) in row.videos.items():
        prefix = f"videos/{camera}"
        cells |= {f"{prefix}/chunk_index": chunk, f"{prefix}/file_index": file}
        cells |= {f"{prefix}/from_timestamp": first / fps, f"{prefix}/to_timestamp": (first + row.length) / fps}
    return cells
