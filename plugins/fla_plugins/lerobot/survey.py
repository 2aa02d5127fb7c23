"""`survey`: which whole episodes a damaged folder holds, whatever its tables say, and what is wrong with it."""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import attrs
import numpy as np
from numpy.typing import NDArray

from fla_plugins.lerobot.layout import BOOKKEEPING, EPISODES, TASKS, Layout
from fla_plugins.lerobot.parquet import open_parquet, read_columns
from fla_plugins.lerobot.pieces import Piece, Span
from fla_plugins.lerobot.salvage import salvage
from fla_plugins.lerobot.video_reader import FrameIndex, read_index
from fla_sdk.errors import DataError
from fla_sdk.terminal import progress

NUMBERS = ("episode_index", "frame_index", "task_index", "index")

Place = tuple[int, int]
"""Chunk and number of a file."""


@attrs.define(kw_only=True, eq=False)
class DataFile:
    """A data file whose rows can be read."""

    path: Path
    """Where it lies in the dataset."""

    source: Path
    """Where to read it: itself, or what was salvaged from it."""

    numbers: NDArray[np.int64]
    """`[N, 4]` the `NUMBERS` of its rows."""


@attrs.define(kw_only=True)
class Survey:
    """What was found."""

    layout: Layout
    files: dict[Path, DataFile] = attrs.field(factory=dict[Path, DataFile])
    """By where to read them."""

    table: dict[int, dict[str, Any]] = attrs.field(factory=dict[int, dict[str, Any]])
    """Episode number -> its row in `meta/episodes`, where that can be read."""

    texts: dict[int, str] = attrs.field(factory=dict[int, str])
    """Task number -> text, where it is known."""

    whole: list[Piece] = attrs.field(factory=list[Piece])
    """Episodes with all their rows and frames, in the order of their rows."""

    indexes: dict[Path, FrameIndex] = attrs.field(factory=dict[Path, FrameIndex])
    """Of every video that can be read."""

    problems: list[str] = attrs.field(factory=list[str])
    """One line each."""

    def tasks(self, piece: Piece) -> list[int]:
        """Task numbers of an episode, in the order of its rows."""
        numbers = self.files[piece.rows.path].numbers[piece.rows.first : piece.rows.first + piece.rows.length, 2]
        return list(dict.fromkeys(numbers.tolist()))

    def shown(self, path: Path) -> str:
        return str(path.relative_to(self.layout.root))


def survey(layout: Layout, scratch: Path) -> Survey:
    """Look at everything in the folder; what is salvaged is written into the folder `scratch`."""
    found = Survey(layout=layout)
    _read_data(found, scratch)
    _read_tables(found)
    _read_tasks(found)
    _read_videos(found)
    episodes = list(_episodes(found))
    spans = {camera: _place_frames(found, camera, episodes) for camera in layout.videos}
    for piece in episodes:
        places = {camera: spans[camera][piece.episode] for camera in layout.videos}
        faults = [place for place in places.values() if isinstance(place, str)]
        if faults:
            found.problems.append(f"episode {piece.episode} is left out: {faults[0]}")
        else:
            frames = {camera: place for camera, place in places.items() if isinstance(place, Span)}
            found.whole.append(attrs.evolve(piece, frames=frames))
    lost = {*found.table} - {piece.episode for piece in episodes}
    for number in sorted(number for number in lost if number < layout.episodes):
        found.problems.append(f"episode {number} is left out: no file has its rows")
    return found


# --- What can be read -------------------------------------------------------------------------------------------------


def _read_data(found: Survey, scratch: Path) -> None:
    features = found.layout.features
    names = [name for name, feature in features.items() if not feature.is_camera]
    own = {name: feature for name, feature in features.items() if name not in BOOKKEEPING}
    paths = sorted((found.layout.root / "data").glob("*/*.parquet"))
    with progress("reading data files", len(paths)) as advance:
        for path in paths:
            source = path
            try:
                try:
                    open_parquet(path)
                except DataError:
                    source = scratch / f"{len(found.files)}.parquet"
                    if not (rows := salvage(path, own, source)):
                        raise
                    found.problems.append(
                        f"{found.shown(path)} was not closed by its recorder; {rows} rows were found in it"
                    )
                table = read_columns(source, open_parquet(source), names)  # all, to find what cannot be read
                numbers = np.stack([table[name].to_numpy() for name in NUMBERS], axis=1).astype(np.int64)
                found.files[source] = DataFile(path=path, source=source, numbers=numbers)
            except (DataError, ValueError) as error:
                found.problems.append(f"{found.shown(path)} cannot be read: {_brief(error)}")
            advance()


def _read_tables(found: Survey) -> None:
    for path in sorted((found.layout.root / EPISODES).glob("*/*.parquet")):
        try:
            file = open_parquet(path)
            for row in read_columns(path, file, file.schema_arrow.names).to_pylist():
                found.table[row["episode_index"]] = row
        except (DataError, KeyError) as error:
            found.problems.append(f"{found.shown(path)} cannot be read: {_brief(error)}")


def _read_tasks(found: Survey) -> None:
    path = found.layout.root / TASKS
    try:
        file = open_parquet(path)
        text = next((name for name in ("task", "__index_level_0__") if name in file.schema_arrow.names), "task")
        table = read_columns(path, file, ["task_index", text])
        found.texts = dict(zip(table["task_index"].to_pylist(), map(str, table[text].to_pylist()), strict=True))
    except (DataError, UnicodeDecodeError) as error:
        found.problems.append(f"{TASKS} cannot be read: {_brief(error)}")
    for piece in _episodes(found, silent=True):
        numbers, texts = found.tasks(piece), found.table.get(piece.episode, {}).get("tasks") or []
        if len(numbers) == len(texts) == 1:  # with several, nothing says which is which
            found.texts.setdefault(numbers[0], str(texts[0]))


