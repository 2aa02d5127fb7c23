"""Commands stay within the limits, whatever is asked for."""

import logging
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fla_sdk.client import SafetyFilter
from fla_sdk.embodiment import Embodiment
from fla_sdk.errors import ConfigError, UnknownNameError
from fla_sdk.schema import describe
from fla_sdk.space import Space, gripper, joints

HZ = 50.0
ARM = Embodiment(
    name="arm",
    state=Space(joints("shoulder", "elbow", limits=(-3.0, 3.0)), gripper()),
    action=Space(joints("shoulder", "elbow", limits=(-1.0, 2.0)), gripper()),
    cameras=(),
    control_hz=HZ,
)
BASE = Embodiment(
    name="base",
    state=Space(joints("x")),
    action=Space(joints("x", unit="m/s", representation="velocity", limits=(-0.5, 0.5))),
    cameras=(),
    control_hz=HZ,
)
WANTED = st.lists(
    st.tuples(*[st.sampled_from([-1e6, -5.0, -1.0, -0.3, 0.0, 0.1, 0.5, 1.9, 2.0, 7.0, np.nan, np.inf])] * 3),
    min_size=1,
    max_size=25,
)


@settings(max_examples=60)
@given(
    WANTED,
    st.integers(1, 12),
    st.sampled_from([0.2, 2.0, 20.0]),
    st.sampled_from([5.0, 200.0, 5000.0]),
    st.tuples(st.floats(-1, 2), st.floats(-1, 2), st.floats(0, 1)),
)
def test_position_velocity_and_jerk_stay_within_their_limits(
    wanted: list[tuple[float, ...]], each: int, speed: float, jerk: float, start: tuple[float, ...]
) -> None:
    """The gripper has a velocity of its own and no limit of jerk."""
    safety = SafetyFilter(ARM, velocity={"rad": speed, "gripper": 10 * speed}, jerk={"rad": jerk})
    safety.reset(np.array(start))
    given = [np.array(start)] * 3
    for action in wanted:
        given += [safety(np.array(action)) for _ in range(each)]
    path = np.array(given)
    assert (path >= [-1, -1, 0]).all()
    assert (path <= [2, 2, 1]).all()
    assert (np.abs(np.diff(path, axis=0)) * HZ <= np.array([speed, speed, 10 * speed]) * (1 + 1e-6)).all()
    assert (np.abs(np.diff(path[:, :2], n=3, axis=0)) * HZ**3 <= jerk * (1 + 1e-6)).all()


@pytest.mark.parametrize("jerk", [None, {"rad": 100.0}])
def test_a_target_is_reached_and_kept(jerk: Any) -> None:
    safety = SafetyFilter(ARM, velocity={"rad": 2.0}, jerk=jerk)
    safety.reset(np.zeros(3))
    path = np.array([safety(np.array([1.5, -0.7, 1.0])) for _ in range(150)])
    np.testing.assert_allclose(path[-20:], np.tile([1.5, -0.7, 1.0], (20, 1)), atol=1e-6)
    assert path.max() < 1.5 + 2e-3  # hardly overshooting: jerks are tried in steps


def test_what_is_within_the_limits_passes_unchanged() -> None:
    """A movement that starts gently, with a fifth of each limit."""
    safety = SafetyFilter(ARM, velocity={"rad": 2.0}, jerk={"rad": 100.0})
    safety.reset(np.zeros(3))
    times = np.arange(200) / HZ
    path = np.stack([(1 - np.cos(times)) * 0.4, -(1 - np.cos(times)) * 0.2, np.zeros_like(times)], axis=1)
    given = np.array([safety(action) for action in path])
    np.testing.assert_allclose(given, path, atol=1e-9)
    assert not safety.report.clamped


def test_what_was_clamped_is_reported() -> None:
    safety = SafetyFilter(ARM, velocity={"shoulder": 1.0})
    safety.reset(np.zeros(3))
    np.testing.assert_allclose(safety(np.array([0.5, 9.0, 0.5])), [0.02, 2.0, 0.5])
    safety(np.array([0.03, 0.0, -1.0]))
    report = safety.report
    assert report.steps == 2
    assert report.clamped == {
        "shoulder": {"position": 0, "velocity": 1, "jerk": 0},
        "elbow": {"position": 1, "velocity": 0, "jerk": 0},
        "gripper": {"position": 1, "velocity": 0, "jerk": 0},
    }
    assert report.last["elbow"] == (9.0, 2.0)
    assert report.last["gripper"] == (-1.0, 0.0)


