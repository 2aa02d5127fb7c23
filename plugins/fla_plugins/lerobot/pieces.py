"""`Piece`: where one episode lies, and writing pieces one after the other into new files, encoding nothing again."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import attrs
import av
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from fla_plugins.lerobot.parquet import open_parquet
from fla_plugins.lerobot.video_reader import FrameIndex


@attrs.frozen(kw_only=True)
class Span:
    """Rows of a data file, or frames of a video."""

    path: Path
    first: int
    length: int


@attrs.frozen(kw_only=True)
class Piece:
    """One episode: its rows, and its frames in every camera that is stored as video."""

    episode: int
    """Its number where it comes from."""

    rows: Span
    frames: Mapping[str, Span]


# --- Rows -------------------------------------------------------------------------------------------------------------


def read_rows(span: Span) -> pa.Table:
    """Only the row groups that the span touches."""
    file = open_parquet(span.path)
    sizes = [file.metadata.row_group(group).num_rows for group in range(file.metadata.num_row_groups)]
    ends = np.cumsum(sizes)
    begin = int(np.searchsorted(ends, span.first, side="right"))
    end = int(np.searchsorted(ends, span.first + span.length - 1, side="right"))
    table = file.read_row_groups(list(range(begin, end + 1)), use_threads=False)
    return table.slice(span.first - int(ends[begin] - sizes[begin]), span.length)


def renumbered(table: pa.Table, *, episode: int, first: int, tasks: Mapping[int, int]) -> pa.Table:
    """The rows of an episode as episode number `episode`, from row `first` on, with task numbers old -> new."""
    count = len(table)
    numbers = {
        "episode_index": np.full(count, episode),
        "index": np.arange(first, first + count),
        "task_index": np.array([tasks[number] for number in table["task_index"].to_pylist()], np.int64),
    }
    for name, values in numbers.items():
        at = table.schema.get_field_index(name)
        table = table.set_column(at, table.field(at), pa.array(values, table.field(at).type))
    return table


def write_rows(tables: Iterable[pa.Table], path: Path) -> None:
    """One row group per table, as recorders write them."""
    writer: Any = None
    try:
        for table in tables:
            if writer is None:
                path.parent.mkdir(parents=True, exist_ok=True)
                writer = pq.ParquetWriter(path, table.schema)
            writer.write_table(table.select(writer.schema.names).cast(writer.schema), row_group_size=len(table))
    finally:
        if writer is not None:
            writer.close()


# --- Frames -----------------------------------------------------------------------------------------------------------


def packets(index: FrameIndex, span: Span) -> slice | None:
    """The packets of the span's frames, when they are a run that can be decoded without the others; None else."""
    held = index.packets[span.first : span.first + span.length]
    if len(held) != span.length or span.first not in index.keys:
        return None
    run = slice(int(held.min()), int(held.max()) + 1)
    return run if run.stop - run.start == len(held) and held[0] == run.start else None


def write_frames(spans: Sequence[Span], indexes: Mapping[Path, FrameIndex], path: Path, *, fps: float) -> None:
    """Copy the packets of each span, one span after the other; frame `n` of the file is shown at `n / fps` seconds.

    The spans must be of one coding, and `packets` must find all of them.
    """
    rate = Fraction(fps).limit_denominator(1001)
    # A packet is decoded before it is shown by as many frames as the deepest reordering needs.
    ahead = max(int((np.arange(len(indexes[s.path])) - indexes[s.path].shown).max()) for s in spans)
    path.parent.mkdir(parents=True, exist_ok=True)
    with (
        av.open(str(spans[0].path)) as model,
        av.open(str(path), "w", format="mp4", options={"movflags": "faststart"}) as out,
    ):
        stream = out.add_stream_from_template(model.streams.video[0], opaque=True)
        stream.time_base = 1 / rate
        begin = 0
        for span in spans:
            for packet in _copied(indexes[span.path], span):
                packet.pts, packet.dts = packet.pts + begin, packet.dts + begin - ahead
                packet.time_base, packet.stream, packet.duration = 1 / rate, stream, 1
                out.mux(packet)
            begin += span.length


def _copied(index: FrameIndex, span: Span) -> Iterator[Any]:
    """Packets whose times are counted in frames from the beginning of the span."""
    run = packets(index, span)
    assert run is not None
    keys = frozenset(index.keys.tolist())
    with span.path.open("rb") as file:
        for number in range(run.start, run.stop):
            file.seek(int(index.positions[number]))
            packet = av.Packet(file.read(int(index.sizes[number])))
            frame = int(index.shown[number])
            packet.pts, packet.dts, packet.is_keyframe = frame - span.first, number - run.start, frame in keys
            yield packet
