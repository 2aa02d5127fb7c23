"""What a `Field` and a `Space` refuse, and how vectors are gathered from a record."""

from typing import Any

import numpy as np
import pytest

import fla_sdk as fla
from fla_sdk.errors import EmbodimentError
from fla_sdk.space import RESOLUTION, ROTATION_WIDTH, UNITS


def field(**changes: Any) -> fla.Field:
    return fla.Field(**{"names": ("a", "b", "c"), "unit": "rad", **changes})


@pytest.mark.parametrize("representation", ["delta", "velocity"])
def test_relative_prediction_of_data_that_is_no_position_is_refused(representation: Any) -> None:
    with pytest.raises(
        EmbodimentError, match=f"field a, b, c: predict='relative' of data that is already '{representation}'"
    ):
        field(representation=representation, predict="relative")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"unit": "radian"}, "unknown unit 'radian'; did you mean 'rad'"),
        ({"unit": "open_fractoin"}, "did you mean 'open_fraction'"),
        ({"unit": "zzzz"}, r"unknown unit 'zzzz' \(known: rad, m, "),
        ({"representation": "relative"}, "representation is 'relative', must be one of absolute, delta, velocity"),
        ({"predict": "delta"}, "predict is 'delta', must be one of as_is, relative"),
        ({"rotation": "euler"}, "unknown rotation 'euler'"),
        ({"rotation": "quaternion_xyzw"}, "a quaternion_xyzw rotation has 4 numbers, this field has 3"),
        ({"rotation": "axis_angle", "predict": "relative"}, "rotations cannot be predicted 'relative'"),
        ({"limits": (1.0, 1.0)}, r"limits \(1.0, 1.0\) must be \(low, high\) with low < high"),
        ({"names": ()}, "needs at least one dimension name"),
        ({"names": "abc"}, r"expected a sequence of names, got the string 'abc'; write \('abc',\)"),
    ],
)
def test_contradictions_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(EmbodimentError, match=message):
        field(**changes)


@pytest.mark.parametrize(("rotation", "width"), ROTATION_WIDTH.items())
def test_rotations_of_the_right_width_are_accepted(rotation: Any, width: int) -> None:
    assert field(names=tuple("abcdef"[:width]), rotation=rotation).width == width


def test_every_gripper_polarity_has_its_own_unit() -> None:
    """One unit is never read in two ways."""
    assert len(set(UNITS.values())) == len(UNITS)
    assert fla.gripper().unit == "open_fraction"


def test_every_unit_says_what_is_noise() -> None:
    assert RESOLUTION.keys() == UNITS.keys()
    assert min(RESOLUTION.values()) > 0


def test_names_are_unique_within_a_space() -> None:
    with pytest.raises(EmbodimentError, match="must be unique within a space, repeated: elbow, wrist"):
        fla.Space(fla.joints("elbow", "wrist", "base"), fla.joints("wrist", "elbow"))
    with pytest.raises(EmbodimentError, match="at least one field"):
        fla.Space()


def test_slices_cover_the_vector_in_order() -> None:
    space = fla.Space(fla.joints("a", "b"), fla.gripper(), fla.joints("c"))
    assert space.names == ("a", "b", "gripper", "c")
    assert [(s.start, s.stop) for _, s in space.slices()] == [(0, 2), (2, 3), (3, 4)]
    assert space.width == 4


def test_gather_prefers_the_whole_vector_then_fields() -> None:
    space = fla.Space(
        fla.joints("a", "b", aliases=("joints",)), fla.gripper(aliases=("grip", "hand")), aliases=("all",)
    )
    parts = {"joints": np.array([1.0, 2.0]), "hand": np.float32(0.5)}
    np.testing.assert_array_equal(space.gather(parts, "state"), [1.0, 2.0, 0.5])
    whole = {"observation.state": [3.0, 4.0, 5.0], **parts}
    np.testing.assert_array_equal(space.gather(whole, "state"), [3.0, 4.0, 5.0])
    np.testing.assert_array_equal(space.gather({"all": [6.0, 7.0, 8.0], **whole}, "state"), [6.0, 7.0, 8.0])
    assert space.gather({"joints": np.array([1.0, 2.0])}, "state") is None
    assert space.gather({"observation.state": [1.0]}, "action") is None
    columns = {"joints": np.zeros((7, 2)), "grip": np.ones(7)}
    gathered = space.gather(columns, "action")
    assert gathered is not None
    assert gathered.shape == (7, 3)
    assert space.keys("action") == "'all' or 'actions' or 'action', or all of 'joints', 'grip'"
