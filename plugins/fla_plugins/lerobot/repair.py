"""Making a damaged folder readable again: what is whole stays, the rest moves aside, tables are written anew."""

import json
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import pyarrow.parquet as pq

from fla_plugins.lerobot import schema
from fla_plugins.lerobot.commit import SUFFIX
from fla_plugins.lerobot.journal import FOLDER, KEPT, PLAN, Changes, finish, next_aside
from fla_plugins.lerobot.layout import (
    BOOKKEEPING,
    DATA_TEMPLATE,
    EPISODES,
    INFO,
    STATS,
    TASKS,
    VIDEO_TEMPLATE,
    layout_of,
    read_info,
)
from fla_plugins.lerobot.pieces import Piece, packets, read_rows, renumbered, write_frames, write_rows
from fla_plugins.lerobot.reader import LeRobotDataset
from fla_plugins.lerobot.stats import dataset_stats
from fla_plugins.lerobot.survey import Survey, survey
from fla_plugins.lerobot.tables import Row, write_tables
from fla_sdk.errors import DataError
from fla_sdk.terminal import progress


def repair(path: Path, *, dry_run: bool = False, tasks: Mapping[int, str] | None = None) -> list[str]:
    """Make the LeRobot v3 folder readable and return what was wrong and what was done, one line each; none if sound.

    Nothing is deleted: files that are replaced or cannot be used move to `damaged/<n>/`. A kill loses nothing, and the
    next repair finishes what was begun. `tasks` are texts that the folder has lost, by their number. Raises `DataError`
    when no episode is whole, or when it takes knowledge that the folder does not have.
    """
    if dry_run and (path / PLAN).is_file():
        return ["a repair was interrupted and would be completed"]
    done = ["a repair that was interrupted was completed"] if not dry_run and finish(path) else list[str]()
    info = read_info(path)
    if not str(info.get("codebase_version")).startswith("v3."):
        raise DataError(
            f"{path} is LeRobot {info.get('codebase_version')}, whose files are one per episode; damaged episodes are"
            " left out when it is read, or converted with `fla data convert --skip-damaged`"
        )
    counted = {name: info.get(name) for name in ("total_episodes", "total_frames")}
    known = {name: value if isinstance(value, int) and value > 0 else 1 for name, value in counted.items()}
    layout = layout_of(path, info | known)
    if (layout.data_template, layout.video_template or VIDEO_TEMPLATE) != (DATA_TEMPLATE, VIDEO_TEMPLATE):
        raise DataError(f"{path}: {INFO} names its files {layout.data_template!r}, and only {DATA_TEMPLATE!r} is known")
    with ExitStack() as stack:
        changes = Changes(root=path, aside=next_aside(path))
        if dry_run:
            scratch = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        else:
            scratch = path / FOLDER / "salvaged"
            scratch.mkdir(parents=True)
            stack.callback(finish, path)
        found = survey(layout, scratch)
        plan = _Plan(found=found, info=info, given=tasks or {}, changes=changes)
        lines = [*found.problems, *plan.decide()]
        if lines and not dry_run:
            plan.carry_out()
    if dry_run:
        return lines
    if lines or not (path / STATS).is_file():
        Changes(root=path, aside=path).commits.write_text(path / STATS, json.dumps(dataset_stats(path)))
        lines = lines or [f"{STATS} was missing and was computed"]
    if lines:
        damaged = LeRobotDataset(path).damaged
        if damaged:
            raise DataError(f"{path}: episode {min(damaged)} is still damaged: {damaged[min(damaged)]}")
    return done + lines


