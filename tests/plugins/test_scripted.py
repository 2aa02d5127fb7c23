"""`scripted`: motions that need no weights."""

from pathlib import Path
from typing import Any

import attrs
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import fla_sdk as fla
from fla_embodiments.planar import PLANAR2
from fla_plugins.scripted import FADE_S, Hold, Home, ScriptedPolicy, Sine
from fla_sdk.client import PolicyClient
from fla_sdk.errors import ConfigError, FlaError, ObservationError
from fla_sdk.evaluation.server_process import server_process
from fla_sdk.policy.opening import open_policy
from fla_sdk.space import RESOLUTION

REGISTRY = fla.load_plugins()
IMAGE = np.zeros((64, 64, 3), np.uint8)


def _seen(*state: float) -> dict[str, Any]:
    return {"images/front": IMAGE, "state": np.array(state, np.float32), "task": "do nothing"}


@pytest.mark.parametrize("script", ["hold", "sine"])
@pytest.mark.parametrize("name", REGISTRY.embodiments)
def test_every_robot_can_be_wired_up(name: str, script: str) -> None:
    robot = REGISTRY.embodiment(name)
    policy: Any = open_policy(f"scripted:{script}", REGISTRY, embodiment=name)
    observation = robot.example_observation()
    actions = policy.infer(observation)["actions"]
    assert (actions.shape, actions.dtype) == ((round(robot.control_hz), robot.action.width), np.float32)
    state = dict(zip(robot.state.names, observation["state"], strict=True))
    units = {one: field.unit for field in robot.state for one in field.names}
    moved = set()
    for field, part in robot.action.slices():
        low, high = field.limits or (-np.inf, np.inf)
        assert (actions[:, part] >= low).all()
        assert (actions[:, part] <= high).all()
        for one, column in zip(field.names, actions[:, part].T, strict=True):
            if np.ptp(column) > 0:
                moved.add(one)
            elif field.representation != "absolute":
                assert not column.any()
            elif units.get(one) == field.unit:
                np.testing.assert_array_equal(column, np.clip(state[one], low, high))
    assert moved == ({robot.action.names[0]} if script == "sine" else set())


GRIPPER = PLANAR2.state.fields[0]


def _gripped(told: str, reported: str | None) -> fla.Embodiment:
    """An arm whose gripper is told in one unit and reported in another, or not at all."""
    state = [fla.gripper(unit=reported, limits=None)] if reported else []
    return fla.Embodiment(
        name="arm",
        state=fla.Space(GRIPPER, *state),
        action=fla.Space(GRIPPER, fla.gripper(unit=told, limits=None)),
        cameras=(),
        control_hz=10,
    )


@pytest.mark.parametrize(
    ("told", "reported", "value", "action"),
    [
        ("close_command", "closed_fraction", 1.0, 1.0),
        ("close_command", "closed_fraction", 0.25, -0.5),
        ("open_command", "open_percent", 100.0, 1.0),
        ("open_fraction", "closed_fraction", 0.2, 0.8),
        ("close_command", None, None, -1.0),
        ("open_fraction", None, None, 1.0),
    ],
)
def test_a_gripper_keeps_its_opening(told: str, reported: str | None, value: float | None, action: float) -> None:
    policy = ScriptedPolicy(_gripped(told, reported), Hold(horizon=2))
    state = [0.5, -0.5] if value is None else [0.5, -0.5, value]
    np.testing.assert_allclose(policy.infer(_seen(*state))["actions"], [[0.5, -0.5, action]] * 2, rtol=1e-6)


@given(
    start=st.floats(-3.1, 3.1),
    lag=st.floats(0.0, 0.9),
    replans=st.lists(st.integers(1, 10), min_size=30, max_size=40),
    delay_s=st.floats(0.0, 0.5),
)
def test_a_sine_stays_where_it_is(start: float, lag: float, replans: list[int], delay_s: float) -> None:
    """However late a robot executes, however often it asks, and however far it lags behind."""
    now_s = 0.0
    motion = Sine(joint="joint2", amplitude=0.1, period_s=2.0)
    policy = ScriptedPolicy(PLANAR2, motion, clock=lambda: now_s)
    joint, path = start, [start]
    for replan in replans:
        actions = policy.infer(_seen(0.3, joint))["actions"]
        np.testing.assert_allclose(actions[:, 0], 0.3, rtol=1e-6)
        # Nothing jumps: by the motion itself, and by what is left of the way to its middle.
        steps = np.abs(np.diff(actions[:, 1], prepend=joint))
        assert steps.max() <= 0.1 * 2 * np.pi / 2.0 / 10 + 0.32 / (10 * FADE_S)
        for action in actions[:replan, 1]:
            joint += (1 - lag) * (action - joint)
            path.append(joint)
        now_s += replan / 10 + delay_s
    assert np.abs(np.array(path) - start).max() <= 0.4
    assert np.abs(path).max() <= np.pi + 1e-6