def test_what_is_not_finite_or_too_old_is_not_executed() -> None:
    safety = SafetyFilter(ARM, stale_after_s=0.5)
    good = np.array([0.5, 0.5, 0.5])
    np.testing.assert_array_equal(safety(good, age_s=0.4), good)
    np.testing.assert_array_equal(safety(good + 0.1, age_s=0.6), good)
    np.testing.assert_array_equal(safety(np.array([np.nan, 1, 1]), age_s=0.1), good)
    np.testing.assert_array_equal(safety(good + 0.1, age_s=0.1), good + 0.1)
    assert (safety.report.stale, safety.report.not_finite) == (1, 1)


def test_a_refused_action_brakes_within_the_jerk() -> None:
    safety = SafetyFilter(ARM, velocity={"rad": 2.0}, jerk={"rad": 100.0})
    safety.reset(np.array([-1.0, -1.0, 0]))
    moving = [safety(np.array([2.0, 2.0, 0])) for _ in range(30)]
    path = np.array([safety(np.full(3, np.nan)) for _ in range(60)])
    assert path[0, 0] > moving[-1][0] + 0.01
    np.testing.assert_array_equal(path[-1], path[-2])


def test_rates_are_limited_as_they_are_and_refused_ones_are_zero() -> None:
    safety = SafetyFilter(BASE)
    np.testing.assert_array_equal(safety(np.array([0.3])), [0.3])
    np.testing.assert_array_equal(safety(np.array([2.0])), [0.5])
    np.testing.assert_array_equal(safety(np.array([np.inf])), [0.0])
    with pytest.raises(ConfigError, match="joint 'x' is commanded by 'velocity' numbers"):
        SafetyFilter(BASE, velocity={"x": 1.0})


def test_the_first_command_starts_from_where_the_robot_is() -> None:
    safety = SafetyFilter(ARM, velocity={"rad": 1.0, "gripper": 1.0})
    np.testing.assert_array_equal(safety(np.array([0.5, 0.5, 0.5])), [0.5, 0.5, 0.5])  # nobody said where that is
    safety.reset(np.array([0.0, 2.5, 0.0]))  # the elbow is beyond its limit
    np.testing.assert_allclose(safety(np.array([0.5, 0.5, 0.5])), [0.02, 1.98, 0.02])
    safety = SafetyFilter(ARM)
    with pytest.raises(ConfigError, match="first action is too old or not finite"):
        safety(np.full(3, np.nan))


def test_a_filter_without_limits_says_so(caplog: pytest.LogCaptureFixture) -> None:
    free = {**describe(ARM), "action": [{"names": ["a", "b"], "unit": "rad", "representation": "absolute"}]}
    free["action"][0]["limits"] = None
    with caplog.at_level(logging.WARNING, logger="fla_sdk.client"):
        assert SafetyFilter(free).unlimited == ("a", "b")
    assert "lets a, b go anywhere" in caplog.text
    assert SafetyFilter(free, position={"rad": (-1, 1)}).unlimited == ()


def test_limits_must_make_sense() -> None:
    with pytest.raises(UnknownNameError, match=r"limit of velocity 'sholder'; did you mean 'shoulder'"):
        SafetyFilter(ARM, velocity={"sholder": 1.0})
    for wrong in ({"position": {"rad": (1.0, 1.0)}}, {"velocity": {"rad": 0.0}}, {"velocity": {"rad": np.nan}}):
        with pytest.raises(ConfigError, match="limits of position must be"):
            SafetyFilter(ARM, **dict[str, Any](wrong))
    with pytest.raises(ConfigError, match="a jerk only together with the velocity"):
        SafetyFilter(ARM, jerk={"rad": 1.0})
    with pytest.raises(ConfigError, match="server does not describe this robot; give the safety filter its Embodiment"):
        SafetyFilter(None)
    with pytest.raises(ConfigError, match="rate_hz is 0"):
        SafetyFilter(ARM, rate_hz=0)
    with pytest.raises(ConfigError, match=r"is \[3\] numbers, got \[2\]"):
        SafetyFilter(ARM)(np.zeros(2))
