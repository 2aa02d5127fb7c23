"""Each fault that is planted is found where it is, and nothing else with it."""

from collections.abc import Callable
from typing import Any

import attrs
import numpy as np
import pytest

import fla_sdk as fla
from fla_sdk.data.checks import Finding
from fla_sdk.errors import ConfigError, DataError
from fla_sdk.testing import MemoryDataset

Record = Callable[..., Any]
GRIPPER = 3


def only(findings: tuple[Finding, ...], check: str, severity: str) -> Finding:
    """The only finding."""
    assert [(f.check, f.severity) for f in findings] == [(check, severity)], findings
    return findings[0]


def joints(**changes: Any) -> fla.Field:
    return fla.joints("waist", "shoulder", "elbow", **changes)


# --- Numbers ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_numbers_that_are_none(record: Record, value: float) -> None:
    made = record()
    made.state[made.rows(3)][17, 1] = value
    finding = only(made.findings(), "finite", "error")
    assert (finding.name, finding.episode, finding.frame) == ("state shoulder", 3, 17)


def test_nothing_but_nan_leaves_the_other_checks_silent(record: Record) -> None:
    made = record()
    made.action[:] = np.nan
    assert {check for check, _ in made.found()} == {"finite"}


def test_a_damaged_episode_is_named_and_left_out(record: Record) -> None:
    made = record()
    made.state[made.rows(2)] = 0
    made.action[made.rows(2)] = 0
    made.damaged = {2: "missing file data/3.bin"}
    finding = only(made.findings(), "damaged", "error")
    assert (finding.episode, finding.seen) == (2, "missing file data/3.bin")


def test_degrees(record: Record) -> None:
    made = record()
    made.state[:, :3] = np.rad2deg(made.state[:, :3])
    made.action[:, :3] = np.rad2deg(made.action[:, :3])
    findings = made.findings()
    assert {f.name for f in findings} == {
        f"{kind} {j}" for kind in ("state", "action") for j in ("waist", "shoulder", "elbow")
    }
    assert {(f.check, f.severity) for f in findings} == {("limits", "error")}
    assert "degrees" in findings[0].seen


@pytest.mark.parametrize(("beyond", "severity"), [(2.2, "warning"), (3.0, "error")])
def test_beyond_the_limits(record: Record, beyond: float, severity: str) -> None:
    made = record()
    made.action[made.rows(1)][40:42, 2] = beyond
    finding = only(made.findings(), "limits", severity)
    assert (finding.name, finding.episode, finding.frame) == ("action elbow", 1, 40)


def test_an_outlier_that_spoils_quantiles(record: Record) -> None:
    made = record()
    made.action[made.rows(4)][9, 0] = 400.0
    finding = only(made.findings(robot=None), "outliers", "warning")
    assert (finding.name, finding.episode, finding.frame) == ("action waist", 4, 9)


def test_a_joint_that_was_not_recorded(record: Record) -> None:
    made = record()
    made.state[:, 1] = 0.25
    finding = only(made.findings(), "constant", "note")
    assert (finding.name, finding.seen) == ("state shoulder", "always 0.25")


def test_dimensions_in_another_order(record: Record) -> None:
    made = record()
    robot = attrs.evolve(
        made.robot,
        action=fla.Space(fla.joints("shoulder", "waist", "elbow", predict="relative", limits=(-2, 2)), fla.gripper()),
    )
    findings = {f.check: f for f in made.findings(robot=robot)}
    assert findings["columns"].severity == "error"
    assert "waist, shoulder, elbow, gripper" in findings["columns"].seen


def test_a_dataset_of_another_width_is_refused_with_both_sides(record: Record) -> None:
    made = record()
    robot = attrs.evolve(made.robot, state=fla.Space(joints(), fla.gripper(), fla.Field(names=("lift",), unit="m")))
    with pytest.raises(DataError, match=r"the state has 4 dimensions in the dataset, 5 in the embodiment"):
        made.findings(robot=robot)


