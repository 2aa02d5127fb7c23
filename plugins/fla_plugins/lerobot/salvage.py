"""A Parquet file whose writer was killed has no footer, but its row groups are there: write the footer for them.

The pages of a row group lie one after the other, each behind a header that says how long it is and how many values it
holds. Everything else that a footer says follows from the columns, so it is taken from a small file of the same ones.
Sources: the Apache Parquet format specification (`parquet.thrift`) and Thrift's compact protocol.
"""

import io
import math
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import attrs
import pyarrow as pa
import pyarrow.parquet as pq

from fla_plugins.lerobot.layout import BOOKKEEPING
from fla_plugins.lerobot.schema import data_schema
from fla_sdk.data.dataset import Feature

MAGIC = b"PAR1"
HEADER_BYTES = 1 << 16
"""More than the header of a page takes; those with statistics hold the smallest and the largest value."""

# Field numbers of `parquet.thrift`.
PAGE_TYPE, PAGE_BYTES, PAGE_COMPRESSED, PAGE_DATA, PAGE_DATA_V2 = 1, 2, 3, 5, 8
DATA, DICTIONARY, DATA_V2 = 0, 2, 3
FILE_ROWS, FILE_GROUPS = 3, 4
GROUP_COLUMNS, GROUP_BYTES, GROUP_ROWS, GROUP_OFFSET, GROUP_COMPRESSED, GROUP_ORDINAL = 1, 2, 3, 5, 6, 7
CHUNK_OFFSET, CHUNK_META = 2, 3
META_VALUES, META_BYTES, META_COMPRESSED, META_DATA, META_DICTIONARY = 5, 6, 7, 9, 11
META_UNKNOWN = (8, 12, 13, 14, 15, 16)
"""Of key-values, statistics and indexes of a column chunk: of the small file, not of the one to mend."""


def salvage(path: Path, features: Mapping[str, Feature], out: Path) -> int:
    """Write the whole row groups of `path`, which has no footer, as a readable file; returns how many rows they have.

    `features` are the robot's own columns, in their order. Nothing is written when there is no whole row group.
    """
    model = _model(features)
    widths = _widths(features)
    groups: list[Any] = []
    rows = 0
    with path.open("rb") as file:
        if file.read(4) != MAGIC:
            return 0
        position = 4
        while (found := _read_group(file, position, widths)) is not None:
            count, chunks, end = found
            groups.append(model.group(count, chunks, position, len(groups)))
            rows, position = rows + count, end
        if not groups:
            return 0
        file.seek(0)
        footer = model.footer(rows, groups)
        with out.open("wb") as mended:
            _copy(file, mended, position)
            mended.write(footer + struct.pack("<I", len(footer)) + MAGIC)
    return rows


def _copy(source: BinaryIO, target: BinaryIO, size: int) -> None:
    while size > 0:
        piece = source.read(min(size, 1 << 20))
        target.write(piece)
        size -= len(piece)


# --- Pages ------------------------------------------------------------------------------------------------------------


@attrs.frozen
class _Page:
    kind: int
    values: int
    header: int
    """Bytes of the header."""
    compressed: int
    uncompressed: int

    @property
    def size(self) -> int:
        return self.header + self.compressed


@attrs.frozen
class _Chunk:
    """A column of a row group: where its pages begin, and how long they are."""

    dictionary: int | None
    data: int
    values: int
    compressed: int
    uncompressed: int


def _read_page(file: BinaryIO, position: int, end: int) -> _Page | None:
    file.seek(position)
    head = io.BytesIO(file.read(HEADER_BYTES))
    try:
        fields = _read_struct(head)
        kind = fields[PAGE_TYPE][1]
        about = fields.get({DATA: PAGE_DATA, DATA_V2: PAGE_DATA_V2}.get(kind, -1))
        page = _Page(
            kind=kind,
            values=about[1][1][1] if about else 0,
            header=head.tell(),
            compressed=fields[PAGE_COMPRESSED][1],
            uncompressed=fields[PAGE_BYTES][1],
        )
    except (KeyError, IndexError, TypeError, ValueError, struct.error):
        return None
    whole = position + page.size <= end and page.compressed >= 0 and page.values >= 0
    return page if whole and kind in (DATA, DICTIONARY, DATA_V2) else None


