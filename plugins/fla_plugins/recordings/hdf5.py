"""`Hdf5Recording`: an HDF5 file, or a group of one, as an episode. A key is the path of a dataset in it."""

import fnmatch
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import attrs
import h5py
import numpy as np
from numpy.typing import NDArray

from fla_plugins.lerobot.cache import BoundedCache
from fla_plugins.recordings.recording import Recording, Stream, as_text, missing, natural
from fla_sdk.errors import DataError

OPEN_FILES = 64
"""Kept open at once; most systems allow a process 256 or more."""


class Hdf5Files:
    """Files that stay open between reads, shared by their recordings. h5py itself lets one thread in at a time."""

    def __init__(self) -> None:
        self._open: BoundedCache[Path, h5py.File] = BoundedCache(OPEN_FILES)

    def open(self, path: Path) -> h5py.File:
        """Closed when nobody holds it any more."""
        return self._open.get(path, lambda: open_file(path))


def open_file(path: Path) -> h5py.File:
    """Raises `DataError` when it is missing or damaged."""
    try:
        return h5py.File(path, "r", locking="best-effort")
    except OSError as error:
        size = path.stat().st_size if path.exists() else 0
        raise DataError(f"{path} ({size} bytes) cannot be read as HDF5: {error}; copy or record it again") from error


@attrs.frozen
class Hdf5Recording:
    """The datasets below `group`. Text is also looked for among attributes, of the group and of those around it."""

    opened: Hdf5Files
    path: Path
    group: str = "/"

    @property
    def where(self) -> str:
        return f"{self.path}, {self.group}" if self.group != "/" else str(self.path)

    def streams(self) -> dict[str, Stream]:
        file = self.opened.open(self.path)
        found: dict[str, Stream] = {}

        def visit(name: str, node: Any) -> None:
            if isinstance(node, h5py.Dataset):
                found[name] = _stream(node)

        try:
            _group(file, self.group, self.where).visititems(visit)
        except (OSError, RuntimeError) as error:
            raise self._damaged(error) from error
        return found

    def stream(self, key: str) -> Stream:
        file = self.opened.open(self.path)
        return _stream(self._dataset(file, key))

    def read(self, key: str) -> NDArray[Any]:
        file = self.opened.open(self.path)
        dataset = self._dataset(file, key)
        try:
            return np.asarray(dataset[()])
        except (OSError, RuntimeError) as error:
            raise self._damaged(error, key) from error

    def picture(self, key: str, row: int) -> NDArray[Any] | bytes:
        file = self.opened.open(self.path)
        dataset = self._dataset(file, key)
        try:
            value = dataset[row]
        except (OSError, RuntimeError) as error:
            raise self._damaged(error, f"{key!r}, row {row}") from error
        array = np.asarray(value)
        # Encoded: bytes of fixed or variable length, or as opaque values.
        return array.tobytes() if array.dtype.kind in "SV" or (array.dtype == np.uint8 and array.ndim == 1) else array

    def text(self, key: str) -> str:
        file = self.opened.open(self.path)
        node = _group(file, self.group, self.where)
        if isinstance(dataset := node.get(key), h5py.Dataset):
            value = as_text(dataset[()])
        else:
            holder: Any = node
            while key not in holder.attrs and holder.name != "/":
                holder = holder.parent
            if key not in holder.attrs:
                raise missing(self.where, key, [*self.streams(), *node.attrs, *file.attrs])
            value = as_text(holder.attrs[key])
        if value is None:
            raise DataError(f"{self.where}: {key!r} holds no text")
        return value

    def files(self, key: str) -> Sequence[Path]:
        return [self.path]

    def _dataset(self, file: h5py.File, key: str) -> h5py.Dataset:
        try:
            node = _group(file, self.group, self.where).get(key)
        except (OSError, RuntimeError) as error:
            raise self._damaged(error, key) from error
        if not isinstance(node, h5py.Dataset):
            raise missing(self.where, key, self.streams())
        return node

    def _damaged(self, error: Exception, what: str | None = None) -> DataError:
        place = f"{self.where}, {what}" if what else self.where
        return DataError(f"{place} is damaged: {error}; copy or record it again")


def _group(file: h5py.File, name: str, where: str) -> h5py.Group:
    node = file.get(name)
    if not isinstance(node, h5py.Group):
        raise missing(where, name, groups(file))
    return node


def _stream(dataset: h5py.Dataset) -> Stream:
    rows, *shape = dataset.shape or (0,)
    return Stream(rows=rows, shape=tuple(shape), dtype=dataset.dtype)


def groups(file: h5py.File) -> list[str]:
    """Paths of all groups, in natural order."""
    found: list[str] = []
    file.visititems(lambda name, node: found.append(name) if isinstance(node, h5py.Group) else None)
    return sorted(found, key=natural)


def recordings(paths: Sequence[Path], episodes: str | None) -> Iterator[Recording]:
    """One per file, or per group of it that matches `episodes`; a file that cannot be read is one damaged episode."""
    files = Hdf5Files()
    for path in paths:
        if episodes is None:
            yield Hdf5Recording(files, path)
            continue
        try:
            found = _matching(files.open(path), episodes)
        except DataError:
            yield Hdf5Recording(files, path)
            continue
        if not found:
            raise missing(str(path), episodes, groups(files.open(path)))
        yield from (Hdf5Recording(files, path, group) for group in found)


def _matching(file: h5py.File, pattern: str) -> list[str]:
    parent, _, wanted = pattern.strip("/").rpartition("/")
    holder = file.get(parent or "/")
    if not isinstance(holder, h5py.Group):
        return []
    # `getclass` reads no more than the kind of each member; a file may have thousands.
    members = [
        name
        for name in map(str, holder)
        if fnmatch.fnmatchcase(name, wanted) and holder.get(name, getclass=True) is h5py.Group
    ]
    return [f"{parent}/{member}" if parent else member for member in sorted(members, key=natural)]