def _read_videos(found: Survey) -> None:
    for camera in found.layout.videos:
        for path in _videos(found.layout, camera).values():
            try:
                found.indexes[path] = read_index(path)
            except DataError as error:
                found.problems.append(f"{found.shown(path)} cannot be read: {_brief(error)}")


def _brief(error: Exception) -> str:
    return str(error).split("; ")[0].splitlines()[0]


# --- Episodes ---------------------------------------------------------------------------------------------------------


def _episodes(found: Survey, *, silent: bool = False) -> Iterator[Piece]:
    """Runs of rows of one episode that are all there; frames are still unknown."""
    seen: dict[int, Path] = {}
    for file in found.files.values():
        numbers = file.numbers
        if not len(numbers):
            continue
        begins = np.flatnonzero((np.diff(numbers[:, 0], prepend=-1) != 0) | (numbers[:, 1] == 0))
        for begin, end in zip(begins.tolist(), [*begins[1:].tolist(), len(numbers)], strict=True):
            episode = int(numbers[begin, 0])
            row = found.table.get(episode)
            length = end - begin
            fault = None
            if not np.array_equal(numbers[begin:end, 1], np.arange(length)):
                fault = f"{found.shown(file.path)} lacks some of its rows"
            elif row is not None and row["length"] != length:
                fault = f"{found.shown(file.path)} has {length} of its {row['length']} rows"
            elif episode in seen:
                fault = f"{found.shown(file.path)} has it again, after {found.shown(seen[episode])}"
            if fault is None:
                seen[episode] = file.path
                span = Span(path=file.source, first=begin, length=length)
                yield Piece(episode=episode, rows=span, frames={})
            elif not silent:
                found.problems.append(f"episode {episode} is left out: {fault}")


# --- Frames -----------------------------------------------------------------------------------------------------------


def _videos(layout: Layout, camera: str) -> dict[Place, Path]:
    """Every mp4 of a camera."""
    found: dict[Place, Path] = {}
    for path in sorted((layout.root / "videos" / camera).glob("*/*.mp4")):
        chunk, file = (re.search(r"(\d+)$", name) for name in (path.parent.name, path.stem))
        if chunk and file:
            found[int(chunk[1]), int(file[1])] = path
    return found


def _place_frames(found: Survey, camera: str, episodes: Sequence[Piece]) -> dict[int, Span | str]:
    """Per episode its frames, or why they cannot be had. A file whose frames are not all accounted for is not trusted.

    The episode table says in which file frames lie and, by time stamps, how many were written. Episodes that it lacks,
    because a recorder was killed before it wrote the table, follow in order.
    """
    paths, listed = _videos(found.layout, camera), _listed(found, camera)
    lengths = {piece.episode: piece.rows.length for piece in episodes}
    waiting = [episode for episode in lengths if episode not in found.table]
    was_killed = bool(waiting)
    result: dict[int, Span | str] = {}
    for place in sorted({*paths, *listed}):
        path = paths.get(place, found.layout.video_file(camera, *place))
        name, known = found.shown(path), listed.get(place, [])
        if path not in found.indexes:
            reason = f"{name} {'cannot be read' if place in paths else 'is missing'}"
            result |= {episode: reason for episode, _, _ in known}
            continue
        count = len(found.indexes[path])
        rows = sum(length for _, length, _ in known)
        sizes = [length if rows == count else stamped for _, length, stamped in known]
        if sum(sizes) > count or (sum(sizes) < count and not was_killed):
            reason = f"{name} has {count} frames for {rows} rows"
            result |= {episode: reason for episode, _, _ in known}
            continue
        position = 0
        for (episode, length, _), size in zip(known, sizes, strict=True):
            fault = f"{name} has {size} frames of it for {length} rows"
            result[episode] = Span(path=path, first=position, length=length) if size == length else fault
            position += size
        added: list[int] = []
        while waiting and position + lengths[waiting[0]] <= count:
            added.append(waiting.pop(0))
            result[added[-1]] = Span(path=path, first=position, length=lengths[added[-1]])
            position += lengths[added[-1]]
        if position < count:
            result |= dict.fromkeys(added, f"{name} has other frames than its episodes have rows")
    return {episode: result.get(episode, f"no video of {camera} has its frames") for episode in lengths}


def _listed(found: Survey, camera: str) -> dict[Place, list[tuple[int, int, int]]]:
    """Per file, (episode, rows, frames by time stamps) in the order of time."""
    files: dict[Place, list[tuple[float, int, int, int]]] = {}
    prefix = f"videos/{camera}"
    for episode, row in found.table.items():
        place = row.get(f"{prefix}/chunk_index"), row.get(f"{prefix}/file_index")
        begin, end = row.get(f"{prefix}/from_timestamp"), row.get(f"{prefix}/to_timestamp")
        if isinstance(place[0], int) and isinstance(place[1], int) and begin is not None and end is not None:
            stamped = round((end - begin) * found.layout.fps)
            files.setdefault((place[0], place[1]), []).append((begin, episode, row["length"], stamped))
    return {place: [entry[1:] for entry in sorted(entries)] for place, entries in files.items()}
