"""One file of the frame cache: encoded frames one after the other, and where each of them is.

    frames       nothing at all for a frame that could not be had
    index        n + 1 offsets, frame i lies between offsets i and i + 1; n checksums of frames (CRC-32C)
    tail         "FLAF", n, CRC-32C of the index

All numbers are little-endian and have 4 bytes. A shard is written beside its place and renamed into it, so that one by
its own name is complete, unless the disk has lost some of it: then a checksum is wrong.
"""

import struct
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import attrs
import numpy as np
from numpy.typing import NDArray

from fla_sdk.errors import DataError

_TAIL = struct.Struct("<4sII")
_MAGIC = b"FLAF"


def write_shard(path: Path, frames: Iterable[bytes | None]) -> None:
    """Write encoded frames as they come; None for one that cannot be had."""
    offsets, checksums = [0], list[int]()
    scratch = path.with_name(f"{path.name}.part")
    with scratch.open("wb") as file:
        for frame in frames:
            encoded = b"" if frame is None else frame
            offsets.append(offsets[-1] + file.write(encoded))
            checksums.append(_crc32c(encoded))
        index = np.array(offsets + checksums, "<u4").tobytes()
        file.write(index)
        file.write(_TAIL.pack(_MAGIC, len(checksums), _crc32c(index)))
    scratch.replace(path)


@attrs.frozen(kw_only=True, eq=False)
class Shard:
    """A complete shard and where its frames are."""

    path: Path
    offsets: NDArray[np.uint32]
    checksums: NDArray[np.uint32]

    def read(self, number: int) -> bytes | None:
        """An encoded frame; None when it could not be had. Raises `DataError` when it is damaged."""
        start, end = int(self.offsets[number]), int(self.offsets[number + 1])
        if start == end:
            return None
        # Opened for every frame: a large dataset has more shards than a process may have open files.
        frame = _read(self.path, start, end - start)
        if _crc32c(frame) != self.checksums[number]:
            raise DataError(f"{self.path} is damaged: frame {number} of {len(self.checksums)} has another checksum")
        return frame


def open_shard(path: Path, *, frames: int) -> Shard | None:
    """The shard at `path`; None when there is none. Raises `DataError` when it is not one of `frames` frames."""
    try:
        size = path.stat().st_size
        length = 4 * (2 * frames + 1)
        end = _read(path, size - length - _TAIL.size, length + _TAIL.size)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise DataError(f"{path} is damaged: {error}") from error
    index = end[:length]
    if end[length:] != _TAIL.pack(_MAGIC, frames, _crc32c(index)):
        raise DataError(f"{path} is damaged: it does not end as a shard of {frames} frames does")
    numbers = np.frombuffer(index, "<u4")
    return Shard(path=path, offsets=numbers[: frames + 1], checksums=numbers[frames + 1 :])


def _read(path: Path, start: int, length: int) -> bytes:
    with path.open("rb", buffering=0) as file:
        file.seek(start)
        return file.read(length)


def _crc32c(content: bytes) -> int:
    import google_crc32c

    library: Any = google_crc32c
    return library.value(content)
