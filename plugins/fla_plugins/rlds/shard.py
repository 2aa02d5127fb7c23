"""TFRecord files: where their records lie, and whether they are as they were written.

A record is its length (8 bytes, little endian), the masked CRC-32C of those bytes, the data, and the masked CRC-32C of
the data (tensorflow/core/lib/io/record_writer.h).
"""

import os
import struct
from collections.abc import Iterator
from pathlib import Path

import attrs

from fla_sdk.errors import DataError

_HEADER, _FOOTER = 12, 4


@attrs.frozen(kw_only=True)
class Record:
    """Where the data of one record lies in its file, and the masked CRC that it should have."""

    start: int
    size: int
    crc: int


class Shard:
    """An open TFRecord file that any thread may read from; closed when nothing refers to it any more."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._descriptor = os.open(path, os.O_RDONLY)
        except OSError as error:
            raise DataError(f"{path} cannot be read: {error.strerror}; copy or download it again") from error
        self.size = os.fstat(self._descriptor).st_size

    def __del__(self) -> None:
        if hasattr(self, "_descriptor"):
            os.close(self._descriptor)

    def read(self, start: int, size: int) -> bytes:
        """Exactly these bytes. Raises `DataError` where the file ends before."""
        data = self.some(start, size)
        if len(data) < size:
            raise DataError(f"{self.path} ends at byte {self.size}, in the middle of what it holds; copy it again")
        return data

    def some(self, start: int, size: int) -> bytes:
        """These bytes, or fewer at the end of the file."""
        try:
            return os.pread(self._descriptor, size, start)
        except OSError as error:
            raise DataError(f"{self.path} cannot be read at byte {start}: {error.strerror}") from error

    def records(self) -> Iterator[Record]:
        """Found by their lengths alone: the data is not read. Raises `DataError` where no further one can be found."""
        at = number = 0
        while at < self.size:
            header = self.some(at, _HEADER)
            if len(header) < _HEADER:
                raise DataError(f"{self.path} is cut off in record {number}; copy or download it again")
            size, crc = struct.unpack("<QI", header)
            if masked_crc(header[:8]) != crc:
                raise DataError(
                    f"{self.path}: the length of record {number} fails its checksum, so neither it nor what follows "
                    "can be found; copy or download the file again"
                )
            start = at + _HEADER
            at = start + size + _FOOTER
            if at > self.size:
                raise DataError(
                    f"{self.path} is cut off in record {number}: it has {self.size} bytes and should have {at} or "
                    "more; copy or download it again"
                )
            (crc,) = struct.unpack("<I", self.read(start + size, _FOOTER))
            yield Record(start=start, size=size, crc=crc)
            number += 1

    def is_intact(self, record: Record) -> bool:
        """Whether the data, which is read for this, has its checksum."""
        return masked_crc(self.read(record.start, record.size)) == record.crc


def masked_crc(data: bytes) -> int:
    """The CRC-32C of `data`, rotated and shifted as TFRecord stores it."""
    import google_crc32c

    crc = google_crc32c.value(data)
    return (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF
