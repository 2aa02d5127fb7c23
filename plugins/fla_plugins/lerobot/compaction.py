"""Copying all or some episodes into a new LeRobot v3 dataset of files of the usual size, encoding nothing again."""

import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import pyarrow.parquet as pq

from fla_plugins.lerobot import schema
from fla_plugins.lerobot.commit import SUFFIX, Commits, unfinished
from fla_plugins.lerobot.episodes import Placement, read_episodes, read_tasks
from fla_plugins.lerobot.layout import DATA_TEMPLATE, INFO, STATS, TASKS, VIDEO_TEMPLATE, Layout, read_layout
from fla_plugins.lerobot.pieces import Piece, Span, packets, read_rows, renumbered, write_frames, write_rows
from fla_plugins.lerobot.stats import dataset_stats
from fla_plugins.lerobot.tables import Row, read_rows_of_tables, write_tables
from fla_plugins.lerobot.video_reader import FrameIndex, read_index
from fla_sdk.errors import DataError
from fla_sdk.home import refuse_without_space
from fla_sdk.terminal import progress

FILES_PER_CHUNK = 1000
DATA_BYTES, VIDEO_BYTES = 100 << 20, 200 << 20
"""Sizes up to which LeRobot fills its files."""


def copy_episodes(path: Path, out: Path, episodes: Sequence[int] | None = None) -> int:
    """Copy the numbered episodes (default: all) of the dataset at `path`, v2 or v3, to `out`; returns how many.

    Rows and the packets of videos are copied as they are. `out` appears when it is complete. Raises `DataError` when an
    episode is damaged, or begins or ends between the key frames of a video.
    """
    layout = read_layout(path)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise DataError(f"{out} exists and is not an empty folder; give another one, or remove it first")
    pieces = read_pieces(layout)
    chosen = pieces if episodes is None else [pieces[episode] for episode in episodes]
    if not chosen:
        raise DataError(f"{path}: no episode was chosen, so there is nothing to write to {out}")
    if empty := [piece.episode for piece in chosen if not piece.rows.length]:
        raise DataError(f"{path}: episode {empty[0]} has no frames; run `fla data repair` first, or leave it out")
    staging = unfinished(out.absolute())
    needed = sum(file.stat().st_size for file in path.rglob("*") if file.is_file()) * len(chosen) // len(pieces)
    refuse_without_space(needed, staging.parent, what=f"copying {path}", error=DataError, setting="--out")
    shutil.rmtree(staging, ignore_errors=True)
    try:
        _Copy(layout=layout, every=pieces, pieces=chosen, out=staging).write()
        if out.exists():
            out.rmdir()
        os.replace(staging, out)
    except BaseException:
        shutil.rmtree(staging, ignore_errors=True)
        raise
    return len(chosen)


def read_pieces(layout: Layout) -> list[Piece]:
    """Where every episode lies. Raises `DataError` when the tables contradict each other."""
    table = read_episodes(layout)

    def span(place: Placement, episode: int, camera: str | None) -> Span:
        file = place.files[place.of[episode]].tolist()
        path = layout.data_file(*file) if camera is None else layout.video_file(camera, *file)
        return Span(path=path, first=int(place.first[episode]), length=int(table.lengths[episode]))

    return [
        Piece(
            episode=episode,
            rows=span(table.data, episode, None),
            frames={camera: span(place, episode, camera) for camera, place in table.videos.items()},
        )
        for episode in range(layout.episodes)
    ]


