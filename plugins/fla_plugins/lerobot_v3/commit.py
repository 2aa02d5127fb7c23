"""Files that appear whole or not at all, whatever kills the process or the machine."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

SUFFIX = ".tmp"
"""Of unfinished files. LeRobot reads every `*.parquet` that it finds, so the suffix must come last."""


def unfinished(path: Path) -> Path:
    """Where `path` is written before it is finished."""
    return path.with_name(path.name + SUFFIX)


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yields a temporary path to write; it becomes `path` in one step when the block ends without an error."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = unfinished(path)
    try:
        yield temporary
        publish(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def publish(temporary: Path, path: Path) -> None:
    """Rename a finished file into place once its bytes are on the disk, and make the rename itself last."""
    _sync(temporary, os.O_RDWR)
    os.replace(temporary, path)
    if os.name == "posix":  # Windows cannot open folders, and its renames need no second flush
        _sync(path.parent, os.O_RDONLY)


def write_text(path: Path, text: str) -> None:
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def _sync(path: Path, flags: int) -> None:
    descriptor = os.open(path, flags)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
