"""Camera frames that are stored as encoded images inside the data files."""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fla_plugins.lerobot.cache import BoundedCache
from fla_plugins.lerobot.parquet import open_parquet, read_columns
from fla_sdk.errors import DataError


class ImageColumns:
    """Encoded images by row. A row group is read on first use and kept, encoded, within a limit in bytes."""

    def __init__(
        self, root: Path, groups: Sequence[tuple[Path, int]], starts: NDArray[np.int64], *, cache_bytes: int
    ) -> None:
        """`groups[g]` is the file and the number of row group `g`, whose first row is `starts[g]`."""
        self._root, self._groups, self._starts = root, groups, starts
        self._encoded: BoundedCache[tuple[str, int], Any] = BoundedCache(
            cache_bytes, weight=lambda column: column.nbytes
        )

    def frame(self, name: str, row: int) -> NDArray[np.uint8]:
        """RGB `[H, W, 3]`, read-only."""
        group = int(np.searchsorted(self._starts, row, side="right")) - 1
        path, number = self._groups[group]

        def load() -> Any:
            return read_columns(path, open_parquet(path), [name], row_group=number)[name].combine_chunks()

        cell = self._encoded.get((name, group), load)[row - int(self._starts[group])]
        encoded = cell["bytes"].as_py() if cell.is_valid else None
        source = f"{path}, column {name!r}, row {row}"
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
