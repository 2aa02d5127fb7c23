"""The conformance kit accepts the first robots and says what is wrong with bad ones."""

from typing import Any

import attrs
import numpy as np
import pytest

import fla_sdk as fla
from fla_sdk.errors import ConfigError
from fla_sdk.testing import check_embodiment

ROBOTS = fla.load_plugins(environment={}).embodiments


@pytest.mark.parametrize("name", sorted(ROBOTS))
def test_first_robots_conform(name: str) -> None:
    check_embodiment(ROBOTS[name])


def flip(vectors: Any) -> Any:
    return vectors * np.array([1.0, -1.0, 1.0])


def in_place(vectors: Any) -> Any:
    vectors[..., 1] *= -1
    return vectors


def first_axis(vectors: Any) -> Any:
    flipped = vectors.copy()
    flipped[1] *= -1
    return flipped


def robot(**functions: Any) -> fla.Embodiment:
    same: dict[str, Any] = {"state_to_model": flip, "actions_to_model": flip, "actions_from_model": flip}
    return fla.Embodiment(
        name="robot",
        state=fla.Space(fla.joints("shoulder", "elbow"), fla.gripper()),
        action=fla.Space(fla.joints("shoulder", "elbow", predict="relative"), fla.gripper()),
        cameras=(fla.Camera("top", slot="base_0_rgb"),),
        control_hz=10,
        image_shape=(8, 8),
        conversion=fla.Conversion(**{**same, **functions}),
    )


def test_a_good_conversion_conforms() -> None:
    check_embodiment(robot())


@pytest.mark.parametrize(
    ("functions", "message"),
    [
        (
            {"actions_from_model": lambda v: v},
            r"actions_from_model\(actions_to_model\(a\)\) must be a: shoulder, elbow came",
        ),
        ({"state_to_model": in_place}, "state_to_model writes to its input"),
        ({"actions_to_model": in_place}, "actions_to_model writes to its input"),
        ({"state_to_model": first_axis}, r"state_to_model gives other numbers for vectors of shape"),
        ({"actions_to_model": lambda v: v[..., :2]}, r"actions_to_model returned shape \(64, 2\) for \(64, 3\)"),
        ({"actions_to_model": lambda v: np.where(v == v, np.nan, v)}, "actions_to_model is not finite .*, in shoulder"),
        (
            {"state_to_model": lambda v: v + 0.0},
            "'elbow' is predicted relative to the state, but where action and state",
        ),
    ],
)
def test_bad_conversions_are_explained(functions: dict[str, Any], message: str) -> None:
    with np.errstate(all="ignore"), pytest.raises(AssertionError, match=f"embodiment 'robot': {message}"):
        check_embodiment(robot(**functions))


def test_overlapping_aliases_are_explained() -> None:
    cameras = (fla.Camera("top", slot="base_0_rgb"), fla.Camera("side", slot="left_wrist_0_rgb", aliases=("state",)))
    with pytest.raises(AssertionError, match=r"example_observation\(\) is refused in flat form: robot: camera 'side'"):
        check_embodiment(attrs.evolve(robot(), cameras=cameras))


def test_a_slot_that_no_model_has_is_explained() -> None:
    cameras = (fla.Camera("top", slot="base_rgb"),)
    with pytest.raises(ConfigError, match="slot 'base_rgb', which the model does not have; did you mean 'base_0_rgb'"):
        check_embodiment(attrs.evolve(robot(), cameras=cameras))


def test_wide_robots_get_a_wide_model() -> None:
    names = [f"joint{i}" for i in range(60)]
    space = fla.Space(fla.joints(*names, predict="relative"))
    check_embodiment(attrs.evolve(robot(), state=space, action=space, conversion=None))