def test_states_under_a_strange_name_are_a_note(record: Record) -> None:
    made = record()
    dataset = MemoryDataset({"pose": made.state, "action": made.action}, lengths=made.lengths, fps=20)
    made.dataset = lambda: dataset
    assert only(made.findings(robot=None), "columns", "note").name == "state"


# --- Grippers ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["state", "action"])
def test_a_gripper_that_opens_when_the_action_says_close(record: Record, kind: str) -> None:
    made = record()
    getattr(made, kind)[:, GRIPPER] = 1 - getattr(made, kind)[:, GRIPPER]
    assert only(made.findings(), "gripper polarity", "error").name == "gripper"


def test_opposite_units_open_together(record: Record) -> None:
    made = record()
    made.action[:, GRIPPER] = 1 - made.action[:, GRIPPER]
    robot = attrs.evolve(made.robot, action=fla.Space(joints(), fla.gripper(unit="closed_fraction")))
    assert made.found(robot=robot) == []


@pytest.mark.parametrize(
    ("scale", "shift", "unit", "looks", "severity"),
    [
        (100, 0, "open_fraction", "percent", "error"),
        (255, 0, "open_fraction", "0 to 255", "error"),
        (0.08, 0, "open_fraction", "metres", "warning"),
        (2, -1, "open_fraction", "a command from -1 to 1", "error"),
        (-1, 1, "close_command", "a fraction from 0 to 1", "warning"),
        (1.3, 0, "open_fraction", "an angle or another calibration", "warning"),
    ],
)
def test_a_gripper_on_another_scale(
    record: Record, scale: float, shift: float, unit: str, looks: str, severity: str
) -> None:
    made = record()
    made.action[:, GRIPPER] = scale * made.action[:, GRIPPER] + shift
    robot = attrs.evolve(made.robot, action=fla.Space(joints(predict="relative"), fla.gripper(unit=unit, limits=None)))
    finding = only(made.findings(robot=robot), "gripper range", severity)
    assert finding.name == "action gripper"
    assert finding.seen.endswith(f"look like {looks}")


# --- Motion -----------------------------------------------------------------------------------------------------------


def test_a_jump(record: Record) -> None:
    made = record()
    made.state[made.rows(5)][30:, 0] += 0.7
    finding = next(f for f in made.findings() if f.check == "jumps")
    assert (finding.severity, finding.name, finding.episode, finding.frame) == ("warning", "state waist", 5, 30)


def test_an_angle_that_wraps_around(record: Record) -> None:
    made = record()
    for column in (made.state, made.action):
        column[:, 1] = (column[:, 1] + 2.6 + np.pi) % (2 * np.pi) - np.pi
    findings = [f for f in made.findings(robot=None) if f.check == "jumps"]
    assert [f.name for f in findings] == ["state shoulder"]
    assert findings[0].seen.endswith("the angle wraps around")


def test_waiting(record: Record) -> None:
    made = record()
    for episode in range(8):
        for column in (made.state, made.action):
            column[made.rows(episode)][-40:] = column[made.rows(episode)][-40]
    finding = only(made.findings(), "idle", "warning")
    assert "--skip-idle" in finding.advice


# --- Actions and states -----------------------------------------------------------------------------------------------


def steps(made: Any) -> np.ndarray:
    """`[N, 3]`: from each state to the next, within episodes."""
    moved = np.diff(made.state[:, :3], axis=0, append=made.state[-1:, :3])
    moved[np.cumsum(made.lengths) - 1] = 0
    return moved


@pytest.mark.parametrize("predict", ["as_is", "relative"])
def test_steps_that_are_declared_positions(record: Record, predict: Any) -> None:
    made = record()
    made.action[:, :3] = steps(made)
    robot = attrs.evolve(made.robot, action=fla.Space(joints(predict=predict), fla.gripper()))
    finding = only(made.findings(robot=robot), "representation", "error")
    assert finding.name == "waist, shoulder, elbow"
    assert "representation='delta'" in finding.advice
    assert ("subtract the state once more" in finding.seen) == (predict == "relative")


