"""The hash of a robot's description, and how two of them differ."""

import json
from typing import Any

import attrs
import pytest

from fla_sdk.embodiment import Camera, Embodiment
from fla_sdk.errors import ProtocolError
from fla_sdk.schema import describe, differences, schema_of
from fla_sdk.space import Field, Space, gripper, joints

ARM = Embodiment(
    name="arm",
    state=Space(joints("shoulder", "elbow", limits=(-3, 3)), gripper()),
    action=Space(joints("shoulder", "elbow", predict="relative"), gripper()),
    cameras=(Camera("top", slot="base_0_rgb"), Camera("wrist", slot=None, required=False)),
    control_hz=20,
)

SWAPPED = (
    "state: the server expects shoulder, elbow, gripper; the client has elbow, shoulder, gripper, "
    "the same names in another order"
)


def test_the_hash_is_the_one_of_the_protocol() -> None:
    """Clients in other languages have it in their code: it may not change."""
    assert schema_of(ARM) == schema_of(describe(ARM)) == schema_of(json.loads(json.dumps(describe(ARM))))
    assert schema_of(ARM) == "40c4e3eea23f4a22"


@pytest.mark.parametrize(
    ("change", "line"),
    [
        (
            {"state": Space(joints("elbow", "shoulder", limits=(-3, 3)), gripper())},
            SWAPPED,
        ),
        (
            {"action": Space(joints("shoulder"), joints("elbow", unit="deg"), gripper())},
            "action elbow, unit: the server expects rad; the client has deg",
        ),
        (
            {"action": Space(joints("shoulder", "elbow", representation="delta"), gripper())},
            "action shoulder, representation: the server expects absolute; the client has delta",
        ),
        (
            {"state": Space(joints("shoulder", "elbow"), gripper())},
            "state shoulder, limits: the server expects -3 to 3; the client has nothing",
        ),
        (
            {"cameras": ARM.cameras[:1]},
            "cameras: the server expects top, wrist (optional); the client has top",
        ),
        (
            {"control_mode": "joint_velocity"},
            "control_mode: the server expects default; the client has joint_velocity",
        ),
    ],
)
def test_what_changes_a_meaning_changes_the_hash_and_is_named(change: dict[str, Any], line: str) -> None:
    other = attrs.evolve(ARM, **change)
    assert schema_of(other) != schema_of(ARM)
    assert differences(describe(ARM), describe(other))[0] == line


def test_what_changes_no_meaning_does_not_matter() -> None:
    other = attrs.evolve(ARM, name="other", control_hz=50, prompt="do: {task}", description="another one")
    assert schema_of(other) == schema_of(ARM)
    assert not differences(describe(ARM), describe(other))
    apart = attrs.evolve(
        ARM, state=Space(joints("shoulder", limits=(-3, 3)), joints("elbow", limits=(-3, 3)), gripper())
    )
    assert not differences(describe(ARM), describe(apart))


def test_what_is_not_told_is_not_compared() -> None:
    assert not differences(describe(ARM), {})
    assert not differences(describe(ARM), {"state": [{"names": ["shoulder", "elbow"]}, {"names": ["gripper"]}]})
    assert differences(describe(ARM), {"state": [{"names": ["shoulder"]}]}, we="we have", they="they have") == [
        "state: we have shoulder, elbow, gripper; they have shoulder"
    ]


def test_a_rotation_is_part_of_the_meaning() -> None:
    def turned(rotation: Any) -> Embodiment:
        pose = Space(Field(names=("x", "y", "z"), unit="rad", rotation=rotation))
        return attrs.evolve(ARM, state=pose, action=pose)

    assert differences(describe(turned("rpy")), describe(turned("axis_angle")))[0] == (
        "state x, rotation: the server expects rpy; the client has axis_angle"
    )


@pytest.mark.parametrize("told", [{"state": 3}, {"state": [3]}, {"state": [{"names": "xy"}]}, {"cameras": {"top": 1}}])
def test_what_is_no_description(told: dict[str, Any]) -> None:
    with pytest.raises(ProtocolError):
        differences(describe(ARM), told)
