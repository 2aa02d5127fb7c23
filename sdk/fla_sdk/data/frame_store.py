"""`FrameStore`: the encoded frames of one camera on disk, in shards of equally many rows."""

import shutil
import threading
import warnings
from collections.abc import Iterable
from pathlib import Path

from fla_sdk.data.frame_shard import Shard, open_shard, write_shard
from fla_sdk.errors import DataError

SHARD_BYTES = 64 << 20
"""Of a typical shard. Whoever is interrupted loses at most one per thread."""

SHARDS = 64
"""A small dataset has about so many, so that there is work for every thread."""


class FrameStore:
    """`rows` frames below `folder`; which of them are there follows from the files alone. Safe to share by threads."""

    def __init__(self, folder: Path, *, rows: int, typical_bytes: int) -> None:
        """`typical_bytes` of a frame and `rows` decide which rows share a shard."""
        self.folder, self.rows = folder, rows
        self._per_shard = max(1, min(SHARD_BYTES // typical_bytes, max(64, -(-rows // SHARDS))))
        self._shards: dict[int, Shard] = {}
        self._lock = threading.Lock()

    def shards(self, first: int, end: int) -> range:
        """Numbers of the shards that hold the rows from `first` up to `end`."""
        return range(first // self._per_shard, -(-end // self._per_shard))

    def rows_of(self, shard: int) -> range:
        return range(shard * self._per_shard, min((shard + 1) * self._per_shard, self.rows))

    def holds(self, shard: int) -> bool:
        """Whether a shard is there, and its index sound."""
        try:
            return open_shard(self._path(shard), frames=len(self.rows_of(shard))) is not None
        except DataError:
            return False

    def damage(self, shard: int) -> str | None:
        """What is wrong with a shard, after reading all of it; None when it is sound or not there."""
        try:
            if (found := open_shard(self._path(shard), frames=len(self.rows_of(shard)))) is not None:
                for number in range(len(self.rows_of(shard))):
                    found.read(number)
        except (DataError, OSError) as error:
            return str(error)
        return None

    def write(self, shard: int, frames: Iterable[bytes | None]) -> None:
        """Make a shard of the encoded frames of `rows_of(shard)`; None for a frame that cannot be had."""
        self.folder.mkdir(parents=True, exist_ok=True)
        write_shard(self._path(shard), frames)
        with self._lock:
            self._shards.pop(shard, None)

    def read(self, row: int) -> bytes | None:
        """An encoded frame; None when it is not there, or damaged (which is said once)."""
        shard, number = divmod(row, self._per_shard)
        try:
            found = self._open(shard)
            return None if found is None else found.read(number)
        except (DataError, OSError) as error:
            warnings.warn(
                f"frame cache: {error}; its frames are decoded again until `fla data cache --verify` has mended it",
                stacklevel=2,
            )
            return None

    def nbytes(self) -> int:
        """Taken on disk."""
        return sum(file.stat().st_size for file in self.folder.glob("*")) if self.folder.is_dir() else 0

    def tidy(self) -> None:
        """Delete what an interrupted process left. Only while no other one writes."""
        for scratch in self.folder.glob("*.part"):
            scratch.unlink()

    def delete(self, shard: int) -> None:
        self._path(shard).unlink(missing_ok=True)
        with self._lock:
            self._shards.pop(shard, None)

    def clear(self) -> None:
        """Delete the folder."""
        shutil.rmtree(self.folder, ignore_errors=True)
        with self._lock:
            self._shards.clear()

    def _path(self, shard: int) -> Path:
        return self.folder / f"shard-{shard:05d}"

    def _open(self, shard: int) -> Shard | None:
        if (known := self._shards.get(shard)) is not None:
            return known
        found = open_shard(self._path(shard), frames=len(self.rows_of(shard)))
        if found is not None:
            with self._lock:
                self._shards[shard] = found
        return found
