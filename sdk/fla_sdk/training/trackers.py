"""`Trackers`: the open trackers of a run, none of which can stop it."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from fla_sdk.records import PictureRun, Tracker, TrackerRun

_T = TypeVar("_T")


class Trackers:
    """Where the metrics and pictures of a run go.

    A tracker that fails is told once and tried again with the next report: a full disk may have room again. Use it as a
    context manager: leaving it closes the trackers, and tells how much of the run they lack.
    """

    def __init__(
        self,
        trackers: Iterable[Tracker],
        run_dir: Path,
        config: Mapping[str, Any],
        *,
        tell: Callable[[str], None],
    ) -> None:
        self._tell = tell
        self._runs: dict[str, TrackerRun] = {}
        self._lost: Counter[str] = Counter()
        for tracker in trackers:
            name = f"tracker {tracker.name}"
            if (run := self._attempt(name, tracker.open, run_dir, config)) is not None:
                self._runs[name] = run

    def __enter__(self) -> "Trackers":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        for name, run in self._runs.items():
            self._attempt(name, run.close)
        for name, count in self._lost.items():
            if count > 1:
                self._tell(f"{name} failed {count} times in all; what it lacks is lost")

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Metrics after `step`; nothing where there are none."""
        if metrics:
            for name, run in self._runs.items():
                self._attempt(name, run.log, step, metrics)

    def pictures(self, step: int, draw: Callable[[], Mapping[str, NDArray[np.uint8]]]) -> None:
        """Name -> `[H, W, 3]` as `draw` gives them, which is not called where no tracker takes pictures."""
        takers = [(name, run) for name, run in self._runs.items() if isinstance(run, PictureRun)]
        drawn = self._attempt("drawing pictures", draw) if takers else None
        for picture, image in (drawn or {}).items():
            for name, run in takers:
                self._attempt(name, run.image, step, picture, image)

    def _attempt(self, what: str, action: Callable[..., _T], *arguments: Any) -> _T | None:
        try:
            return action(*arguments)
        except Exception as error:
            self._lost[what] += 1
            if self._lost[what] == 1:
                self._tell(f"{what} failed, training goes on: {type(error).__name__}: {error}")
            return None
