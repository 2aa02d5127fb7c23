"""Where the SDK keeps what it fetched or made, and whether there is room for more."""

import os
import shutil
from pathlib import Path

from fla_sdk.errors import FlaError


def data_home() -> Path:
    """`$FLA_DATA_HOME`, `$OPENPI_DATA_HOME`, or `~/.cache/openpi`."""
    home = os.environ.get("FLA_DATA_HOME") or os.environ.get("OPENPI_DATA_HOME") or "~/.cache/openpi"
    return Path(home).expanduser()


def refuse_without_space(
    needed: int, place: Path, *, what: str, error: type[FlaError], setting: str = "FLA_DATA_HOME"
) -> None:
    """Raise `error` when the disk of `place` has less than `needed` bytes for `what`; `setting` is the way out."""
    existing = next(folder for folder in (place, *place.absolute().parents) if folder.is_dir())
    free = shutil.disk_usage(existing).free
    if needed > free:
        raise error(
            f"{what} takes {needed / 1e9:.2f} GB, {existing} has {free / 1e9:.2f} GB free; make room, or set "
            f"{setting} to a folder on a larger disk"
        )
