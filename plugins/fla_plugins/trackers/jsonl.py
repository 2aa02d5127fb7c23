"""Tracker `jsonl`: one line of metrics per report in `metrics.jsonl`, flushed at once; pictures under `images/`."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TextIO

import numpy as np
from numpy.typing import NDArray

import fla_sdk as fla


class JsonlRun:
    def __init__(self, run_dir: Path, config: Mapping[str, Any]) -> None:
        del config
        self._folder = run_dir
        self._path = run_dir / "metrics.jsonl"
        self._file: TextIO | None = None

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        if self._file is None:
            _forget_from(step, self._path)
            self._file = self._path.open("a")
        self._file.write(json.dumps({"step": step, **metrics}) + "\n")
        self._file.flush()

    def image(self, step: int, name: str, image: NDArray[np.uint8]) -> None:
        """`images/<name>/<step>.png`."""
        from PIL import Image

        file = self._folder / "images" / name / f"{step:06}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(file)

    def close(self) -> None:
        if self._file is not None:
            self._file.close()


def _forget_from(step: int, path: Path) -> None:
    """Drop what a killed run wrote after its last checkpoint: a resumed one takes those steps again."""
    if not path.exists():
        return
    kept = [line for line in path.read_text().splitlines(keepends=True) if _step_of(line) < step]
    scratch = path.with_suffix(".partial")
    scratch.write_text("".join(kept))
    scratch.replace(path)


def _step_of(line: str) -> float:
    """The step of a line; infinite for one that was cut off while it was written."""
    try:
        return float(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError):
        return float("inf")


@fla.hookimpl
def fla_trackers() -> Iterator[fla.Tracker]:
    yield fla.Tracker(name="jsonl", description="metrics.jsonl and images/ in the run's folder", open=JsonlRun)
