"""Where the SDK keeps what it fetched or made: is there room for more, and does another process write there?"""

import os
import shutil
import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from fla_sdk.errors import FlaError

LOCK_LIMIT_S = 6 * 3600.0
"""How long to wait for another process that makes the same thing."""


def data_home() -> Path:
    """`$FLA_DATA_HOME`, `$OPENPI_DATA_HOME`, or `~/.cache/openpi`."""
    home = os.environ.get("FLA_DATA_HOME") or os.environ.get("OPENPI_DATA_HOME") or "~/.cache/openpi"
    return Path(home).expanduser()


def free_bytes(place: Path) -> int:
    """Room on the disk that `place` is on, or would be on."""
    return shutil.disk_usage(_existing(place)).free


def refuse_without_space(
    needed: int, place: Path, *, what: str, error: type[FlaError], setting: str = "FLA_DATA_HOME"
) -> None:
    """Raise `error` when the disk of `place` has less than `needed` bytes for `what`; `setting` is the way out."""
    if needed > (free := free_bytes(place)):
        raise error(
            f"{what} takes {needed / 1e9:.2f} GB, {_existing(place)} has {free / 1e9:.2f} GB free; make room, or set "
            f"{setting} to a folder on a larger disk"
        )


def _existing(place: Path) -> Path:
    return next(folder for folder in (place, *place.absolute().parents) if folder.is_dir())


@contextmanager
def locked(target: Path, *, what: str, error: type[FlaError]) -> Generator[None]:
    """One process at a time does `what` at `target`; a second one says so and waits. The lock ends with its process.

    Raises `error` after `LOCK_LIMIT_S`.
    """
    from filelock import FileLock, Timeout

    lock = FileLock(target.with_name(f"{target.name}.lock"))
    try:
        lock.acquire(timeout=0)
    except Timeout:
        print(f"another process is {what}; waiting for it", file=sys.stderr)
        try:
            lock.acquire(timeout=LOCK_LIMIT_S)
        except Timeout as late:
            raise error(f"another process holds {lock.lock_file} for more than {LOCK_LIMIT_S:g} s") from late
    try:
        yield
    finally:
        lock.release()
