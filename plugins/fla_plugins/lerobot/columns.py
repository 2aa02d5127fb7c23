"""`Columns`: the low-dimensional columns, read at first use; in memory, or mapped from disk where they are large."""

import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import pyarrow as pa
from filelock import FileLock
from numpy.typing import NDArray

from fla_plugins.lerobot.damage import wrong_rows
from fla_plugins.lerobot.episodes import EpisodeTable
from fla_plugins.lerobot.language import STYLES, column_of, texts_in_force
from fla_plugins.lerobot.layout import EPISODES, EPISODES_LINES, INFO, Layout
from fla_plugins.lerobot.parquet import open_parquet, read_columns, to_numpy
from fla_sdk.data.files import files_fingerprint
from fla_sdk.errors import DataError, EpisodeError
from fla_sdk.home import data_home, refuse_without_space
from fla_sdk.terminal import progress

WIDE_BYTES = 1024
"""Of one row. Wider columns (a depth map, a point cloud) are read only when they are asked for themselves."""

LOCK_LIMIT_S = 6 * 3600.0
"""How long to wait for another process that copies the same columns."""


class Columns(Mapping[str, NDArray[Any]]):
    """Every column but cameras, by name, `[N, *shape]`, read-only; rows of files that cannot be read hold zeros.

    The narrow columns of numbers are read together, in one pass over the files. Those that take more than
    `memory_bytes` are copied into `<data home>/columns` and mapped from there; a copy belongs to one state of the files
    and is there whole or not at all. Texts are always in memory.
    """

    def __init__(
        self, layout: Layout, episodes: EpisodeTable, *, unreadable: frozenset[int], memory_bytes: int
    ) -> None:
        """`unreadable` are data files to leave out."""
        self._layout, self._episodes, self._bounds = layout, episodes, episodes.bounds
        self._unreadable, self._memory_bytes = unreadable, memory_bytes
        features = {name: feature for name, feature in layout.features.items() if not feature.is_camera}
        self._texts = [name for name, feature in features.items() if feature.dtype == "string"]
        self._languages = [name for name, feature in features.items() if feature.dtype == "language"]
        self._numbers = [name for name in features if name not in (*self._texts, *self._languages)]
        self.narrow = tuple(name for name in self._numbers if self._row_bytes(name) <= WIDE_BYTES)
        """Columns of numbers that are read together."""

        self._names = (
            *self._numbers,
            *self._texts,
            *(column_of(s) for n in self._languages for s in STYLES.get(n, ())),
        )
        self._read: dict[str, NDArray[Any]] = {}
        self._lock = threading.RLock()

    def __iter__(self) -> Any:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)

    def __contains__(self, name: object) -> bool:
        return name in self._names

    def __getitem__(self, name: str) -> NDArray[Any]:
        if name in self._read:
            return self._read[name]
        if name not in self._names:
            raise KeyError(name)
        with self._lock:
            if name not in self._read:
                read = self._read_numbers if name in self._numbers else self._read_texts
                if name not in self.narrow:
                    self["index"]  # which checks that rows are where the episode table says
                for found, values in read(name).items():
                    values.flags.writeable = False
                    self._read[found] = values
        return self._read[name]

    # --- Numbers ------------------------------------------------------------------------------------------------------

    def _read_numbers(self, name: str) -> dict[str, NDArray[Any]]:
        names = self.narrow if name in self.narrow else (name,)
        if self._layout.rows * sum(map(self._row_bytes, names)) > self._memory_bytes:
            return self._mapped(names)
        columns = {name: np.zeros(self._shape(name), self._dtype(name)) for name in names}
        self._fill(names, columns, lambda: None)
        return columns

    def _mapped(self, names: Sequence[str]) -> dict[str, NDArray[Any]]:
        folder = data_home() / "columns" / self._state_of_files()
        files = {name: folder / f"{quote(name, safe='')}.npy" for name in names}
        if missing := [name for name in names if not files[name].is_file()]:
            self._copy(missing, files, folder)
        return {name: np.load(file, mmap_mode="r") for name, file in files.items()}

    def _copy(self, names: Sequence[str], files: Mapping[str, Path], folder: Path) -> None:
        needed = self._layout.rows * sum(map(self._row_bytes, names))
        what = f"copying the columns of {self._layout.root} so that they need not fit into memory"
        refuse_without_space(needed, folder, what=what, error=DataError)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with FileLock(folder / "lock", timeout=LOCK_LIMIT_S):
                names = [name for name in names if not files[name].is_file()]  # another process may have copied them
                partial = {name: files[name].with_suffix(".partial") for name in names}
                columns = {
                    name: np.lib.format.open_memmap(file, "w+", self._dtype(name), self._shape(name))
                    for name, file in partial.items()
                }
                with progress(f"{self._layout.root.name}: copying columns", len(self._episodes.data.files)) as advance:
                    self._fill(names, columns, advance)
                for name, column in columns.items():
                    column.flush()
                    partial[name].replace(files[name])
        except OSError as error:
            raise DataError(f"{what} into {folder} failed: {error}") from error

    def _fill(self, names: Sequence[str], columns: Mapping[str, NDArray[Any]], advance: Callable[[], Any]) -> None:
        """One pass over the data files."""
        for file, rows in enumerate(self._episodes.data.rows):
            if rows and file not in self._unreadable:
                self._fill_from(file, names, columns)
            advance()

    def _fill_from(self, file: int, names: Sequence[str], columns: Mapping[str, NDArray[Any]]) -> None:
        path, rows, numbers = self._rows_of(file)
        place: Any = slice(rows[0], rows[-1] + 1) if rows[-1] - rows[0] == len(rows) - 1 else rows
        table = self._table(file, path, names)
        for name in names:
            try:
                columns[name][place] = values = to_numpy(path, table[name], name, self._layout.features[name])
            except DataError as error:
                raise EpisodeError(str(error), episode=int(numbers[0])) from error
            if name in ("index", "episode_index"):
                _check_order(path, name, values[:, 0], numbers if name == "episode_index" else rows, numbers)

    def _table(self, file: int, path: Path, names: Sequence[str]) -> pa.Table:
        """Columns of one data file. Raises `EpisodeError` for the first episode in it."""
        try:
            parquet = open_parquet(path)
            expected = int(self._episodes.data.rows[file])
            if parquet.metadata.num_rows != expected:
                raise DataError(wrong_rows(path, parquet.metadata.num_rows, expected))
            return read_columns(path, parquet, names)
        except DataError as error:
            raise EpisodeError(str(error), episode=int(self._episodes.data.episodes(file)[0])) from error

    def _rows_of(self, file: int) -> tuple[Path, NDArray[np.int64], NDArray[np.int64]]:
        """A data file, its rows in the dataset, and the episode of each of them."""
        placement = self._episodes.data
        held = placement.episodes(file)
        starts, ends = self._bounds[held].T
        numbers = np.repeat(held, ends - starts)
        rows = np.arange(len(numbers)) + np.repeat(starts - placement.first[held], ends - starts)
        return self._layout.data_file(*placement.files[file].tolist()), rows, numbers

    def _state_of_files(self) -> str:
        root, layout = self._layout.root, self._layout
        tables = [root / INFO, root / EPISODES_LINES, *(root / EPISODES).glob("*/*.parquet")]
        return files_fingerprint(root, [*tables, *(layout.data_file(*f) for f in self._episodes.data.files.tolist())])

    def _dtype(self, name: str) -> np.dtype[Any]:
        return np.dtype(self._layout.features[name].dtype)

    def _shape(self, name: str) -> tuple[int, ...]:
        return (self._layout.rows, *self._layout.features[name].shape)

    def _row_bytes(self, name: str) -> int:
        return self._dtype(name).itemsize * int(np.prod(self._layout.features[name].shape, dtype=np.int64))

    # --- Texts --------------------------------------------------------------------------------------------------------

    def _read_texts(self, name: str) -> dict[str, NDArray[Any]]:
        source = next((column for column in self._languages if name in map(column_of, STYLES.get(column, ()))), name)
        found = [name] if source == name else [column_of(style) for style in STYLES[source]]
        columns = {name: np.full((self._layout.rows, 1), "", object) for name in found}
        for file, count in enumerate(self._episodes.data.rows):
            if not count or file in self._unreadable:
                continue
            path, rows, _ = self._rows_of(file)
            table = self._table(file, path, [source] if source == name else [source, "timestamp"])
            if source == name:
                columns[name][rows] = to_numpy(path, table[name], name, self._layout.features[name])
                continue
            for style in STYLES[source]:
                columns[column_of(style)][rows, 0] = texts_in_force(path, table, source, style)
        return columns


def _check_order(
    path: Path, name: str, found: NDArray[Any], expected: NDArray[np.int64], numbers: NDArray[np.int64]
) -> None:
    """Rows must lie in the order in which the episode table says they do."""
    wrong = found != expected
    if wrong.any():
        at = int(np.argmax(wrong))
        raise EpisodeError(
            f"{path}: {name} is {found[at]} where the episode table expects {expected[at]} (row {at} of the file);"
            " rows are missing or out of order: convert or record the dataset again",
            episode=int(numbers[at]),
        )
