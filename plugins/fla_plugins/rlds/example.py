"""`tf.train.Example` without a protobuf library: where each feature lies in a record, and what its bytes mean.

Example  { Features features = 1; }
Features { map<string, Feature> feature = 1; }
Feature  { BytesList bytes_list = 1; FloatList float_list = 2; Int64List int64_list = 3; }   each: repeated value = 1
"""

from collections.abc import Iterator
from typing import Literal

import attrs
import numpy as np
from numpy.typing import NDArray

from fla_plugins.rlds.shard import Record, Shard
from fla_sdk.errors import DataError

Kind = Literal["bytes", "floats", "integers"]

_KINDS: dict[int, Kind] = {1: "bytes", 2: "floats", 3: "integers"}
_VARINT, _FIXED64, _LENGTH, _FIXED32 = 0, 1, 2, 5
_PAGE = 4096


@attrs.frozen
class Region:
    """Bytes `start` to `end` of a file: a whole BytesList, or the packed numbers of another list."""

    kind: Kind
    start: int
    end: int


class Window:
    """Reads of a few bytes here and there, served from the page around the last one."""

    def __init__(self, shard: Shard) -> None:
        self.shard = shard
        self._start, self._page = 0, b""

    def __call__(self, start: int, size: int) -> bytes:
        offset = start - self._start
        if offset < 0 or offset + size > len(self._page):
            self._start, self._page, offset = start, self.shard.some(start, max(size, _PAGE)), 0
        return self._page[offset : offset + size]


def features(window: Window, record: Record) -> dict[str, Region]:
    """Every feature of a record by name. Values are skipped, not read. Raises `DataError` for anything else."""
    found: dict[str, Region] = {}
    for _, _, *example in fields(window, record.start, record.start + record.size):
        for _, _, *entry in fields(window, *example):
            name, value = "", None
            for number, _, start, end in fields(window, *entry):
                if number == 1:
                    name = window(start, end - start).decode(errors="replace")
                elif number == 2:
                    value = next(fields(window, start, end), None)
            if value is not None and value[0] in _KINDS:
                kind, (_, _, start, end) = _KINDS[value[0]], value
                found[name] = Region(kind, *((start, end) if kind == "bytes" else _packed(window, start, end)))
    return found


def fields(window: Window, start: int, end: int) -> Iterator[tuple[int, int, int, int]]:
    """Number, wire type and value (from where to where) of each field of a message between `start` and `end`."""
    while start < end:
        head = window(start, min(20, end - start))
        key, at = _varint(head, 0)
        wire = key & 7
        if wire == _LENGTH:
            size, at = _varint(head, at)
        elif wire == _VARINT:
            size = _varint(head, at)[1] - at
        elif wire in (_FIXED32, _FIXED64):
            size = 4 if wire == _FIXED32 else 8
        else:
            raise DataError(f"{window.shard.path}: byte {start} does not begin a field of a tf.train.Example")
        if start + at + size > end:
            raise DataError(f"{window.shard.path}: the field at byte {start} is longer than the message around it")
        yield key >> 3, wire, start + at, start + at + size
        start += at + size


def _packed(window: Window, start: int, end: int) -> tuple[int, int]:
    """The numbers of a FloatList or Int64List. All writers of protocol buffers pack them."""
    values = next(fields(window, start, end), None)
    if values is None:
        return start, start
    if values[1] != _LENGTH or values[3] != end:
        raise DataError(f"{window.shard.path}: the numbers at byte {start} are not packed; write the shard with TFDS")
    return values[2], values[3]


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        if at >= len(data) or shift > 63:
            raise DataError("a number of a tf.train.Example does not end")
        byte = data[at]
        at += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, at
        shift += 7


# --- Values -----------------------------------------------------------------------------------------------------------


def boundaries(window: Window, region: Region) -> NDArray[np.int64]:
    """`[T + 1]`: where the elements of a BytesList, their heads included, begin and end, from the region's start."""
    ends = [end for _, _, _, end in fields(window, region.start, region.end)]
    return np.array([region.start, *ends]) - region.start


def element(data: bytes) -> bytes:
    """The value of one element of a BytesList, of which `data` is all, its head included."""
    size, at = _varint(data, 1)
    if data[0] != 1 << 3 | _LENGTH or at + size != len(data):
        raise DataError("an element of a BytesList is damaged")
    return data[at:]


def elements(data: bytes) -> list[bytes]:
    """All values of the BytesList that is `data`."""
    found: list[bytes] = []
    at = 0
    while at < len(data):
        size, begin = _varint(data, at + 1)
        found.append(element(data[at : begin + size]))
        at = begin + size
    return found


def integers(data: bytes) -> NDArray[np.int64]:
    """Packed varints; negative ones take ten bytes."""
    digits = np.frombuffer(data, np.uint8)
    last = digits < 128
    if last.all():
        return digits.astype(np.int64)
    ends = np.flatnonzero(last)
    starts = np.concatenate([[0], ends[:-1] + 1])
    lengths = ends - starts + 1
    if not last[-1] or lengths.max() > 10:
        raise DataError("a number of an Int64List does not end")
    shifts = 7 * (np.arange(len(digits)) - np.repeat(starts, lengths))
    parts = (digits & 127).astype(np.uint64) << shifts.astype(np.uint64)
    return np.bitwise_or.reduceat(parts, starts).view(np.int64)


def integer_boundaries(data: bytes, width: int) -> NDArray[np.int64]:
    """`[T + 1]`: where each run of `width` packed varints begins and ends."""
    return np.concatenate([[0], np.flatnonzero(np.frombuffer(data, np.uint8) < 128)[width - 1 :: width] + 1])
