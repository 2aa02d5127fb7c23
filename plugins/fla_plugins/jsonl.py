"""Tracker `jsonl`: one line of metrics per report in `metrics.jsonl`, flushed at once."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import fla_sdk as fla


class JsonlRun:
    def __init__(self, run_dir: Path, config: Mapping[str, Any]) -> None:
        del config
        self._file = (run_dir / "metrics.jsonl").open("a")

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        self._file.write(json.dumps({"step": step, **metrics}) + "\n")
        self._file.flush()

    def close(self) -> None:
        self._file.close()


@fla.hookimpl
def fla_trackers() -> Iterator[fla.Tracker]:
    yield fla.Tracker(name="jsonl", description="metrics.jsonl in the run's folder", open=JsonlRun)
