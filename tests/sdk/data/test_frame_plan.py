"""A cache is made where it shortens the run, and the line that says so has the figures."""

import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from fla_sdk.data import frame_rates
from fla_sdk.data.frame_cache import CachedFrames
from fla_sdk.data.frame_plan import plan_cache
from fla_sdk.testing import MemoryDataset

DAY = 5_000_000
"""Samples of a run that takes a day at 60 samples/s."""


class Clock:
    """What is measured takes the time that the test says, and looking at the clock 1 ms."""

    def __init__(self) -> None:
        self._now_s, self._turn = 0.0, threading.Lock()

    def sleep(self, seconds: float) -> None:
        with self._turn:
            self._now_s += seconds

    def monotonic(self) -> float:
        self.sleep(1e-3)
        return self._now_s


CLOCK = Clock()


@pytest.fixture(autouse=True)
def _clock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frame_rates, "time", CLOCK)


class Slow(MemoryDataset):
    """A camera whose frames take 10 ms each."""

    def __init__(self, *, rows: int = 200, seconds: float = 0.01) -> None:
        frames = np.zeros((rows, 8, 8, 3), np.uint8)
        super().__init__({"state": np.zeros((rows, 2))}, lengths=[rows], fps=10, cameras={"front": frames})
        self._seconds = seconds

    def frame(self, name: str, row: int) -> NDArray[np.uint8]:
        CLOCK.sleep(self._seconds)
        return super().frame(name, row)


def cached(folder: Path, **options: Any) -> CachedFrames:
    return CachedFrames(Slow(**options), ["front"], size=(8, 8), folder=folder)


def plan(frames: CachedFrames, *, need: float = 1000.0, samples: int = DAY, choice: Any = "auto") -> tuple[bool, str]:
    made = plan_cache([(frames, 1.0)], choice=choice, samples=samples, demand=lambda: need, threads=2)
    return made.use, made.line


def test_slow_frames_are_cached(tmp_path: Path) -> None:
    use, line = plan(cached(tmp_path))
    assert use
    assert line.startswith("frame cache: used, saves ") and "training takes 1000, decoding with 2 threads gives" in line


def test_fast_enough_is_left_alone(tmp_path: Path) -> None:
    use, line = plan(cached(tmp_path), need=1.0, samples=100_000)
    assert not use and "decoding is fast enough" in line


def test_a_short_run_is_not_worth_a_cache(tmp_path: Path) -> None:
    use, line = plan(cached(tmp_path), samples=100)
    assert not use and "of this run" in line


def test_a_cache_that_takes_longer_than_it_saves_is_not_made(tmp_path: Path) -> None:
    use, line = plan(cached(tmp_path, rows=1_000_000), samples=100_000)
    assert not use and "does not pay in this run" in line


def test_without_room_there_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda _: type("Usage", (), {"free": 10})())
    use, line = plan(cached(tmp_path))
    assert not use and f"no room in {tmp_path}" in line


def test_one_that_is_there_is_used_without_measuring(tmp_path: Path) -> None:
    frames = cached(tmp_path, seconds=0)
    frames.build()
    assert plan(cached(tmp_path, seconds=100), samples=100) == (
        True,
        f"frame cache: used, as it is there ({tmp_path})",
    )


@pytest.mark.parametrize(("choice", "use"), [("always", True), ("never", False)])
def test_the_user_decides(choice: str, use: bool, tmp_path: Path) -> None:
    assert plan(cached(tmp_path, seconds=100), choice=choice) == (use, f"frame cache: {choice}, as configured")


def test_a_part_that_is_hardly_drawn_from_matters_little(tmp_path: Path) -> None:
    fast, slow = cached(tmp_path, seconds=0), cached(tmp_path, seconds=0.05)

    def use(shares: tuple[float, float]) -> bool:
        parts = [(fast, shares[0]), (slow, shares[1])]
        return plan_cache(parts, choice="auto", samples=DAY, demand=lambda: 500.0, threads=2).use

    assert use((0.1, 0.9)) and not use((0.999, 0.001))
