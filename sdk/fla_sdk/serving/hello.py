"""The `fla` entry of the server's metadata: which robots it can drive, and what their numbers mean."""

from collections.abc import Mapping
from importlib.metadata import version
from typing import Any

from fla_sdk.embodiment import Embodiment
from fla_sdk.errors import UnknownNameError
from fla_sdk.space import Space


def describe(
    embodiments: Mapping[str, Embodiment], *, default_embodiment: str | None = None, horizon: int | None = None
) -> dict[str, Any]:
    """`{version, embodiments: {name: {...}}, default_embodiment}`, plain values that any client can read.

    `horizon` is the number of actions in a chunk. Raises `UnknownNameError` when the default is not among the names.
    """
    if default_embodiment is not None and default_embodiment not in embodiments:
        raise UnknownNameError("embodiment", default_embodiment, embodiments)
    return {
        "version": version("fla-sdk"),
        "embodiments": {name: _robot(robot, horizon) for name, robot in embodiments.items()},
        "default_embodiment": default_embodiment,
    }


def _robot(robot: Embodiment, horizon: int | None) -> dict[str, Any]:
    return {
        "state": _fields(robot.state),
        "action": _fields(robot.action),
        "cameras": [{"name": camera.name, "required": camera.required} for camera in robot.cameras],
        "control_hz": float(robot.control_hz),
        "control_mode": robot.control_mode,
        "horizon": horizon,
    }


def _fields(space: Space) -> list[dict[str, Any]]:
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