@attrs.define(kw_only=True)
class _Plan:
    found: Survey
    info: Mapping[str, Any]
    given: Mapping[int, str]
    changes: Changes
    kept: list[Piece] = attrs.field(factory=list[Piece])
    rows: list[Row] = attrs.field(factory=list[Row])
    tasks: dict[str, int] = attrs.field(factory=dict[str, int])
    rewritten: list[Path] = attrs.field(factory=list[Path])
    leaving: list[Path] = attrs.field(factory=list[Path])

    def decide(self) -> list[str]:
        """What is wrong besides what the survey said. Raises `DataError` when nothing can be done."""
        found = self.found
        lines = [*self._choose(), *self._name_tasks()]
        self._number()
        episodes, rows = len(self.kept), sum(piece.rows.length for piece in self.kept)
        counted = self.info.get("total_episodes"), self.info.get("total_frames"), self.info.get("total_tasks")
        if counted != (episodes, rows, len(self.tasks)):
            lines.append(
                f"{INFO} counts {counted[0]} episodes, {counted[1]} frames and {counted[2]} tasks; there are"
                f" {episodes}, {rows} and {len(self.tasks)}"
            )
        if self._table_differs():
            lines.append(f"{EPISODES} does not say what the files hold, and is written again")
        self.leaving = self._leftovers()
        self._choose_files()
        aside = found.shown(self.changes.aside)
        lines += [f"{found.shown(path)} is written again; {aside} keeps what it was" for path in self.rewritten]
        return lines + [f"{found.shown(path)} is of no use and moves to {aside}" for path in self.leaving]

    # --- Deciding -----------------------------------------------------------------------------------------------------

    def _choose(self) -> list[str]:
        """Leave out episodes whose frames cannot be taken out of a video that loses others."""
        found, lines = self.found, list[str]()
        kept = list(found.whole)
        for camera in found.layout.videos:
            while stuck := self._stuck(kept, camera):
                kept = [piece for piece in kept if piece.episode not in stuck]
                lines += [
                    f"episode {n} is left out: it does not begin and end between key frames of {camera}" for n in stuck
                ]
        if not kept:
            raise DataError(f"{found.layout.root}: no episode is whole. " + "; ".join([*found.problems, *lines]))
        self.kept = kept
        return lines

    def _stuck(self, kept: Sequence[Piece], camera: str) -> set[int]:
        """Episodes that cannot be taken out of a video that loses others."""
        cut, indexes = self._cut(kept, camera), self.found.indexes
        spans = {piece.episode: piece.frames[camera] for piece in kept}
        return {n for n, span in spans.items() if span.path in cut and packets(indexes[span.path], span) is None}

    def _cut(self, kept: Sequence[Piece], camera: str) -> set[Path]:
        """Videos that have other frames than those of the episodes that are kept."""
        used: dict[Path, int] = {}
        for piece in kept:
            span = piece.frames[camera]
            used[span.path] = used.get(span.path, 0) + span.length
        return {path for path, frames in used.items() if frames != len(self.found.indexes[path])}

    def _name_tasks(self) -> list[str]:
        found, lines = self.found, list[str]()
        texts = found.texts | dict(self.given)
        for piece in list(self.kept):
            if lost := [number for number in found.tasks(piece) if number not in texts]:
                if piece.episode < found.layout.episodes:
                    raise DataError(
                        f"{found.layout.root}: nothing says what task {lost[0]} of episode {piece.episode} was; give"
                        f" its text with --task '{lost[0]}=TEXT'"
                    )
                self.kept.remove(piece)
                lines.append(f"episode {piece.episode}, which was not committed, is left out: it has no task")
        if sorted(texts) == list(range(len(texts))) and len(set(texts.values())) == len(texts):
            self.tasks = {texts[number]: number for number in sorted(texts)}
        else:
            for number in sorted({number for piece in self.kept for number in found.tasks(piece)}):
                self.tasks.setdefault(texts[number], len(self.tasks))
            lines.append(f"{TASKS} has numbers {sorted(texts)}, or a text twice, and is written again")
        found.texts = texts
        return lines

    def _number(self) -> None:
        first = 0
        positions: dict[Path, int] = {}
        for piece in self.kept:
            row = Row(
                old=piece.episode,
                tasks=tuple(self.found.texts[number] for number in self.found.tasks(piece)),
                first=first,
                length=piece.rows.length,
                data=_place(self.found.files[piece.rows.path].path),
            )
            for camera, span in piece.frames.items():
                begin = positions.get(span.path, 0)
                row.videos[camera] = (*_place(span.path), begin)
                positions[span.path] = begin + span.length
            self.rows.append(row)
            first += piece.rows.length

    def _table_differs(self) -> bool:
        """Whether the table that is there says anything else than `rows`."""
        table = self.found.table
        if list(table) != list(range(len(self.rows))):
            return True
        for number, row in enumerate(self.rows):
            there = table[number]
            places = {("data/chunk_index", "data/file_index"): row.data}
            places |= {
                (f"videos/{camera}/chunk_index", f"videos/{camera}/file_index"): place[:2]
                for camera, place in row.videos.items()
            }
            numbers = there.get("length"), there.get("dataset_from_index"), there.get("dataset_to_index")
            if numbers != (row.length, row.first, row.first + row.length):
                return True
            if any((there.get(chunk), there.get(file)) != place for (chunk, file), place in places.items()):
                return True
        return False

    def _renumbering(self, piece: Piece) -> dict[int, int]:
        return {number: self.tasks[self.found.texts[number]] for number in self.found.tasks(piece)}

    def _by_file(self) -> dict[Path, list[tuple[int, Piece]]]:
        """Where data files lie in the dataset -> new number and old place of the episodes to keep in them."""
        held: dict[Path, list[tuple[int, Piece]]] = {}
        for number, piece in enumerate(self.kept):
            held.setdefault(self.found.files[piece.rows.path].path, []).append((number, piece))
        return held

    def _unchanged(self, path: Path, held: Sequence[tuple[int, Piece]]) -> bool:
        """Whether a data file may stay as it is."""
        file = self.found.files[held[0][1].rows.path]
        if file.source != path or sum(piece.rows.length for _, piece in held) != len(file.numbers):
            return False
        for number, piece in held:
            numbers = file.numbers[piece.rows.first : piece.rows.first + piece.rows.length]
            index = np.arange(self.rows[number].first, self.rows[number].first + self.rows[number].length)
            if (numbers[:, 0] != number).any() or not np.array_equal(numbers[:, 3], index):
                return False
            if any(old != new for old, new in self._renumbering(piece).items()):
                return False
        return True

    def _choose_files(self) -> None:
        """What is written again, and what has nothing that can be used."""
        root, held = self.found.layout.root, self._by_file()
        self.rewritten = [path for path, pieces in held.items() if not self._unchanged(path, pieces)]
        self.leaving += [path for path in sorted((root / "data").glob("*/*.parquet")) if path not in held]
        for camera in self.found.layout.videos:
            used = {piece.frames[camera].path for piece in self.kept}
            self.rewritten += sorted(self._cut(self.kept, camera))
            self.leaving += [path for path in sorted((root / "videos" / camera).glob("*/*.mp4")) if path not in used]

    def _leftovers(self) -> list[Path]:
        root = self.found.layout.root
        apart = (FOLDER.name, KEPT.name)
        found = [path for path in root.rglob(f"*{SUFFIX}") if path.relative_to(root).parts[0] not in apart]
        if not self.found.layout.images:  # of data whose images are in files, they may be the data
            found += [path for path in (root / "images").rglob("*") if path.is_file()]
        return sorted(found)

    # --- Doing --------------------------------------------------------------------------------------------------------

    def carry_out(self) -> None:
        found, changes, root = self.found, self.changes, self.found.layout.root
        with progress("writing files again", len(self.rewritten)) as advance:
            for path in self.rewritten:
                self._rewrite(path)
                advance()
        stats = {n: _stats(cells) for n, cells in found.table.items()}
        write_tables(changes.new(root), self.rows, stats, fps=found.layout.fps, commits=changes.commits)
        tables = sorted((root / EPISODES).glob("*/*.parquet"))
        pq.write_table(schema.tasks_table(list(self.tasks)), changes.new(root / TASKS))
        counts = {
            "total_episodes": len(self.rows),
            "total_frames": sum(row.length for row in self.rows),
            "total_tasks": len(self.tasks),
            "splits": {"train": f"0:{len(self.rows)}"},
        }
        changes.new(root / INFO).write_text(json.dumps({**self.info, **counts}, indent=4), encoding="utf-8")
        stale = [path for path in (root / STATS,) if path.is_file()]
        changes.apply([*self.leaving, *tables, *stale])

    def _rewrite(self, path: Path) -> None:
        found = self.found
        if path.suffix == ".mp4":
            camera = path.parents[1].name
            spans = [piece.frames[camera] for piece in self.kept if piece.frames[camera].path == path]
            write_frames(spans, found.indexes, self.changes.new(path), fps=found.layout.fps)
            return
        tables = (
            renumbered(read_rows(p.rows), episode=n, first=self.rows[n].first, tasks=self._renumbering(p))
            for n, p in self._by_file()[path]
        )
        write_rows(tables, self.changes.new(path))


def _place(path: Path) -> tuple[int, int]:
    return int(path.parent.name.rpartition("-")[2]), int(path.stem.rpartition("-")[2])


def _stats(cells: Mapping[str, Any]) -> dict[str, Any]:
    return {n: v for n, v in cells.items() if n.startswith("stats/") and n.split("/")[1] not in BOOKKEEPING}
