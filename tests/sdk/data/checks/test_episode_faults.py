"""Faults of whole episodes, tasks and cameras: each is found, and nothing else with it."""

from collections.abc import Callable
from typing import Any

import attrs
import numpy as np
import pytest

import fla_sdk as fla
from fla_sdk.data.checks import Finding
from fla_sdk.errors import DataError, EpisodeError

Record = Callable[..., Any]
FRONT, WRIST = "observation.images.front", "observation.images.wrist"


def only(findings: tuple[Finding, ...], check: str, severity: str) -> Finding:
    """The only finding."""
    assert [(f.check, f.severity) for f in findings] == [(check, severity)], findings
    return findings[0]


def cut(made: Any, episode: int, rows: int) -> None:
    """Leave only the first `rows` rows of an episode."""
    part = made.rows(episode)
    keep = np.ones(len(made.state), np.bool_)
    keep[part.start + rows : part.stop] = False
    for name in ("state", "action", "timestamp", "task_index"):
        setattr(made, name, getattr(made, name)[keep])
    made.frames = {name: frames[keep] for name, frames in made.frames.items()}
    made.lengths[episode] = rows


# --- Episodes ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rows", [1, 6])
def test_an_episode_that_broke_off(record: Record, rows: int) -> None:
    made = record()
    cut(made, 3, rows)
    assert only(made.findings(), "short episodes", "warning").episode == 3


def test_episodes_shorter_than_a_chunk(record: Record) -> None:
    made = record()
    assert only(made.findings(horizon=min(made.lengths) + 1), "short episodes", "note")
    assert made.found(horizon=min(made.lengths)) == []


def test_an_episode_that_is_there_twice(record: Record) -> None:
    made = record()
    cut(made, 2, 60)
    cut(made, 5, 60)
    made.state[made.rows(5)], made.action[made.rows(5)] = made.state[made.rows(2)], made.action[made.rows(2)]
    finding = only(made.findings(frames=0), "doubled episodes", "warning")
    assert finding.episode == 5
    assert "1 of 8 episodes" in finding.seen and finding.seen.endswith("episode 2")


def test_test_episodes_among_the_training_episodes(record: Record) -> None:
    made, other = record(0), record(1)
    cut(made, 4, 70)
    cut(other, 6, 60)
    # Stored with other types, and cut at both ends.
    other.state = other.state.astype(np.float64)
    start = made.rows(4).start + 5
    other.state[other.rows(6)] = made.state[start : start + 60]
    other.action[other.rows(6)] = made.action[start : start + 60]
    finding = only(other.findings(against=made.dataset(), frames=0), "leakage", "error")
    assert finding.episode == 6
    assert "1 of 8 episodes" in finding.seen and finding.seen.endswith("episode 4")


def test_a_dataset_against_itself(record: Record) -> None:
    made = record()
    assert "8 of 8 episodes" in only(made.findings(against=made.dataset(), frames=0), "leakage", "error").seen


# --- Tasks ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["", "  "])
def test_an_empty_task(record: Record, text: str) -> None:
    made = record()
    made.tasks[1] = text
    finding = only(made.findings(), "tasks", "error")
    assert (finding.episode, finding.frame) == (1, 0)


@pytest.mark.parametrize("text", ["Pick up the cube", "pick  up the cube ", "pick up the cube."])
def test_two_spellings_of_a_task(record: Record, text: str) -> None:
    made = record()
    made.tasks[1] = text
    assert repr(text) in only(made.findings(), "tasks", "warning").seen


def test_two_numbers_of_a_task(record: Record) -> None:
    made = record()
    made.tasks[1] = made.tasks[0]
    assert "2 task numbers" in only(made.findings(), "tasks", "warning").seen


def test_numbers_that_mean_other_tasks_elsewhere(record: Record) -> None:
    made, other = record(0), record(1)
    other.tasks.reverse()
    finding = only(made.findings(against=other.dataset()), "tasks", "note")
    assert finding.name == "task_index 0"
    assert "'pick up the cube', there 'put the cube down'" in finding.seen


# --- Cameras ----------------------------------------------------------------------------------------------------------


