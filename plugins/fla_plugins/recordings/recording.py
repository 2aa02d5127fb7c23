"""`Recording`: one episode in somebody's files, read by key."""

import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Protocol

import attrs
import numpy as np
from numpy.typing import NDArray

from fla_sdk.errors import DataError, nearest


@attrs.frozen(kw_only=True)
class Stream:
    """What an episode has under one key: `rows` values of `shape` each."""

    rows: int
    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    @property
    def is_numeric(self) -> bool:
        return self.dtype.kind in "fiub"

    @property
    def is_pixels(self) -> bool:
        """Whether each value is a picture of pixels; otherwise it can only be an encoded one."""
        return self.dtype == np.uint8 and len(self.shape) in (2, 3)


class Recording(Protocol):
    """Methods raise `DataError` naming file and key. They may be called from any thread."""

    @property
    def where(self) -> str:
        """File, and group within it."""
        ...

    def streams(self) -> dict[str, Stream]:
        """Everything it has; what is no array over time has no rows. Raises `DataError` when it cannot be read."""
        ...

    def stream(self, key: str) -> Stream:
        """What it has under `key`, from metadata alone."""
        ...

    def read(self, key: str) -> NDArray[Any]:
        """All values, `[T, ...]`."""
        ...

    def picture(self, key: str, row: int) -> NDArray[Any] | bytes:
        """One value: pixels, or the bytes of an encoded image."""
        ...

    def text(self, key: str) -> str:
        """One text for the whole episode."""
        ...

    def files(self, key: str) -> Sequence[Path]:
        """Those that hold the values."""
        ...


def missing(where: str, key: str, known: Iterable[str]) -> DataError:
    """The error about a key that is not there: the nearest one, and all."""
    names = sorted(known)
    hint = f"; nearest is {close!r}" if (close := nearest(key, names)) else ""
    return DataError(f"{where} has no {key!r}{hint} (it has {', '.join(names) or 'nothing'})")


def natural(path: Path | str) -> list[tuple[int, str]]:
    """Sorting key by which `episode_2` comes before `episode_10`."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", str(path))]


def as_text(value: Any) -> str | None:
    """Text in the forms that files hold it in; None when it is no text."""
    if isinstance(value, np.ndarray) and value.size:
        return as_text(value.reshape(-1)[0])
    if isinstance(value, bytes):
        return value.decode("utf-8", errors="replace")
    return str(value) if isinstance(value, str) else None
