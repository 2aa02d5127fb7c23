"""Episodes as a file for the Rerun viewer: pictures, states and actions on one time line."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fla_sdk.data.checks.subject import Subject
from fla_sdk.data.checks.views import cameras

QUALITY = 85
"""Of the JPEG pictures."""


def write_rrd(path: Path, subject: Subject, episodes: Sequence[int], *, advance: Callable[..., None]) -> Path:
    """Write `episodes` to `path`, one after the other on the time lines `row` and `time`; returns the path.

    `advance` is called after each row. Entities are `cameras/<camera>`, `state/<dimension>`, `action/<dimension>` and
    `task`. Raises `EpisodeError` for a frame that cannot be read.
    """
    import rerun

    path.parent.mkdir(parents=True, exist_ok=True)
    library: Any = rerun
    dataset = subject.dataset
    stream = library.RecordingStream(f"fla {dataset.path.name}", recording_id=", ".join(map(str, episodes)))
    stream.save(path)
    keys = cameras(dataset, subject.embodiment)
    for episode in episodes:
        start, end = (int(bound) for bound in dataset.episode_bounds[episode])
        rows = np.arange(start, end)
        moments = [
            library.TimeColumn("row", sequence=rows),
            library.TimeColumn("time", duration=rows / dataset.fps),
        ]
        block = subject.block(episode)
        for kind, dimensions in subject.dimensions.items():
            for dimension in dimensions:
                stream.send_columns(
                    library.new_entity_path([kind, dimension.name]),
                    indexes=moments,
                    columns=library.Scalars.columns(scalars=getattr(block, kind)[:, dimension.index]),
                )
        told = ""
        for row in range(start, end):
            stream.set_time("row", sequence=row)
            stream.set_time("time", duration=row / dataset.fps)
            if row == start or dataset.task(row) != told:
                told = dataset.task(row)
                stream.log("task", library.TextLog(f"episode {episode}: {told}"))
            for key in keys:
                picture = library.Image(dataset.frame(key, row), color_model="RGB").compress(jpeg_quality=QUALITY)
                stream.log(library.new_entity_path(["cameras", key.rsplit(".", 1)[-1]]), picture)
            advance()
    stream.flush()
    return path
