"""Columns of numbers and texts, gathered from the records when they are first asked for and kept for the next time.

<data home>/rlds/columns/<key>/<name>.npy       numbers, or the numbers of texts
<data home>/rlds/columns/<key>/<name>.json      the texts
"""

import json
import math
import threading
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
from numpy.typing import NDArray

from fla_plugins.rlds.example import elements, integers
from fla_plugins.rlds.index import Index, scratch_of, shown
from fla_plugins.rlds.schema import Leaf, Schema
from fla_plugins.rlds.shard import Shard
from fla_sdk.errors import DataError, EpisodeError
from fla_sdk.home import refuse_without_space

_LARGE = 5000
"""Episodes from which on progress is shown."""


class Columns:
    """Of the `chosen` episodes of an index, in their order; mapped from disk. Safe to share between threads."""

    def __init__(self, index: Index, schema: Schema, chosen: NDArray[np.int64], *, folder: Path) -> None:
        self._index, self._chosen, self._folder = index, chosen, folder
        self._places = {leaf.name: place for place, leaf in enumerate(schema.leaves)}
        self._steps = index.steps[chosen]
        self._ends = np.cumsum(self._steps)
        self._loaded: dict[str, NDArray[Any]] = {}
        self._texts: dict[str, list[str]] = {}
        self._spoken: dict[str, NDArray[Any]] = {}
        self._lock = threading.Lock()

    def numbers(self, name: str, leaves: Sequence[Leaf]) -> NDArray[Any]:
        """`[N, *shape]` of one leaf, or `[N, width]` of several side by side."""
        with self._lock:
            if name not in self._loaded:
                path = self._folder / f"{quote(name, safe='')}.npy"
                if not path.exists():
                    self._gather(path, name, leaves)
                self._loaded[name] = np.load(path, mmap_mode="r")
            return self._loaded[name]

    def texts(self, leaf: Leaf) -> tuple[NDArray[np.int32], list[str]]:
        """`[N]` numbers of texts, and the texts."""
        with self._lock:
            if leaf.name not in self._texts:
                path = self._folder / f"{quote(leaf.name, safe='')}.npy"
                if not path.exists():
                    self._gather_texts(path, leaf)
                self._loaded[leaf.name] = np.load(path, mmap_mode="r")
                self._texts[leaf.name] = json.loads(path.with_suffix(".json").read_text())
            return self._loaded[leaf.name], self._texts[leaf.name]

    def spoken(self, leaf: Leaf) -> NDArray[Any]:
        """`[N, 1]` texts as objects; kept in memory, 8 bytes a row."""
        numbers, texts = self.texts(leaf)
        with self._lock:
            if leaf.name not in self._spoken:
                self._spoken[leaf.name] = np.array(texts, object)[numbers][:, None]
            return self._spoken[leaf.name]

    def of_episodes(self, leaf: Leaf) -> list[str]:
        """A text of the episodes themselves; empty where an episode has none."""
        found = [""] * len(self._chosen)
        for episode, data in self._payloads(leaf):
            found[episode] = b"".join(elements(data)).decode(errors="replace")
        return found

    def _gather(self, path: Path, name: str, leaves: Sequence[Leaf]) -> None:
        shape = leaves[0].shape if len(leaves) == 1 else (sum(leaf.width for leaf in leaves),)
        dtype = np.result_type(*(np.dtype(leaf.column_dtype) for leaf in leaves))
        with (
            _Scratch(path, (len(self), *shape), dtype) as column,
            shown(f"reading {name}", len(self._chosen) * len(leaves), large=len(self._chosen) >= _LARGE) as advance,
        ):
            flat = column.reshape(len(self), -1)
            first = 0
            for leaf in leaves:
                for episode, data in self._payloads(leaf):
                    end = int(self._ends[episode])
                    rows = flat[end - int(self._steps[episode]) : end, first : first + leaf.width]
                    values = self._decoded(leaf, data, episode)
                    if values.size != rows.size:
                        raise self._damaged(leaf, episode, f"it holds {values.size} numbers, not {rows.size}")
                    rows[:] = values.reshape(rows.shape)
                    advance(by=1)
                first += leaf.width

    def _gather_texts(self, path: Path, leaf: Leaf) -> None:
        numbers: dict[bytes, int] = {b"": 0}  # what damaged episodes say
        with (
            _Scratch(path, (len(self),), np.dtype(np.int32)) as column,
            shown(f"reading {leaf.name}", len(self._chosen), large=len(self._chosen) >= _LARGE) as advance,
        ):
            for episode, data in self._payloads(leaf):
                end, steps = int(self._ends[episode]), int(self._steps[episode])
                values = _same(data, steps) or elements(data)
                if len(values) not in (steps, 1 if steps else 0):
                    raise self._damaged(leaf, episode, f"it holds {len(values)} texts, not {steps}")
                column[end - steps : end] = [numbers.setdefault(value, len(numbers)) for value in values]
                advance(by=1)
            # Before the numbers are in place: they say that the column is complete.
            spoken = path.with_suffix(".json")
            scratch_of(spoken).write_text(json.dumps([text.decode(errors="replace") for text in numbers]))
            scratch_of(spoken).replace(spoken)

    def _payloads(self, leaf: Leaf) -> Iterator[tuple[int, bytes]]:
        """Number and bytes of `leaf` for each episode that can be read."""
        place, damaged = self._places[leaf.name], self._index.damage != ""
        shard: Shard | None = None
        for episode, source in enumerate(self._chosen.tolist()):
            if damaged[source]:
                continue
            path = self._index.path(source)
            if shard is None or shard.path != path:
                shard = Shard(path)
            region = self._index.region(source, leaf, place)
            yield episode, shard.read(region.start, region.end - region.start)

    def _decoded(self, leaf: Leaf, data: bytes, episode: int) -> NDArray[Any]:
        try:
            return decode(leaf, data)
        except (DataError, ValueError, zlib.error) as error:
            raise self._damaged(leaf, episode, str(error)) from error

    def _damaged(self, leaf: Leaf, episode: int, reason: str) -> EpisodeError:
        source = int(self._chosen[episode])
        where = self._index.where(source)
        return EpisodeError(f"{where}: {leaf.key!r} of episode {episode} is damaged: {reason}", episode=episode)

    def __len__(self) -> int:
        return int(self._steps.sum())


