"""`NumpyRecording`: an `.npz` file, or a folder of `.npy` files, as an episode. A key is the name of an array in it.

Nothing is unpickled: an array of Python objects is refused.
"""

import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO, cast

import attrs
import numpy as np
from numpy.typing import NDArray

from fla_plugins.lerobot.cache import BoundedCache
from fla_plugins.recordings.recording import Recording, Stream, as_text, missing
from fla_sdk.errors import DataError

KEPT_BYTES = 1 << 30
"""Of arrays kept in memory: an `.npz` gives whole arrays only."""


@attrs.frozen
class NumpyRecording:
    """Arrays `[T, ...]` by name; those without a time axis, such as a text, count as no rows."""

    arrays: "BoundedCache[tuple[Path, str], NDArray[Any]]"
    path: Path

    @property
    def where(self) -> str:
        return str(self.path)

    def streams(self) -> dict[str, Stream]:
        return {name: self.stream(name) for name in self._names()}

    def stream(self, key: str) -> Stream:
        with self._member(key) as file:
            shape, _, dtype = self._header(file, key)
        rows, *rest = shape or (0,)
        return Stream(rows=rows, shape=tuple(rest), dtype=dtype)

    def read(self, key: str) -> NDArray[Any]:
        try:
            if self.path.is_dir():
                return np.load(self._file(key), mmap_mode="r", allow_pickle=False)
            with self._member(key) as file:
                return np.lib.format.read_array(file, allow_pickle=False)
        except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
            raise self._damaged(error, key) from error

    def picture(self, key: str, row: int) -> NDArray[Any]:
        return np.asarray(self.arrays.get((self.path, key), lambda: self.read(key))[row])

    def text(self, key: str) -> str:
        if (value := as_text(self.read(key))) is None:
            raise DataError(f"{self.path}: {key!r} holds no text")
        return value

    def files(self, key: str) -> Sequence[Path]:
        return [self._file(key) if self.path.is_dir() else self.path]

    def _names(self) -> list[str]:
        if self.path.is_dir():
            files = self.path.rglob("*.npy")
            return sorted(file.relative_to(self.path).with_suffix("").as_posix() for file in files)
        try:
            with zipfile.ZipFile(self.path) as archive:
                return [name.removesuffix(".npy") for name in archive.namelist()]
        except (OSError, zipfile.BadZipFile) as error:
            raise self._damaged(error) from error

    def _file(self, key: str) -> Path:
        return self.path / f"{key}.npy"

    def _member(self, key: str) -> BinaryIO:
        try:
            if self.path.is_dir():
                return self._file(key).open("rb")
            # The member stays readable after the archive object is gone: it holds the open file.
            return cast("BinaryIO", zipfile.ZipFile(self.path).open(f"{key}.npy"))
        except (KeyError, FileNotFoundError) as error:
            raise missing(self.where, key, self._names()) from error
        except (OSError, zipfile.BadZipFile) as error:
            raise self._damaged(error, key) from error

    def _header(self, file: BinaryIO, key: str) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
        try:
            version = np.lib.format.read_magic(file)
            read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
            header = read(file)
        except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
            raise self._damaged(error, key) from error
        if header[2].hasobject:
            raise DataError(
                f"{self.path}: {key!r} holds Python objects, which are not read because unpickling runs code; save"
                " each array under a name of its own: np.savez(path, **{'obs/joint_pos': ..., 'actions': ...})"
            )
        return header

    def _damaged(self, error: Exception, key: str | None = None) -> DataError:
        place = f"{self.path}, {key!r}" if key else str(self.path)
        return DataError(f"{place} cannot be read as NumPy data: {error}; copy or record it again")


def recordings(paths: Sequence[Path]) -> Iterator[Recording]:
    """One per file or folder."""
    arrays: BoundedCache[tuple[Path, str], NDArray[Any]] = BoundedCache(KEPT_BYTES, weight=lambda array: array.nbytes)
    for path in paths:
        yield NumpyRecording(arrays, path)
