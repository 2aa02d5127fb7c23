"""`Commits`: files that appear whole or not at all, and the order in which a crash may find them."""

import contextlib
import os
import time
from collections.abc import Iterator
from pathlib import Path

SUFFIX = ".tmp"
"""Of unfinished files. LeRobot reads every `*.parquet` that it finds, so the suffix must come last."""

SYNC_EVERY = 1.0
"""Seconds. Flushing to the disk costs milliseconds per file: nothing for a robot, most of the time for a simulator."""


def unfinished(path: Path) -> Path:
    """Where `path` is written before it is finished."""
    return path.with_name(path.name + SUFFIX)


class Commits:
    """Publishes finished files by renaming, which a killed process cannot leave half done.

    Against power cuts, `sync` flushes what was published to the disk. Called before the file that makes the others
    count, at most once in `SYNC_EVERY` seconds, it leaves a power cut only what was recorded since.
    """

    def __init__(self) -> None:
        self._pending: set[Path] = set()
        self._synced = -float("inf")

    @contextlib.contextmanager
    def replacing(self, path: Path) -> Iterator[Path]:
        """Yields a temporary path to write; it becomes `path` in one step when the block ends without an error."""
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = unfinished(path)
        try:
            yield temporary
            self.publish(temporary, path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise

    def publish(self, temporary: Path, path: Path) -> None:
        """Rename a finished file into place."""
        os.replace(temporary, path)
        self.flush_later(path)

    def flush_later(self, path: Path) -> None:
        """Have the next `sync` flush a file that was written elsewhere."""
        self._pending.add(path)

    def write_text(self, path: Path, text: str) -> None:
        with self.replacing(path) as temporary:
            temporary.write_text(text, encoding="utf-8")

    def sync(self, *, at_once: bool = False) -> None:
        """Flush what was published to the disk, unless that was done a moment ago and is not asked for `at_once`."""
        if not at_once and time.monotonic() - self._synced < SYNC_EVERY:
            return
        for path in self._pending:
            _flush(path, os.O_RDWR)
        if os.name == "posix":  # Windows cannot open folders, and its renames need no flush
            for folder in {path.parent for path in self._pending}:
                _flush(folder, os.O_RDONLY)
        self._pending.clear()
        self._synced = time.monotonic()


def _flush(path: Path, flags: int) -> None:
    descriptor = os.open(path, flags)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