def test_a_required_camera_that_is_missing(record: Record) -> None:
    made = record()
    del made.frames[WRIST]
    finding = only(made.findings(), "cameras", "error")
    assert finding.name == "wrist"
    assert FRONT in finding.seen


@pytest.mark.parametrize(
    ("level", "episodes", "severity"), [(0, range(8), "error"), (7, [3], "warning"), (200, [3], "warning")]
)
def test_a_blank_camera(record: Record, level: int, episodes: Any, severity: str) -> None:
    made = record()
    for episode in episodes:
        made.frames[WRIST][made.rows(episode)] = level
    finding = only(made.findings(), "blank camera", severity)
    assert (finding.name, finding.episode) == (WRIST, episodes[0])


@pytest.mark.parametrize(("episodes", "severity"), [(range(8), "error"), ([4], "warning")])
def test_a_frozen_camera(record: Record, episodes: Any, severity: str) -> None:
    made = record()
    for episode in episodes:
        made.frames[FRONT][made.rows(episode)] = made.frames[FRONT][made.rows(episode)][0]
    finding = only(made.findings(), "frozen camera", severity)
    assert (finding.name, finding.episode) == (FRONT, episodes[0])


def test_a_still_camera_is_fine_while_nothing_moves(record: Record) -> None:
    made = record()
    part = made.rows(4)
    made.frames[FRONT][part] = made.frames[FRONT][part][0]
    made.state[part], made.action[part] = made.state[part][0], made.action[part][0]
    assert made.found() == []


def test_a_camera_at_half_the_rate(record: Record) -> None:
    made = record()
    for episode in range(8):
        frames = made.frames[FRONT][made.rows(episode)]
        frames[:] = frames[np.arange(len(frames)) // 2 * 2]
    assert only(made.findings(), "repeated frames", "warning").name == FRONT


def test_one_camera_opened_twice(record: Record) -> None:
    made = record()
    made.frames[WRIST] = made.frames[FRONT].copy()
    finding = only(made.findings(), "same view", "error")
    assert {finding.name, finding.seen.split()[-1]} == {FRONT, WRIST}


@pytest.mark.parametrize("kind", ["dataset", "picture"])
def test_swapped_colours(record: Record, kind: str) -> None:
    made, reference = record(1), record(0)
    for frames in (*made.frames.values(), *reference.frames.values()):
        frames[..., 0] //= 2  # a bluish room
    right = reference.dataset() if kind == "dataset" else reference.frames[FRONT][0]
    assert made.found(reference=right) == []
    made.frames[FRONT] = made.frames[FRONT][..., ::-1]
    assert only(made.findings(reference=right), "swapped colours", "error").name == FRONT


def test_frames_of_a_damaged_file(record: Record) -> None:
    made = record()
    made.unreadable = {
        row: EpisodeError("front.mp4 is cut short", episode=5) for row in range(*made.rows(5).indices(10**6))
    }
    findings = made.findings()
    assert {(f.check, f.severity, f.name, f.episode) for f in findings} == {
        ("unreadable frames", "error", key, 5) for key in (FRONT, WRIST)
    }


def test_a_camera_that_cannot_be_read_at_all(record: Record) -> None:
    made = record()
    made.unreadable = dict.fromkeys(range(sum(made.lengths)), DataError("a depth camera cannot be read as colour"))
    assert made.found() == [("unreadable frames", "warning")] * 2


def test_only_so_many_frames_are_decoded(record: Record) -> None:
    made = record()
    dataset = made.dataset()
    decoded: list[tuple[str, int]] = []
    read = dataset.frame
    dataset.frame = lambda name, row: decoded.append((name, row)) or read(name, row)  # type: ignore[method-assign]
    made.dataset = lambda: dataset
    made.findings(frames=20)
    assert 0 < len(decoded) <= 2 * 20
    decoded.clear()
    assert made.found(frames=0) == []
    assert not decoded


def test_an_unused_camera_is_not_looked_at(record: Record) -> None:
    made = record()
    made.frames[WRIST][:] = 0
    cameras = (fla.Camera("front", slot="base_0_rgb"), fla.Camera("wrist", slot=None))
    assert made.found(robot=attrs.evolve(made.robot, cameras=cameras)) == []
