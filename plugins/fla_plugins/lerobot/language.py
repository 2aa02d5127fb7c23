"""What annotators wrote into the columns `language_persistent` and `language_events`, as one text per row and style.

Each cell of these columns is a list of remarks. In `language_persistent` a remark has the time at which it begins to
hold, and every row of an episode repeats all of them; in `language_events` it belongs to its row alone.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from fla_sdk.errors import DataError

STYLES: Mapping[str, tuple[str, ...]] = {
    "language_persistent": ("subtask", "plan", "memory", "motion", "task_aug"),
    "language_events": ("interjection", "vqa", "trace"),
}
"""What remarks are about, by the column that holds them."""


def column_of(style: str) -> str:
    """The name under which a style is read: `language.subtask`."""
    return f"language.{style}"


def texts_in_force(path: Path, table: Any, column: str, style: str) -> NDArray[Any]:
    """`[N]` texts: the newest remark of a style that has begun, `""` before the first; of several that begin at one
    time, the first. `table` has the column and `timestamp`.
    """
    cells = table[column].combine_chunks()
    remarks = cells.flatten()
    rows = np.repeat(np.arange(len(cells)), cells.value_lengths().fill_null(0).to_numpy())
    try:
        styles, contents = (remarks.field(name).to_numpy(zero_copy_only=False) for name in ("style", "content"))
        times = table["timestamp"].to_numpy()
        begun = remarks.field("timestamp").to_numpy() if column == "language_persistent" else times[rows]
    except (KeyError, UnicodeDecodeError, pa.ArrowException) as error:
        raise DataError(f"{path}: column {column!r} does not hold remarks of LeRobot's form ({error!r})") from error
    holds = np.flatnonzero((styles == style) & (contents != None) & (begun <= times[rows]))  # noqa: E711
    # Of each row the newest one last, and of those the one that stands first in its list.
    holds = holds[np.lexsort((-holds, begun[holds], rows[holds]))]
    texts = np.full(len(cells), "", object)
    texts[rows[holds]] = contents[holds]
    return texts
