"""`ImageFolder`: a folder of picture files with a table of numbers, as an episode.

The key of a number is a column of the table, which has one row per moment. The key of a camera is a pattern of picture
files, such as `front/*.png`, taken in natural order; or a column that holds their names. Names are relative to the
folder.
"""

import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fla_plugins.recordings.recording import Recording, Stream, as_text, missing, natural
from fla_sdk.errors import DataError


class ImageFolder:
    """The table is read when it is first asked for, and kept: it is small beside the pictures."""

    def __init__(self, path: Path, table: str) -> None:
        self.path, self._table = path, path / table
        self._columns: dict[str, NDArray[Any]] | None = None
        self._pictures: dict[str, list[Path]] = {}
        self._lock = threading.Lock()

    @property
    def where(self) -> str:
        return str(self.path)

    def streams(self) -> dict[str, Stream]:
        return {name: self.stream(name) for name in self._read_table()}

    def stream(self, key: str) -> Stream:
        if _is_pattern(key):
            return Stream(rows=len(self.files(key)), shape=(), dtype=np.dtype(object))
        values = self.read(key)
        return Stream(rows=len(values), shape=(), dtype=values.dtype)

    def read(self, key: str) -> NDArray[Any]:
        columns = self._read_table()
        if key not in columns:
            raise missing(str(self._table), key, columns)
        return columns[key]

    def picture(self, key: str, row: int) -> bytes:
        path = self.files(key)[row]
        try:
            return path.read_bytes()
        except OSError as error:
            raise DataError(f"missing file {path}: {error.strerror}; copy it again") from error

    def text(self, key: str) -> str:
        if (value := as_text(self.read(key))) is None:
            raise DataError(f"{self._table}: {key!r} holds no text")
        return value

    def files(self, key: str) -> Sequence[Path]:
        with self._lock:
            known = self._pictures.get(key)
        if known is None:
            if _is_pattern(key):
                known = sorted(self.path.glob(key), key=natural)
            else:
                known = [self.path / str(name) for name in self.read(key)]
            if not known:
                raise DataError(f"{self.path} has no pictures {key!r}; correct the pattern or copy the folder again")
            with self._lock:
                self._pictures[key] = known
        return known

    def _read_table(self) -> dict[str, NDArray[Any]]:
        with self._lock:
            if self._columns is None:
                self._columns = read_table(self._table)
            return self._columns


def read_table(path: Path) -> dict[str, NDArray[Any]]:
    """The columns of a CSV file with a header, or of a Parquet file. Raises `DataError`."""
    import pyarrow as pa
    from pyarrow import csv, parquet

    if path.suffix.lower() not in (".csv", ".parquet"):
        raise DataError(f"{path}: a table is a .csv or .parquet file")
    try:
        table = csv.read_csv(path) if path.suffix.lower() == ".csv" else parquet.read_table(path)
    except FileNotFoundError as error:
        raise DataError(f"missing file {path}; the table of each folder has the name that the mapping gives") from error
    except (OSError, pa.ArrowException) as error:
        raise DataError(f"{path} cannot be read: {error}; copy or record it again") from error
    if repeated := sorted({name for name in table.column_names if table.column_names.count(name) > 1}):
        raise DataError(f"{path}: columns {', '.join(repeated)} are there twice; rename one of each")
    for name in table.column_names:
        if empty := table[name].null_count:
            raise DataError(f"{path}: column {name!r} has {empty} empty cells; fill them or remove the rows")
    return {name: table[name].to_numpy() for name in table.column_names}


def _is_pattern(key: str) -> bool:
    return any(sign in key for sign in "*?[")


def recordings(paths: Sequence[Path], table: str) -> Iterator[Recording]:
    """One per folder."""
    for path in paths:
        yield ImageFolder(path, table)
