"""Camera frames that are stored as encoded images inside the data files."""

import io
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fla_plugins.lerobot.cache import BoundedCache
from fla_plugins.lerobot.parquet import open_parquet, read_columns
from fla_sdk.errors import DataError

MOST_FOOTERS = 10_000
"""Data files whose row groups are remembered."""


class ImageColumns:
    """Encoded images by file and row. A row group is read on first use and kept, encoded, within a limit in bytes."""

    def __init__(self, root: Path, *, cache_bytes: int) -> None:
        self._root = root
        self._starts: BoundedCache[Path, NDArray[np.int64]] = BoundedCache(MOST_FOOTERS)
        self._encoded: BoundedCache[tuple[str, Path, int], Any] = BoundedCache(
            cache_bytes, weight=lambda column: column.nbytes
        )

    def frame(self, name: str, path: Path, row: int) -> NDArray[np.uint8]:
        """RGB `[H, W, 3]`, read-only. `row` counts those of the file."""
        starts = self._starts.get(path, lambda: _group_starts(path))
        group = int(np.searchsorted(starts, row, side="right")) - 1
        if row >= starts[-1]:
            raise DataError(f"{path} holds {starts[-1]} rows, not {row + 1}; copy the dataset again")

        def load() -> Any:
            return read_columns(path, open_parquet(path), [name], row_group=group)[name].combine_chunks()

        cell = self._encoded.get((name, path, group), load)[row - int(starts[group])]
        encoded = cell["bytes"].as_py() if cell.is_valid else None
        source = f"{path}, column {name!r}, row {row} of the file"
        if encoded is None:
            encoded, source = self._outside(source, cell["path"].as_py() if cell.is_valid else None)
        return decode_image(encoded, source)

    def _outside(self, source: str, relative: str | None) -> tuple[bytes, str]:
        """An image that the data file only points to."""
        if relative is None:
            raise DataError(f"{source} holds no image; remove the episode or record it again")
        path = self._root / relative
        try:
            return path.read_bytes(), str(path)
        except OSError as error:
            raise DataError(
                f"missing file {path}, to which {source} points: {error.strerror}; copy it again"
            ) from error


def _group_starts(path: Path) -> NDArray[np.int64]:
    """`[G + 1]` first row of each row group, and one past the last row."""
    about = open_parquet(path).metadata
    return np.cumsum([0, *(about.row_group(group).num_rows for group in range(about.num_row_groups))], dtype=np.int64)


def decode_image(encoded: bytes, source: str) -> NDArray[np.uint8]:
    """PNG, JPEG or whatever Pillow reads, as RGB `[H, W, 3]`, read-only."""
    try:
        with Image.open(io.BytesIO(encoded)) as image:
            return np.asarray(image if image.mode == "RGB" else image.convert("RGB"))
    except (OSError, ValueError, SyntaxError) as error:
        raise DataError(f"{source} cannot be decoded as an image ({error}); copy the dataset again") from error


def encode_png(image: NDArray[np.uint8]) -> bytes:
    """`[H, W, 3]` as PNG, lossless. Level 1 is several times faster than the default for about a tenth more bytes."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()