def decode(leaf: Leaf, data: bytes) -> NDArray[Any]:
    """The numbers of a region, flat."""
    if leaf.kind == "floats":
        return np.frombuffer(data, "<f4")
    if leaf.kind == "integers":
        return integers(data)
    parts = [zlib.decompress(part) if leaf.encoding == "zlib" else part for part in elements(data)]
    return np.frombuffer(b"".join(parts), leaf.dtype)


def _same(data: bytes, steps: int) -> list[bytes]:
    """The text of an episode that says the same at every step, as most do; else nothing."""
    size, rest = divmod(len(data), steps or 1)
    if rest or not size or data != data[:size] * steps:
        return []
    try:
        values = elements(data[:size])
    except DataError:  # texts of several lengths can repeat themselves too
        return []
    return values if len(values) == 1 else []


class _Scratch:
    """A column that is being written; in its place when all of it is."""

    def __init__(self, path: Path, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
        self._path, self._shape, self._dtype = path, shape, dtype
        self._scratch = scratch_of(path)

    def __enter__(self) -> NDArray[Any]:
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            needed = math.prod(self._shape) * self._dtype.itemsize
            # Where the disk is full, writing to mapped memory kills the process.
            refuse_without_space(needed, self._path.parent, what=f"the column {self._path.name}", error=DataError)
            return np.lib.format.open_memmap(self._scratch, "w+", self._dtype, self._shape)
        except OSError as error:
            raise DataError(
                f"no column can be kept at {self._path}: {error}. FLA_DATA_HOME names another place"
            ) from error

    def __exit__(self, kind: Any, *_: Any) -> None:
        if kind is None:
            self._scratch.replace(self._path)
        else:
            self._scratch.unlink(missing_ok=True)
