"""What a robot's numbers mean as plain values, its hash, and how two of them differ. Needs nothing but Python.

Server and client each have a description of the robot. The hash tells whether it is the same one; where it is not, the
differences are told field by field.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

from fla_sdk.errors import ProtocolError

if TYPE_CHECKING:
    from fla_sdk.embodiment import Embodiment
    from fla_sdk.space import Space

_MOST_DIMENSIONS = 1000


def describe(robot: "Embodiment") -> dict[str, Any]:
    """`state` and `action` as lists of fields, `cameras`, `control_hz` and `control_mode`: what travels."""
    return {
        "state": _plain(robot.state),
        "action": _plain(robot.action),
        "cameras": [{"name": camera.name, "required": camera.required} for camera in robot.cameras],
        "control_hz": float(robot.control_hz),
        "control_mode": robot.control_mode,
    }


def schema_of(robot: "Embodiment | Mapping[str, Any]") -> str:
    """16 hexadecimal digits of an embodiment, or of its description: the same where the same numbers mean the same.

    The first half of the SHA-256 of `state`, `action`, `cameras` and `control_mode` as JSON with sorted keys, without
    spaces, other characters than ASCII escaped.
    """
    known = robot if isinstance(robot, Mapping) else describe(robot)
    meaning = {key: known[key] for key in ("state", "action", "cameras", "control_mode")}
    text = json.dumps(meaning, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def differences(
    ours: Mapping[str, Any],
    theirs: Mapping[str, Any],
    *,
    we: str = "the server expects",
    they: str = "the client has",
) -> list[str]:
    """A line for each part in which two descriptions differ, with both sides; empty where they agree.

    What `theirs` leaves out is not compared. Raises `ProtocolError` when `theirs` is no description.
    """
    found: list[str] = []
    for kind in ("state", "action"):
        if theirs.get(kind) is None:
            continue
        own, other = _dimensions(ours[kind], kind), _dimensions(theirs[kind], kind)
        names, told = [one["name"] for one in own], [one["name"] for one in other]
        if names != told:
            order = ", the same names in another order" if sorted(names) == sorted(told) else ""
            found.append(f"{kind}: {we} {', '.join(names)}; {they} {', '.join(told)}{order}")
            continue
        for one, two in zip(own, other, strict=True):
            found += [
                f"{kind} {one['name']}, {key}: {we} {_said(one[key])}; {they} {_said(two[key])}"
                for key in one
                if key in two and one[key] != two[key]
            ]
    if theirs.get("cameras") is not None:
        own, other = _cameras(ours["cameras"]), _cameras(theirs["cameras"])
        if own != other:
            found.append(f"cameras: {we} {_listed(own)}; {they} {_listed(other)}")
    mode = theirs.get("control_mode")
    if mode is not None and mode != ours["control_mode"]:
        found.append(f"control_mode: {we} {_said(ours['control_mode'])}; {they} {_said(mode)}")
    return found


def _plain(space: "Space") -> list[dict[str, Any]]:
    return [
        {
            "names": list(field.names),
            "unit": field.unit,
            "representation": field.representation,
            "limits": None if field.limits is None else [float(bound) for bound in field.limits],
            "rotation": field.rotation,
        }
        for field in space
    ]


def _dimensions(fields: Any, kind: str) -> list[dict[str, Any]]:
    """One map per dimension, so that it does not matter how they were grouped."""
    found: list[dict[str, Any]] = []
    for field in _maps(fields, kind):
        names = field.get("names")
        if not isinstance(names, Sequence) or isinstance(names, (str, bytes)):
            raise ProtocolError(f"each field of {kind!r} needs 'names', a list of text")
        told = {key: field[key] for key in ("unit", "representation", "limits", "rotation") if key in field}
        found += [{"name": str(name)[:100], **told} for name in cast("Sequence[Any]", names)]
        if len(found) > _MOST_DIMENSIONS:
            raise ProtocolError(f"{kind!r} has more than {_MOST_DIMENSIONS} dimensions")
    return found


def _cameras(cameras: Any) -> dict[str, bool]:
    return {str(one.get("name"))[:100]: bool(one.get("required", True)) for one in _maps(cameras, "cameras")}


def _maps(value: Any, kind: str) -> list[Mapping[str, Any]]:
    entries: list[Any] = list(cast("Sequence[Any]", value)) if isinstance(value, (list, tuple)) else [None]
    if not all(isinstance(one, Mapping) for one in entries):
        raise ProtocolError(f"{kind!r} in the description of a robot must be a list of maps")
    return entries


def _listed(cameras: Mapping[str, bool]) -> str:
    shown = [name if required else f"{name} (optional)" for name, required in sorted(cameras.items())]
    return ", ".join(shown) or "none"


def _said(value: Any) -> str:
    if isinstance(value, (list, tuple)):
        return " to ".join(
            f"{one:g}" if isinstance(one, float) else str(one)[:40] for one in cast("Sequence[Any]", value)[:4]
        )
    return "nothing" if value is None else str(value)[:100]
