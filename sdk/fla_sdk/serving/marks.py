"""`Marks`: the reserved entry `fla` of a request, checked."""

import math
from collections.abc import Mapping
from typing import Any, cast

import attrs
import numpy as np
from numpy.typing import NDArray

from fla_sdk.embodiment import Embodiment
from fla_sdk.errors import ObservationError


@attrs.frozen(kw_only=True, eq=False)
class Marks:
    """What a request says about itself."""

    request: int | None = None
    """Echoed."""

    observed_s: float | None = None
    """On the client's clock; echoed."""

    deadline_s: float | None = None
    """From arrival on."""

    rest: NDArray[np.floating] | None = None
    delay: int = 0
    guidance: float | None = None


def read_marks(entry: Any, *, robot: Embodiment | None, horizon: int | None) -> Marks:
    """Raises `ObservationError`. `robot` and `horizon` are of the policy, None where it does not say."""
    if not isinstance(entry, Mapping):
        raise ObservationError(f"the entry 'fla' of a request is a map, got a {type(entry).__name__}")
    entries = cast("Mapping[str, Any]", entry)
    deadline_ms = number(entries, "deadline_ms")
    if deadline_ms is not None and deadline_ms <= 0:
        raise ObservationError(f"'deadline_ms' is {deadline_ms:g}, must be above 0 (milliseconds after arrival)")
    rest = entries.get("rest")
    if rest is not None:
        rest = _rest(rest, robot=robot, horizon=horizon)
    delay, left = integer(entries, "delay") or 0, 0 if rest is None else len(rest)
    if not 0 <= delay <= left:
        raise ObservationError(f"'delay' is {delay}, must be from 0 to {left}, the number of actions in 'rest'")
    return Marks(
        request=integer(entries, "request"),
        observed_s=number(entries, "observed_s"),
        deadline_s=None if deadline_ms is None else deadline_ms / 1e3,
        rest=rest if left else None,
        delay=delay,
        guidance=number(entries, "guidance"),
    )


def number(entries: Mapping[str, Any], key: str) -> float | None:
    """The finite number under `key`; None when there is none."""
    value = _plain(entries.get(key))
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise ObservationError(f"{key!r} must be a finite number, got {str(value)[:60]!r}")
    return float(value)


def integer(entries: Mapping[str, Any], key: str) -> int | None:
    """The whole number under `key`; None when there is none."""
    value = _plain(entries.get(key))
    if value is not None and type(value) is not int:
        raise ObservationError(f"{key!r} must be a whole number, got {str(value)[:60]!r}")
    return value


def _plain(value: Any) -> Any:
    return cast("Any", value.item()) if isinstance(value, np.generic) else value


def _rest(value: Any, *, robot: Embodiment | None, horizon: int | None) -> NDArray[np.floating]:
    try:
        rest: NDArray[Any] = np.asarray(value)
    except ValueError:  # lists of different lengths
        rest = np.zeros((), object)
    if rest.ndim != 2 or rest.dtype.kind not in "fiu":
        raise ObservationError(f"'rest' must be numbers [n, A], one row per action; got {rest.dtype} of {rest.shape}")
    if robot is not None and rest.shape[1] != robot.action.width:
        raise ObservationError(
            f"'rest' has {rest.shape[1]} numbers per action, {robot.name} has {robot.action.width} "
            f"({', '.join(robot.action.names)})"
        )
    if horizon is not None and len(rest) > horizon:
        raise ObservationError(f"'rest' has {len(rest)} actions, more than the {horizon} of a chunk")
    if not np.isfinite(rest).all():
        row, column = (int(i) for i in np.argwhere(~np.isfinite(rest))[0])
        name = f" ({robot.action.names[column]})" if robot is not None else ""
        raise ObservationError(f"'rest' is not finite in action {row}, number {column}{name}")
    return rest