def _read_group(file: BinaryIO, position: int, widths: Sequence[int]) -> tuple[int, list[_Chunk], int] | None:
    """Rows, column chunks and end of the row group at `position`; None when it is cut short.

    How many rows it has is not written down. The first column says: it ends after one of its pages, and only the right
    number makes all other columns come out even.
    """
    end = file.seek(0, 2)
    at, values = position, 0
    while (page := _read_page(file, at, end)) is not None:
        at, values = at + page.size, values + page.values
        if values == 0 or values % widths[0]:
            continue
        rows = values // widths[0]
        if (found := _read_chunks(file, position, end, widths, rows)) is not None:
            return rows, *found
    return None


def _read_chunks(
    file: BinaryIO, position: int, end: int, widths: Sequence[int], rows: int
) -> tuple[list[_Chunk], int] | None:
    chunks: list[_Chunk] = []
    for width in widths:
        begin, dictionary, data, values, uncompressed = position, None, None, 0, 0
        while values < rows * width:
            page = _read_page(file, position, end)
            if page is None or (page.kind == DICTIONARY and position != begin):
                return None
            if page.kind == DICTIONARY:
                dictionary = position
            elif data is None:
                data = position
            values, uncompressed = values + page.values, uncompressed + page.header + page.uncompressed
            position += page.size
        if values != rows * width or data is None:
            return None
        chunks.append(_Chunk(dictionary, data, values, position - begin, uncompressed))
    return chunks, position


# --- Footer -----------------------------------------------------------------------------------------------------------


@attrs.frozen
class _Model:
    """The footer of a small file with the same columns."""

    fields: dict[int, Any]

    def group(self, rows: int, chunks: list[_Chunk], offset: int, number: int) -> Any:
        group = dict(self.fields[FILE_GROUPS][1][1][0])
        columns = group[GROUP_COLUMNS][1][1]
        mended = [_column(column, chunk) for column, chunk in zip(columns, chunks, strict=True)]
        group[GROUP_COLUMNS] = (LIST, (STRUCT, mended))
        group[GROUP_BYTES] = (I64, sum(chunk.uncompressed for chunk in chunks))
        group[GROUP_COMPRESSED] = (I64, sum(chunk.compressed for chunk in chunks))
        group[GROUP_ROWS], group[GROUP_OFFSET] = (I64, rows), (I64, offset)
        group[GROUP_ORDINAL] = (I16, number)
        return group

    def footer(self, rows: int, groups: list[Any]) -> bytes:
        fields = self.fields | {FILE_ROWS: (I64, rows), FILE_GROUPS: (LIST, (STRUCT, groups))}
        out = io.BytesIO()
        _write_struct(out, fields)
        return out.getvalue()


def _column(column: dict[int, Any], chunk: _Chunk) -> dict[int, Any]:
    meta = {name: value for name, value in column[CHUNK_META][1].items() if name not in META_UNKNOWN}
    meta[META_VALUES], meta[META_DATA] = (I64, chunk.values), (I64, chunk.data)
    meta[META_BYTES], meta[META_COMPRESSED] = (I64, chunk.uncompressed), (I64, chunk.compressed)
    meta.pop(META_DICTIONARY, None)
    if chunk.dictionary is not None:
        meta[META_DICTIONARY] = (I64, chunk.dictionary)
    begin = chunk.data if chunk.dictionary is None else chunk.dictionary
    return {CHUNK_OFFSET: (I64, begin), CHUNK_META: (STRUCT, dict(sorted(meta.items())))}


