"""One file of the frame cache: encoded frames one after the other, each with its checksum.

    frames       each a CRC-32C (4 bytes) and the encoded frame; nothing at all for a frame that could not be had
    index        n + 1 offsets (4 bytes each): frame i lies between offsets i and i + 1
    tail         "FLAF", n, CRC-32C of the index (4 bytes each)

All numbers are little-endian. A shard is written beside its place and renamed into it, so that one by its own name is
complete, unless the disk has lost some of it: then a checksum is wrong.
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
_CRC = struct.Struct("<I")
_MAGIC = b"FLAF"


def write_shard(path: Path, frames: Iterable[bytes | None]) -> None:
    """Write encoded frames as they come; None for one that cannot be had."""
    offsets = [0]
    scratch = path.with_name(f"{path.name}.part")
    with scratch.open("wb") as file:
        for frame in frames:
            written = 0 if frame is None else file.write(_CRC.pack(_crc32c(frame))) + file.write(frame)
            offsets.append(offsets[-1] + written)
        index = np.array(offsets, "<u4").tobytes()
        file.write(index)
        file.write(_TAIL.pack(_MAGIC, len(offsets) - 1, _crc32c(index)))
    scratch.replace(path)


@attrs.frozen(kw_only=True, eq=False)
class Shard:
    """A complete shard and where its frames are."""

    path: Path
    offsets: NDArray[np.uint32]

    def read(self, number: int) -> bytes | None:
        """An encoded frame; None when it could not be had. Raises `DataError` when it is damaged."""
        start, end = int(self.offsets[number]), int(self.offsets[number + 1])
        if start == end:
            return None
        # Opened for every frame: a large dataset has more shards than a process may have open files.
        content = _read(self.path, start, end - start)
        frame = content[_CRC.size :]
        if len(content) != end - start or _crc32c(frame) != _CRC.unpack_from(content)[0]:
            raise DataError(f"{self.path} is damaged: frame {number} of {len(self.offsets) - 1} has another checksum")
        return frame


def open_shard(path: Path, *, frames: int) -> Shard | None:
    """The shard at `path`; None when there is none. Raises `DataError` when it is not one of `frames` frames."""
    try:
        size = path.stat().st_size
        length = 4 * (frames + 1)
        end = _read(path, size - length - _TAIL.size, length + _TAIL.size)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise DataError(f"{path} is damaged: {error}") from error
    index = end[:length]
    if end[length:] != _TAIL.pack(_MAGIC, frames, _crc32c(index)):
        raise DataError(f"{path} is damaged: it does not end as a shard of {frames} frames does")
    return Shard(path=path, offsets=np.frombuffer(index, "<u4"))


def _read(path: Path, start: int, length: int) -> bytes:
    with path.open("rb", buffering=0) as file:
        file.seek(start)
        return file.read(length)


def _crc32c(content: bytes) -> int:
    import google_crc32c

    library: Any = google_crc32c
    return library.value(content)