@attrs.frozen(kw_only=True)
class _Copy:
    layout: Layout
    every: Sequence[Piece]
    pieces: Sequence[Piece]
    out: Path
    commits: Commits = attrs.field(factory=Commits)
    indexes: dict[Path, FrameIndex] = attrs.field(factory=dict[Path, FrameIndex])

    def write(self) -> None:
        texts = read_tasks(self.layout)
        self._check_frames()
        with progress(f"writing {self.out.stem}", len(self.pieces) * (1 + len(self.layout.videos))) as advance:
            rows, tasks = self._write_data(texts, advance)
            for camera in self.layout.videos:
                self._write_videos(camera, rows, advance)
        write_tables(self.out, rows, read_rows_of_tables(self.layout), fps=self.layout.fps, commits=self.commits)
        with self.commits.replacing(self.out / TASKS) as temporary:
            pq.write_table(schema.tasks_table(list(tasks)), temporary)
        self._write_info(rows, len(tasks))
        self._write_stats()
        self._verify()
        for file in self.layout.root.iterdir():
            if file.is_file() and file.suffix != SUFFIX:  # a card, a licence
                shutil.copy2(file, self.out / file.name)
        self.commits.sync(at_once=True)

    def _check_frames(self) -> None:
        """Before anything is written."""
        for camera in self.layout.videos:
            frames: dict[Path, int] = {}
            for piece in self.every:
                frames[piece.frames[camera].path] = frames.get(piece.frames[camera].path, 0) + piece.rows.length
            for piece in self.pieces:
                span = piece.frames[camera]
                if span.path not in self.indexes:
                    self.indexes[span.path] = read_index(span.path)
                index = self.indexes[span.path]
                if len(index) != frames[span.path]:
                    raise DataError(
                        f"{span.path} holds {len(index)} frames, but its episodes have {frames[span.path]} rows;"
                        " run `fla data repair` first"
                    )
                if packets(index, span) is None:
                    raise DataError(
                        f"{span.path}: episode {piece.episode} (from frame {span.first}, {span.length} frames) does not"
                        " begin and end between key frames, so it cannot be copied without encoding it again; use"
                        " `fla data convert`"
                    )

    def _verify(self) -> None:
        """Nothing of what was written may differ from where it comes from. Raises `DataError`."""
        written = read_pieces(read_layout(self.out))
        for old, new in zip(self.pieces, written, strict=True):
            for camera, span in new.frames.items():
                was, now = self.indexes[old.frames[camera].path], read_index(span.path)
                one, other = packets(was, old.frames[camera]), packets(now, span)
                if one is None or other is None or (was.sizes[one] != now.sizes[other]).any():
                    raise DataError(f"{span.path}: episode {new.episode} was not copied whole; the disk may be failing")

    def _write_data(self, texts: Mapping[int, str], advance: Any) -> tuple[list[Row], Mapping[str, int]]:
        tasks: dict[str, int] = {}
        rows: list[Row] = []
        total = number = size = 0
        file: list[Any] = []

        def flush() -> None:
            nonlocal number, size
            with self.commits.replacing(self._file(DATA_TEMPLATE, number)) as temporary:
                write_rows(file, temporary)
            number, size = number + 1, 0
            file.clear()

        for episode, piece in enumerate(self.pieces):
            table = read_rows(piece.rows)
            if len(table) != piece.rows.length or set(table["episode_index"].to_pylist()) != {piece.episode}:
                raise DataError(f"{piece.rows.path}: not the rows of episode {piece.episode}; run `fla data repair`")
            told = {old: texts[old] for old in dict.fromkeys(table["task_index"].to_pylist())}
            renumbering = {old: tasks.setdefault(text, len(tasks)) for old, text in told.items()}
            table = renumbered(table, episode=episode, first=total, tasks=renumbering)
            if file and size + table.nbytes > DATA_BYTES:
                flush()
            file.append(table)
            size += table.nbytes
            rows.append(
                Row(old=piece.episode, tasks=tuple(told.values()), first=total, length=len(table), data=_place(number))
            )
            total += len(table)
            advance()
        flush()
        return rows, tasks

    def _write_videos(self, camera: str, rows: list[Row], advance: Any) -> None:
        spans = [piece.frames[camera] for piece in self.pieces]
        for number, (begin, end) in enumerate(self._groups(spans)):
            with self.commits.replacing(self._file(VIDEO_TEMPLATE, number, video_key=camera)) as temporary:
                write_frames(spans[begin:end], self.indexes, temporary, fps=self.layout.fps)
            first = 0
            for row in rows[begin:end]:
                row.videos[camera] = (*_place(number), first)
                first += row.length
            advance(by=end - begin)

    def _write_info(self, rows: Sequence[Row], tasks: int) -> None:
        info = json.loads((self.layout.root / INFO).read_text(encoding="utf-8"))
        for name in ("total_chunks", "total_videos"):  # of v2
            info.pop(name, None)
        info |= {
            "codebase_version": info["codebase_version"] if not self.layout.file_per_episode else "v3.0",
            "total_episodes": len(rows),
            "total_frames": sum(row.length for row in rows),
            "total_tasks": tasks,
            "chunks_size": FILES_PER_CHUNK,
            "data_path": DATA_TEMPLATE,
            "video_path": VIDEO_TEMPLATE if self.layout.videos else None,
            "splits": {"train": f"0:{len(rows)}"},
        }
        self.commits.write_text(self.out / INFO, json.dumps({"data_files_size_in_mb": 100, **info}, indent=4))

    def _write_stats(self) -> None:
        kept = self.layout.root / STATS
        if len(self.pieces) == len(self.every) and kept.is_file():
            self.commits.write_text(self.out / STATS, kept.read_text(encoding="utf-8"))
        else:
            self.commits.write_text(self.out / STATS, json.dumps(dataset_stats(self.out)))

    def _groups(self, spans: Sequence[Span]) -> Iterator[tuple[int, int]]:
        """First and last of the spans that go into one file: of one coding, up to the usual size."""
        begin = size = 0
        coding: Any = None
        for number, span in enumerate(spans):
            index = self.indexes[span.path]
            bytes_of = int(np.sum(index.sizes[packets(index, span)]))
            if number > begin and (size + bytes_of > VIDEO_BYTES or index.coding != coding):
                yield begin, number
                begin, size = number, 0
            size, coding = size + bytes_of, index.coding
        yield begin, len(spans)

    def _file(self, template: str, number: int, **keys: str) -> Path:
        chunk, file = _place(number)
        return self.out / template.format(chunk_index=chunk, file_index=file, **keys)


def _place(number: int) -> tuple[int, int]:
    return divmod(number, FILES_PER_CHUNK)
