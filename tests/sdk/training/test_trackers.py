"""Trackers of a run: what they are given, and that none of them stops it."""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fla_sdk as fla
from fla_sdk.errors import ConfigError
from fla_sdk.plugins import load_plugins
from fla_sdk.records import Tracker
from fla_sdk.training.trackers import Trackers
from fla_sdk.training.trainer import Trainer


class Notes:
    """What was logged; raises while `broken`."""

    def __init__(self) -> None:
        self.logged: list[tuple[int, Mapping[str, float]]] = []
        self.closed = self.broken = False

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        if self.broken:
            raise OSError("no space left")
        self.logged.append((step, metrics))

    def close(self) -> None:
        if self.broken:
            raise OSError("no space left")
        self.closed = True


class Album(Notes):
    """Takes pictures too."""

    def __init__(self) -> None:
        super().__init__()
        self.pictures: list[tuple[int, str]] = []

    def image(self, step: int, name: str, image: np.ndarray) -> None:
        assert image.ndim == 3 and image.shape[2] == 3 and image.dtype == np.uint8
        self.pictures.append((step, name))


def _tracker(name: str, run: Any) -> Tracker:
    return Tracker(name=name, description="notes", open=lambda folder, config: run)


def test_one_that_fails_is_told_once_and_may_recover(tmp_path: Path) -> None:
    told: list[str] = []
    failing, sound = Notes(), Notes()
    with Trackers([_tracker("failing", failing), _tracker("sound", sound)], tmp_path, {}, tell=told.append) as trackers:
        for step in range(5):
            failing.broken = 1 <= step <= 3
            trackers.log(step, {"loss": 1.0})
        trackers.log(5, {})
    assert [step for step, _ in failing.logged] == [0, 4]
    assert [step for step, _ in sound.logged] == [0, 1, 2, 3, 4]
    assert failing.closed and sound.closed
    assert told == [
        "tracker failing failed, training goes on: OSError: no space left",
        "tracker failing failed 3 times in all; what it lacks is lost",
    ]


def test_one_that_cannot_be_opened_or_closed_is_told(tmp_path: Path) -> None:
    told: list[str] = []
    album = Album()
    absent = Tracker(name="absent", description="", open=lambda folder, config: {}["nothing"])
    with Trackers([absent, _tracker("album", album)], tmp_path, {}, tell=told.append) as trackers:
        trackers.log(1, {"loss": 1.0})
        album.broken = True
    assert album.logged
    assert told == [
        "tracker absent failed, training goes on: KeyError: 'nothing'",
        "tracker album failed, training goes on: OSError: no space left",
    ]


def test_ctrl_c_is_no_failure_of_a_tracker(tmp_path: Path) -> None:
    def interrupt(folder: Path, config: Mapping[str, Any]) -> Any:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Trackers([Tracker(name="slow", description="", open=interrupt)], tmp_path, {}, tell=print)


def test_pictures_are_drawn_for_those_who_take_them(tmp_path: Path) -> None:
    told: list[str] = []
    notes, album = Notes(), Album()

    def draw() -> dict[str, Any]:
        return {"samples/planar2": np.zeros((2, 2, 3), np.uint8)}

    def fail() -> dict[str, Any]:
        raise ValueError("no such font")

    with Trackers([_tracker("notes", notes)], tmp_path, {}, tell=told.append) as trackers:
        trackers.pictures(0, fail)  # nobody asks
    with Trackers([_tracker("notes", notes), _tracker("album", album)], tmp_path, {}, tell=told.append) as trackers:
        trackers.pictures(0, draw)
        trackers.pictures(10, fail)
        trackers.pictures(20, draw)
    assert album.pictures == [(0, "samples/planar2"), (20, "samples/planar2")]
    assert told == ["drawing pictures failed, training goes on: ValueError: no such font"]


def test_a_tracker_that_could_not_work_is_refused_when_the_run_is_prepared(
    small_run: Callable[..., Any], tmp_path: Path
) -> None:
    def check() -> None:
        raise ConfigError("nobody is logged in")

    class Plugin:
        @fla.hookimpl
        def fla_trackers(self) -> Iterator[Tracker]:
            yield Tracker(name="remote", description="", open=lambda folder, config: Notes(), check=check)

    registry = load_plugins()
    registry.add(Plugin(), name="remote")
    with pytest.raises(ConfigError, match="nobody is logged in"):
        Trainer(small_run(tmp_path / "run", trackers=["remote"]), plugins=registry)
    assert not (tmp_path / "run").exists()