@given(name=st.sampled_from(["forward", "x"]), period=st.floats(1.0, 4.0), replan=st.integers(1, 10))
def test_rates_and_steps_add_up_to_nothing(name: str, period: float, replan: int) -> None:
    now_s = 0.5
    fields = (
        fla.Field(names=("forward",), unit="m/s", representation="velocity"),
        fla.Field(names=("x",), unit="m", representation="delta"),
    )
    robot = fla.Embodiment(name="cart", state=fla.Space(GRIPPER), action=fla.Space(*fields), cameras=(), control_hz=10)
    policy = ScriptedPolicy(robot, Sine(joint=name, amplitude=0.1, period_s=period), clock=lambda: now_s)
    executed: list[float] = []
    while len(executed) < 80:
        executed += policy.infer(_seen(0, 0))["actions"][:replan, robot.action.names.index(name)].tolist()
        now_s += replan / 10
    if name == "forward":  # metres per second, for a tenth of one
        assert np.abs(np.cumsum(executed) / 10).max() <= 2 * (0.1 * period / (2 * np.pi) + 0.01)
    else:
        assert np.abs(np.cumsum(executed)).max() <= 2 * 0.1 + 1e-6


@given(start=st.tuples(st.floats(-3, 3), st.floats(-3, 3)), target=st.floats(-3, 3), replan=st.integers(1, 10))
def test_home_is_reached_slowly(start: tuple[float, float], target: float, replan: int) -> None:
    policy = ScriptedPolicy(PLANAR2, Home(pose={"joint1": target}, speed=2.0))
    joint = start[0]
    for _ in range(35):
        actions = policy.infer(_seen(joint, start[1]))["actions"]
        assert np.abs(np.diff(actions[:, 0], prepend=joint)).max() <= 0.2 + 1e-5
        np.testing.assert_allclose(actions[:, 1], start[1], rtol=1e-6, atol=1e-6)
        joint = actions[min(replan, len(actions)) - 1, 0]
    assert joint == pytest.approx(target, abs=1e-5)


@pytest.mark.parametrize(
    ("script", "options", "reason"),
    [
        ("wave", {}, r"unknown script 'wave'.*\(known: hold, home, sine\)"),
        ("hold", {"joint": "joint1"}, r"--model-option for scripted:hold: Hold has no field 'joint'"),
        ("sine", {"joint": "joint"}, r"unknown action dimension of planar2 'joint'; did you mean 'joint"),
        ("sine", {"period_s": 0}, "must be above 0, got None and 0.0"),
        ("sine", {"amplitude": "big"}, "expected float, got 'big'"),
        ("hold", {"horizon": 0}, "horizon is 0, must be above 0"),
        ("home", {}, r"where is home\?.*pose=.*joint1, joint2"),
        ("home", {"pose": {"joint3": 0}}, "unknown action dimension of planar2 'joint3'"),
        ("home", {"pose": {"joint1": 4}}, "home has 'joint1' at 4, planar2 allows -3.14159 to 3.14159 rad"),
        ("home", {"pose": {"joint1": 1}, "speed": 0}, "speed is 0.0, must be above 0"),
    ],
)
def test_options_that_make_no_sense(script: str, options: dict[str, Any], reason: str) -> None:
    with pytest.raises(FlaError, match=reason):
        open_policy(f"scripted:{script}", REGISTRY, embodiment="planar2", model_options=options)


def test_a_robot_has_to_be_named_and_able_to_hold_still() -> None:
    with pytest.raises(ConfigError, match=r"say which with --embodiment \(.*planar2"):
        open_policy("scripted:hold", REGISTRY)
    with pytest.raises(ConfigError, match="'x', which leads to no pose"):
        open_policy("scripted:home", REGISTRY, embodiment="bridge", model_options={"pose": {"x": 1}})
    blind = attrs.evolve(PLANAR2, action=fla.Space(fla.joints("elbow", unit="deg")))
    with pytest.raises(ConfigError, match=r"state \(joint1 \[rad\], joint2 \[rad\]\) does not say where elbow \[deg\]"):
        ScriptedPolicy(blind, Hold())


def test_observations_are_checked_as_a_trained_policy_would() -> None:
    policy = ScriptedPolicy(PLANAR2, Hold())
    with pytest.raises(ObservationError, match="camera 'front' is missing"):
        policy.infer({"state": np.zeros(2), "task": "do nothing"})


def test_a_client_moves_a_joint_over_the_network(tmp_path: Path) -> None:
    options = ("--embodiment", "planar2", "--model-option", "joint=joint2", "--model-option", "horizon=16")
    with server_process("scripted:sine", arguments=options) as url, PolicyClient(url, embodiment="planar2") as client:
        actions = client.infer(_seen(0.5, 0.0))["actions"]
    assert actions.shape == (16, 2)
    np.testing.assert_allclose(actions[:, 0], 0.5)
    assert 0 < np.ptp(actions[:, 1]) <= 40 * RESOLUTION["rad"] + 0.05
