"""`Overview`: what a dataset holds, for people."""

from collections import Counter
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path

import numpy as np

from fla_sdk.data.checks.subject import Subject
from fla_sdk.data.dataset import Dataset
from fla_sdk.embodiment import Embodiment
from fla_sdk.errors import ConfigError
from fla_sdk.space import UNITS, Space

TASKS = 20
"""Tasks that are listed in a terminal."""


class Overview:
    """A dataset in words and figures. Reading it costs the columns of states and actions at most, and no picture."""

    def __init__(self, dataset: Dataset, embodiment: Embodiment | None = None, *, format_name: str = "") -> None:
        """Raises `DataError` when the embodiment's state or action is missing or has another width."""
        self.dataset, self.embodiment, self.format_name = dataset, embodiment, format_name
        self.subject = Subject(dataset, embodiment)
        self.lengths = np.diff(dataset.episode_bounds, axis=1)[:, 0]

    @cached_property
    def tasks(self) -> Counter[str]:
        """Task -> episodes that begin with it. Damaged episodes are left out."""
        starts = self.dataset.episode_bounds[:, 0].tolist()
        return Counter(self.dataset.task(row) for e, row in enumerate(starts) if e not in self.dataset.damaged)

    @cached_property
    def bytes_by_kind(self) -> Counter[str]:
        """Ending of the files of a local dataset -> their size."""
        root, sizes = Path(self.dataset.path), Counter[str]()
        for file in root.rglob("*") if root.is_dir() else ():
            if file.is_file():
                sizes[file.suffix.lstrip(".") or file.name] += file.stat().st_size
        return sizes

    def facts(self) -> Iterator[tuple[str, str]]:
        """Label and value."""
        dataset, lengths = self.dataset, self.lengths
        yield "dataset", str(dataset.path)
        if self.format_name:
            yield "format", self.format_name
        if robot := getattr(dataset, "robot", None):
            yield "robot", str(robot)
        if self.embodiment:
            yield "embodiment", f"{self.embodiment.name}, {self.embodiment.control_hz:g} Hz"
        yield (
            "episodes",
            f"{len(lengths):,}"
            + (
                f", of {lengths.min():,} to {lengths.max():,} frames, median {np.median(lengths):.0f}"
                if len(lengths)
                else ""
            ),
        )
        yield "frames", f"{len(dataset):,} at {dataset.fps:g} per second, {duration(len(dataset) / dataset.fps)}"
        if self.bytes_by_kind:
            kinds = ", ".join(f"{size(n)} {kind}" for kind, n in self.bytes_by_kind.most_common(4))
            yield "on disk", f"{size(self.bytes_by_kind.total())} ({kinds})"
        if dataset.damaged:
            first, reason = min(dataset.damaged.items())
            yield "damaged", f"{len(dataset.damaged):,} episodes; episode {first}: {reason}"

    def features(self) -> Iterator[tuple[str, str, str, str]]:
        """Name, type, shape and dimensions (with units where the embodiment knows them) of each column."""
        spaces = {"state": self.embodiment.state, "action": self.embodiment.action} if self.embodiment else {}
        units = {self.subject.key(kind): _units(space) for kind, space in spaces.items()}
        for name, feature in self.dataset.features.items():
            shape = "x".join(map(str, feature.shape)) or "1"
            names = "" if feature.is_camera else ", ".join(feature.names or ())
            yield name, feature.dtype, shape, units.get(name) or names

    def lines(self) -> Iterator[str]:
        """For a terminal."""
        for label, value in self.facts():
            yield f"{label:12}{value}"
        yield "features"
        for name, dtype, shape, dimensions in self.features():
            yield f"  {name:34} {dtype:8} {shape:12} {dimensions}".rstrip()
        yield f"tasks       {len(self.tasks):,}"
        for task, count in self.tasks.most_common(TASKS):
            yield f"  {count:7,} {task!r}"
        if len(self.tasks) > TASKS:
            yield f"  ... and {len(self.tasks) - TASKS:,} more"

    def chosen(self, episode: int | None, *, most: int = 3) -> tuple[int, ...]:
        """The episode that was asked for; else up to `most` readable ones, spread evenly.

        Raises `ConfigError` for one that is not there or not readable.
        """
        if episode is None:
            readable = self.subject.readable
            places: list[float] = np.linspace(0, len(readable) - 1, min(most, len(readable))).tolist()
            return tuple(readable[round(place)] for place in places)
        if not 0 <= episode < len(self.lengths):
            raise ConfigError(f"--episode {episode}: {self.dataset.path} has episodes 0 to {len(self.lengths) - 1}")
        if episode in self.dataset.damaged:
            raise ConfigError(f"--episode {episode} is damaged: {self.dataset.damaged[episode]}")
        return (episode,)


def duration(seconds: float) -> str:
    """`3.2 h`, `14.1 min` or `8.0 s`."""
    if seconds >= 3600:
        return f"{seconds / 3600:.1f} h"
    return f"{seconds / 60:.1f} min" if seconds >= 60 else f"{seconds:.1f} s"


def size(count: float) -> str:
    """`1.4 GB`."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} TB"


def _units(space: Space) -> str:
    return "; ".join(f"{', '.join(field.names)} in {field.unit} ({UNITS[field.unit]})" for field in space)
