"""Parquet files as numpy columns, with errors that name the file."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from fla_sdk.data.dataset import Feature
from fla_sdk.errors import DataError, nearest


def open_parquet(path: Path) -> Any:
    """A `pyarrow.parquet.ParquetFile`. Raises `DataError` when the file is missing or damaged."""
    try:
        return pq.ParquetFile(path)
    except FileNotFoundError as error:
        raise DataError(f"missing file {path}; the dataset is incomplete: copy or download it again") from error
    except (OSError, pa.ArrowException) as error:
        raise damaged(path, error) from error


def damaged(path: Path, error: Exception) -> DataError:
    reason = str(error).splitlines()[0] if str(error) else type(error).__name__
    size = path.stat().st_size if path.exists() else 0
    return DataError(
        f"{path} ({size} bytes) is damaged or cut short: {reason}; copy or download it again, or"
        " run `fla data repair` (a LeRobot recording that was killed before finalize() leaves such files)"
    )


def read_columns(path: Path, file: Any, names: Iterable[str], *, row_group: int | None = None) -> Any:
    """A `pyarrow.Table` of the named columns, of the whole file or of one row group."""
    wanted = list(names)
    known = file.schema_arrow.names
    for name in wanted:
        if name not in known:
            hint = f"; nearest is {close!r}" if (close := nearest(name, known)) else ""
            raise DataError(f"{path} has no column {name!r}{hint} (columns: {', '.join(known)})")
    try:
        if row_group is None:
            table = file.read(columns=wanted, use_threads=False)
        else:
            table = file.read_row_group(row_group, columns=wanted, use_threads=False)
    except (OSError, pa.ArrowException) as error:
        raise damaged(path, error) from error
    # Parquet selects by prefix: asking for `action` also brings a column called `action.gripper`.
    return table.select(wanted)


def to_numpy(path: Path, column: Any, name: str, feature: Feature) -> NDArray[Any]:
    """A column as `[N, *shape]` of the declared dtype. Reads plain, list, fixed-size list and HF array columns."""
    try:
        parts = [_flat(chunk) for chunk in column.chunks]
    except ValueError as error:
        raise DataError(
            f"{path}: column {name!r} has {error}, but meta/info.json declares shape {list(feature.shape)} for all"
            " rows; convert or record the dataset again"
        ) from error
    if column.null_count or any(part.null_count for part in parts):
        raise DataError(f"{path}: column {name!r} has empty cells, which cannot be trained on; remove those rows")
    if feature.dtype == "string":
        values = [_texts(path, part, name) for part in parts]
    else:
        values = [part.to_numpy(zero_copy_only=False).astype(feature.dtype, copy=False) for part in parts]
    flat = np.concatenate(values) if values else np.empty(0, feature.dtype)
    shape = (len(column), *feature.shape)
    if flat.size != np.prod(shape, dtype=np.int64):
        raise DataError(
            f"{path}: column {name!r} holds {flat.size} numbers in {len(column)} rows, but meta/info.json declares"
            f" shape {list(feature.shape)}; one of the two files is from another dataset"
        )
    return flat.reshape(shape)


def _texts(path: Path, array: Any, name: str) -> NDArray[Any]:
    """Equal texts are one object: a sentence that a million rows repeat is kept once."""
    encoded = array.dictionary_encode()
    try:
        texts = encoded.dictionary.to_numpy(zero_copy_only=False).astype(object)
    except (UnicodeDecodeError, pa.ArrowException) as error:
        raise DataError(f"{path}: column {name!r} has text that is not UTF-8 ({error}); write it again") from error
    return texts[encoded.indices.to_numpy(zero_copy_only=False)]


def _flat(array: Any) -> Any:
    """The innermost values of a nested array. Extension types exist only where the `datasets` library is imported.

    Raises `ValueError` when its rows have different widths.
    """
    while True:
        if isinstance(array, pa.ExtensionArray):
            array = array.storage
        elif isinstance(array, (pa.ListArray, pa.LargeListArray, pa.FixedSizeListArray)):
            if not isinstance(array, pa.FixedSizeListArray):
                widths = np.diff(array.offsets.to_numpy())
                if (uneven := widths != widths[:1]).any():
                    row = int(np.argmax(uneven))
                    raise ValueError(f"{widths[0]} values in one row and {widths[row]} in another")
            array = array.flatten()
        else:
            return array