def _model(features: Mapping[str, Feature]) -> _Model:
    schema = data_schema(features)
    sink = io.BytesIO()
    table = pa.table({field.name: pa.nulls(1, field.type) for field in schema}, schema=schema)
    pq.write_table(table, sink, compression="snappy", use_dictionary=True)
    data = sink.getvalue()
    (size,) = struct.unpack("<I", data[-8:-4])
    return _Model(_read_struct(io.BytesIO(data[-8 - size : -8])))


def _widths(features: Mapping[str, Feature]) -> list[int]:
    """Values per row of each column on disk; an image is one of bytes and one of a name."""
    widths: list[int] = []
    for feature in features.values():
        if feature.dtype != "video":
            widths += [1, 1] if feature.is_camera else [math.prod(feature.shape)]
    return widths + [1] * len(BOOKKEEPING)


# --- Thrift's compact protocol ----------------------------------------------------------------------------------------

TRUE, FALSE, BYTE, I16, I32, I64, DOUBLE, BINARY, LIST, SET, MAP, STRUCT = range(1, 13)


def _read_struct(data: BinaryIO) -> dict[int, Any]:
    """Field number -> (type, value). Lists are (element type, values)."""
    fields: dict[int, Any] = {}
    number = 0
    while (head := _byte(data)) != 0:
        kind = head & 15
        number = number + (head >> 4) if head >> 4 else _signed(data)
        fields[number] = (kind, kind == TRUE if kind in (TRUE, FALSE) else _read(data, kind))
    return fields


def _read(data: BinaryIO, kind: int) -> Any:
    if kind in (TRUE, FALSE, BYTE):
        return _byte(data)
    if kind in (I16, I32, I64):
        return _signed(data)
    if kind == DOUBLE:
        return data.read(8)
    if kind == BINARY:
        return data.read(_unsigned(data))
    if kind in (LIST, SET):
        head = _byte(data)
        size = head >> 4 if head >> 4 < 15 else _unsigned(data)
        return head & 15, [_read(data, head & 15) for _ in range(size)]
    if kind == STRUCT:
        return _read_struct(data)
    raise ValueError(f"type {kind} of Thrift is not used in Parquet's headers")


def _write_struct(out: BinaryIO, fields: dict[int, Any]) -> None:
    last = 0
    for number, (kind, value) in sorted(fields.items()):
        kind = (TRUE if value else FALSE) if kind in (TRUE, FALSE) else kind
        if 0 < number - last < 16:
            out.write(bytes([(number - last) << 4 | kind]))
        else:
            out.write(bytes([kind]))
            _write_signed(out, number)
        if kind not in (TRUE, FALSE):
            _write(out, kind, value)
        last = number
    out.write(b"\0")


def _write(out: BinaryIO, kind: int, value: Any) -> None:
    if kind in (TRUE, FALSE, BYTE):
        out.write(bytes([value]))
    elif kind in (I16, I32, I64):
        _write_signed(out, value)
    elif kind == DOUBLE:
        out.write(value)
    elif kind == BINARY:
        _write_unsigned(out, len(value))
        out.write(value)
    elif kind == STRUCT:
        _write_struct(out, value)
    else:
        inside, values = value
        out.write(bytes([min(len(values), 15) << 4 | inside]))
        if len(values) >= 15:
            _write_unsigned(out, len(values))
        for one in values:
            _write(out, inside, one)


def _byte(data: BinaryIO) -> int:
    return data.read(1)[0]


def _unsigned(data: BinaryIO) -> int:
    value = shift = 0
    while True:
        byte = _byte(data)
        value |= (byte & 127) << shift
        if byte < 128:
            return value
        shift += 7


def _signed(data: BinaryIO) -> int:
    value = _unsigned(data)
    return value >> 1 ^ -(value & 1)


def _write_unsigned(out: BinaryIO, value: int) -> None:
    while value > 127:
        out.write(bytes([value & 127 | 128]))
        value >>= 7
    out.write(bytes([value]))


def _write_signed(out: BinaryIO, value: int) -> None:
    _write_unsigned(out, value << 1 if value >= 0 else (-value << 1) - 1)
