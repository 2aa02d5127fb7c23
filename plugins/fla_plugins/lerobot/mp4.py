"""Where the frames of an mp4 lie: its sample tables, read without the frames themselves.

The layout of the boxes is that of ISO/IEC 14496-12. Plain files of one edit are understood, which all recorders write;
of others `read_samples` gives None, and libavformat has to be asked.
"""

import struct
from collections.abc import Iterator
from typing import Any, BinaryIO

import attrs
import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]


@attrs.frozen(kw_only=True, eq=False)
class Samples:
    """The frames of the first video track, in the order in which they are decoded."""

    positions: Ints
    """`[N]` of the first byte."""

    sizes: Ints
    """`[N]` bytes."""

    stamps: Ints
    """`[N]` when each is shown, in units of `1 / scale` seconds; comparable with each other only."""

    keys: NDArray[np.bool_]
    """`[N]` whether decoding can begin there."""

    scale: int

    description: bytes
    """What a decoder must know; equal for files that one decoder can read."""


def read_samples(file: BinaryIO) -> Samples | None:
    """None when the file is no mp4, or none of the plain kind."""
    try:
        movie = _movie(file)
        return _video(movie) if movie is not None else None
    except (struct.error, IndexError, ValueError, KeyError):  # tables that contradict themselves
        return None


def _movie(file: BinaryIO) -> memoryview | None:
    """The contents of the box `moov`, wherever it lies."""
    position, end = 0, file.seek(0, 2)
    while position + 8 <= end:
        file.seek(position)
        head = file.read(16)
        size, kind = struct.unpack_from(">I4s", head)
        begin = 8
        if size == 1:
            size, begin = struct.unpack_from(">Q", head, 8)[0], 16
        elif size == 0:
            size = end - position
        if size < begin:
            return None
        if kind == b"moov":
            file.seek(position + begin)
            return memoryview(file.read(size - begin))
        position += size
    return None


def _boxes(data: memoryview) -> Iterator[tuple[bytes, memoryview]]:
    position = 0
    while position + 8 <= len(data):
        size, kind = struct.unpack_from(">I4s", data, position)
        begin = 8
        if size == 1:
            size, begin = struct.unpack_from(">Q", data, position + 8)[0], 16
        elif size == 0:
            size = len(data) - position
        if size < begin:
            raise ValueError("a box that is smaller than its head")
        yield kind, data[position + begin : position + size]
        position += size


def _inside(data: memoryview, *path: bytes) -> memoryview:
    for kind in path:
        data = dict(_boxes(data))[kind]
    return data


def _video(movie: memoryview) -> Samples | None:
    boxes = list(_boxes(movie))
    if any(kind == b"mvex" for kind, _ in boxes):  # fragments have tables of their own
        return None
    tracks = (track for kind, track in boxes if kind == b"trak")
    track = next((t for t in tracks if bytes(_inside(t, b"mdia", b"hdlr")[8:12]) == b"vide"), None)
    if track is None:
        return None
    clock = _inside(track, b"mdia", b"mdhd")
    (scale,) = struct.unpack_from(">I", clock, 20 if clock[0] == 1 else 12)
    tables = dict(_boxes(_inside(track, b"mdia", b"minf", b"stbl")))
    sizes = _sizes(tables[b"stsz"])
    count = len(sizes)
    steps = _runs(tables[b"stts"])
    begun = np.cumsum(steps) - steps
    late = _runs(tables[b"ctts"]).astype(np.uint32).view(np.int32) if b"ctts" in tables else np.zeros(count)
    stamps = begun + late.astype(np.int64)
    keys = np.ones(count, np.bool_)
    if b"stss" in tables:
        keys[:] = False
        keys[_numbers(tables[b"stss"], ">u4", 8) - 1] = True
    if not count or len(stamps) != count or not _shows_all(track, movie, stamps, scale):
        return None
    return Samples(
        positions=_positions(tables, sizes),
        sizes=sizes,
        stamps=stamps,
        keys=keys,
        scale=scale,
        description=_description(tables[b"stsd"]),
    )


def _numbers(table: memoryview, kind: str, begin: int) -> Ints:
    return np.frombuffer(table[begin:], kind).astype(np.int64)


def _runs(table: memoryview) -> Ints:
    """A table of (how often, value), written out."""
    times, values = _numbers(table, ">u4", 8).reshape(-1, 2).T
    return np.repeat(values, times)


def _sizes(table: memoryview) -> Ints:
    alike, count = struct.unpack_from(">II", table, 4)
    return np.full(count, alike, np.int64) if alike else _numbers(table, ">u4", 12)


def _positions(tables: dict[bytes, memoryview], sizes: Ints) -> Ints:
    chunks = _numbers(tables[b"co64"], ">u8", 8) if b"co64" in tables else _numbers(tables[b"stco"], ">u4", 8)
    begins, held, _ = _numbers(tables[b"stsc"], ">u4", 8).reshape(-1, 3).T
    per_chunk = np.repeat(held, np.diff([*begins, len(chunks) + 1]))
    first = np.cumsum(per_chunk) - per_chunk
    ends = np.cumsum(sizes)
    chunk = np.repeat(np.arange(len(chunks)), per_chunk)
    if len(chunk) != len(sizes):
        raise ValueError("chunks and sizes are of different numbers of frames")
    return chunks[chunk] + (ends - sizes) - (ends - sizes)[first[chunk]]


def _shows_all(track: memoryview, movie: memoryview, stamps: Ints, scale: int) -> bool:
    """Whether the track's edit list leaves no frame out."""
    if b"edts" not in (parts := dict(_boxes(track))):
        return True
    edits = _inside(parts[b"edts"], b"elst")
    kind = ">u8,>i8,>i4" if edits[0] == 1 else ">u4,>i4,>i4"
    table = np.frombuffer(edits[8:], kind)
    real = table[table["f1"] >= 0]  # others only delay the beginning
    if len(real) != 1:
        return False
    clock = _inside(movie, b"mvhd")
    (unit,) = struct.unpack_from(">I", clock, 20 if clock[0] == 1 else 12)
    begin = int(real["f1"][0])
    end = begin + int(real["f0"][0]) * scale // unit
    return bool(stamps.min() >= begin and stamps.max() < end + scale // unit)


def _description(table: memoryview) -> bytes:
    """The only sample entry, without the bit rates of this file."""
    (entry,) = _boxes(table[8:])
    kind, fields = entry
    parts: list[Any] = [kind, fields[:78]]
    parts += (part for found in _boxes(fields[78:]) if found[0] != b"btrt" for part in found)
    return b"".join(map(bytes, parts))