def test_scaled_steps_that_are_declared_positions(record: Record) -> None:
    made = record()
    made.action[:, :3] = np.clip(20 * steps(made), -1, 1)
    robot = attrs.evolve(made.robot, action=fla.Space(joints(unit="normalized"), fla.gripper()))
    assert made.found(robot=robot) == [("representation", "error")]


@pytest.mark.parametrize("declared", ["delta", "velocity"])
def test_positions_that_are_declared_steps(record: Record, declared: Any) -> None:
    made = record()
    robot = attrs.evolve(made.robot, action=fla.Space(joints(representation=declared), fla.gripper()))
    assert "representation='absolute'" in only(made.findings(robot=robot), "representation", "error").advice


@pytest.mark.parametrize(
    ("declared", "unit", "scale", "right"),
    [("delta", "rad", 20, "velocity"), ("velocity", "rad/s", 1, "delta")],
)
def test_rates_that_are_declared_steps_and_the_reverse(
    record: Record, declared: Any, unit: str, scale: float, right: str
) -> None:
    made = record()
    made.action[:, :3] = scale * steps(made)
    robot = attrs.evolve(made.robot, action=fla.Space(joints(representation=declared, unit=unit), fla.gripper()))
    assert f"representation={right!r}" in only(made.findings(robot=robot), "representation", "error").advice


@pytest.mark.parametrize(("declared", "unit", "scale"), [("delta", "rad", 1), ("velocity", "rad/s", 20)])
def test_steps_and_rates_that_are_declared_as_such(record: Record, declared: Any, unit: str, scale: float) -> None:
    made = record()
    made.action[:, :3] = scale * steps(made)
    robot = attrs.evolve(made.robot, action=fla.Space(joints(representation=declared, unit=unit), fla.gripper()))
    assert made.found(robot=robot) == []


def test_actions_that_are_the_states(record: Record) -> None:
    made = record()
    made.action[:] = made.state
    assert made.found() == made.found(robot=None) == [("copied", "error")]


@pytest.mark.parametrize(("rows", "seen"), [(10, "10 frames (500 ms) after"), (-3, "3 frames (150 ms) before")])
def test_actions_of_another_moment(record: Record, rows: int, seen: str) -> None:
    made = record()
    for episode in range(8):
        part = made.rows(episode)
        command = made.action[part].copy()
        moment = np.arange(len(command)) + rows - 2  # the robot follows its commands after two rows as it is
        made.action[part] = command[np.clip(moment, 0, len(command) - 1)]
    finding = only(made.findings(), "delay", "warning")
    assert finding.name == "waist, shoulder, elbow"
    assert seen in finding.seen


def test_a_leader_with_another_zero(record: Record) -> None:
    made = record()
    made.action[:, 2] += 0.4
    finding = only(made.findings(), "offset", "warning")
    assert finding.name == "elbow"
    assert "0.4 rad" in finding.seen


# --- Time -------------------------------------------------------------------------------------------------------------


def test_a_rate_that_is_not_the_robot_s(record: Record) -> None:
    finding = only(record(fps=30).findings(), "rate", "warning")
    assert "0.67 times as fast" in finding.advice


def test_lost_frames(record: Record) -> None:
    made = record()
    made.timestamp[made.rows(2)][25:] += 0.2
    finding = only(made.findings(), "timestamps", "warning")
    assert (finding.episode, finding.frame) == (2, 25)
    assert "1 gap, the longest of 0.250 s" in finding.seen


def test_a_clock_that_goes_wrong(record: Record) -> None:
    made = record()
    made.timestamp *= 20 / 19
    assert "19 per second" in only(made.findings(), "timestamps", "warning").seen


def test_a_clock_that_goes_back(record: Record) -> None:
    made = record()
    made.timestamp[made.rows(6)][11] = 0
    finding = only(made.findings(), "timestamps", "error")
    assert (finding.episode, finding.frame) == (6, 11)


# --- Limits of the question -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [{"frames": -1}, {"horizon": 0}])
def test_numbers_that_make_no_sense_are_refused(record: Record, options: dict[str, int]) -> None:
    with pytest.raises(ConfigError, match=next(iter(options))):
        record().findings(**options)
