"""What an `Embodiment` refuses to be, and what it makes of observations."""

from typing import Any

import numpy as np
import pytest

import fla_sdk as fla
from fla_sdk.errors import EmbodimentError, ObservationError


def robot(**changes: Any) -> fla.Embodiment:
    parts: dict[str, Any] = {
        "name": "robot",
        "state": fla.Space(fla.joints("shoulder", "elbow"), fla.gripper()),
        "action": fla.Space(fla.joints("shoulder", "elbow", predict="relative"), fla.gripper()),
        "cameras": (
            fla.Camera("top", slot="base_0_rgb", aliases=("overview",)),
            fla.Camera("wrist", slot="left_wrist_0_rgb", required=False),
        ),
        "control_hz": 30,
        "image_shape": (6, 8),
    }
    return fla.Embodiment(**{**parts, **changes})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"action": fla.Space(fla.joints("shoulder", "elbo", predict="relative"))},
            (
                r"action 'elbo' is predicted relative to the state, but the state has no dimension of that name; "
                r"did you mean 'elbow'\? \(state: shoulder, elbow, gripper\)"
            ),
        ),
        (
            {"action": fla.Space(fla.joints("shoulder", "elbow", unit="m", predict="relative"))},
            "action 'shoulder' is in 'm', the state of that name in 'rad'; a relative prediction needs the same unit",
        ),
        ({"name": "my robot"}, "the name must be letters, digits"),
        ({"name": ""}, "not empty"),
        ({"control_hz": 0}, "control_hz is 0, must be above 0"),
        ({"prompt": "do {what}"}, r"prompt 'do \{what\}' has no '\{task\}'"),
        ({"cameras": (fla.Camera("a", slot="x"), fla.Camera("a", slot="y"))}, "camera name used twice: a"),
        ({"cameras": (fla.Camera("a", slot="x"), fla.Camera("b", slot="x"))}, "camera slot used twice: x"),
    ],
)
def test_contradictions_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(EmbodimentError, match=message):
        robot(**changes)


def test_relative_dimensions_are_matched_by_name() -> None:
    action = fla.Space(fla.gripper(), fla.joints("elbow", "shoulder", predict="relative"))
    assert robot(action=action).relative_to().tolist() == [-1, 1, 0]


def test_unused_cameras_share_no_slot() -> None:
    cameras = (fla.Camera("a", slot=None, required=False), fla.Camera("b", slot=None, required=False))
    assert robot(cameras=cameras).observe({"state": np.zeros(3), "task": "t"}).images == {}


def changed(**changes: Any) -> dict[str, Any]:
    return {**robot().example_observation(), **changes}


def without(*keys: str) -> dict[str, Any]:
    return {key: value for key, value in robot().example_observation().items() if key not in keys}


IMAGE = np.zeros((6, 8, 3), np.uint8)


@pytest.mark.parametrize(
    ("observation", "message"),
    [
        (without("state"), "the state is missing; expected 'state' or 'observation.state', got keys images/top"),
        (changed(state=np.zeros(4)), r"shape \(3,\) for shoulder, elbow, gripper; got shape \(4,\)"),
        (changed(state=np.zeros((1, 3))), r"got shape \(1, 3\)"),
        (changed(state=np.array(["a", "b", "c"])), "the state must be numbers, got dtype <U1"),
        (changed(state=np.array([0.0, np.nan, np.inf])), "the state is not finite in elbow, gripper"),
        (without("images/top"), "camera 'top' is missing; expected an image under 'overview' or 'images/top' or "),
        (changed(**{"images/top": IMAGE[..., 0]}), r"camera 'top' \(key 'images/top'\) must have shape .*got \(6, 8\)"),
        (changed(**{"images/top": IMAGE.astype(np.int32)}), "must be uint8, or float in .*got int32"),
        (changed(**{"images/top": IMAGE + 2.0}), "a float image must lie in"),
        (changed(**{"images/top": IMAGE + np.nan}), "a float image must lie in"),
        (without("task"), "no task; send what to do as a string under 'task' or 'prompt'"),
        (changed(task=7), "no task"),
    ],
)
def test_refused_observations_show_both_sides(observation: dict[str, Any], message: str) -> None:
    with pytest.raises(ObservationError, match=message):
        robot().observe(observation)


@pytest.mark.parametrize(
    "observation",
    [
        {"images": {"top": IMAGE}, "state": np.zeros(3), "prompt": "go"},
        {"overview": IMAGE, "observation.state": [0, 0, 0], "task": b"go"},
        {"observation.images.top": IMAGE.transpose(2, 0, 1), "state": np.zeros(3, np.float32), "task": np.array("go")},
        {"images/top": IMAGE.astype(np.float32), "state": np.zeros(3, np.int64), "prompt": "go", "other": "ignored"},
    ],
)
def test_observations_of_many_clients_are_the_same_sample(observation: dict[str, Any]) -> None:
    sample = robot().observe(observation)
    assert list(sample.images) == ["top"]
    np.testing.assert_array_equal(sample.images["top"], IMAGE)
    assert np.asarray(sample.images["top"]).dtype == np.uint8
    assert sample.state.dtype.kind == "f"
    assert sample.state.tolist() == [0, 0, 0]
    assert sample.task == "go"


def test_a_default_task_stands_in() -> None:
    assert robot(default_task="wait").observe(without("task")).task == "wait"
    assert robot(default_task="wait").observe(changed(task="go")).task == "go"


def test_example_observations_follow_their_seed() -> None:
    one, again, other = (robot().example_observation(seed) for seed in (1, 1, 2))
    assert all(np.array_equal(one[key], again[key]) for key in one)
    assert not np.array_equal(one["state"], other["state"])
    assert 0 <= one["state"][2] <= 1, "within the gripper's limits"


def test_descriptions_are_frozen() -> None:
    import attrs

    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        robot().name = "other"  # pyright: ignore[reportAttributeAccessIssue]
