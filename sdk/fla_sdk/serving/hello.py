"""Greeting and hello: which robots the server can drive, what their numbers mean, and whether a client's robot fits."""

from collections.abc import Mapping, Sequence
from importlib.metadata import version
from typing import Any, cast

import attrs

from fla_sdk import schema
from fla_sdk.embodiment import Embodiment
from fla_sdk.errors import UnknownNameError
from fla_sdk.policy.interface import RestMode
from fla_sdk.serving.limits import Limits
from fla_sdk.serving.marks import number
from fla_sdk.serving.refusal import Refusal
from fla_sdk.serving.served_policy import ServedPolicy
from fla_sdk.serving.sessions import Session

PROTOCOL = 1
"""The version of docs/protocol.md."""

CLOCK_TOLERANCE_S = 5.0
_LONGEST_TEXT = 200


def describe(
    embodiments: Mapping[str, Embodiment],
    *,
    default_embodiment: str | None = None,
    horizon: int | None = None,
    rest_mode: RestMode = "none",
) -> dict[str, Any]:
    """`{version, protocol, embodiments: {name: {...}}, default_embodiment}`, plain values that any client can read.

    `horizon` is the number of actions in a chunk. Raises `UnknownNameError` when the default is not among the names.
    """
    if default_embodiment is not None and default_embodiment not in embodiments:
        raise UnknownNameError("embodiment", default_embodiment, embodiments)
    return {
        "version": version("fla-sdk"),
        "protocol": PROTOCOL,
        "embodiments": {name: _robot(robot, horizon, rest_mode) for name, robot in embodiments.items()},
        "default_embodiment": default_embodiment,
    }


def greeting(served: ServedPolicy, limits: Limits) -> dict[str, Any]:
    """The policy's metadata, as openpi's clients expect it; under `fla` what ours want to know."""
    metadata = dict(served.policy.metadata)
    if served.embodiments:
        known = describe(
            served.embodiments,
            default_embodiment=served.default_embodiment,
            horizon=served.horizon,
            rest_mode=served.rest_mode,
        )
        metadata["fla"] = {**known, "features": served.features, "limits": limits.plain()}
    return metadata


def welcome(
    hello: "Hello", served: ServedPolicy, limits: Limits, *, session: Session, resumed: bool, now_s: float
) -> dict[str, Any]:
    """The answer to a hello that fits."""
    robot = served.embodiments[session.embodiment]
    answer: dict[str, Any] = {
        "session": session.id,
        "embodiment": session.embodiment,
        "robot": _robot(robot, served.horizon, served.rest_mode),
        "features": served.features,
        "limits": limits.plain(),
        "now_s": now_s,
        "resumed": resumed,
    }
    if warnings := clock_warnings(hello, now_s=now_s):
        answer["warnings"] = warnings
    return answer


def _robot(robot: Embodiment, horizon: int | None, rest_mode: RestMode) -> dict[str, Any]:
    return {
        **schema.describe(robot),
        "horizon": horizon,
        "schema": schema.schema_of(robot),
        "prompt": robot.default_task,
        "rest_mode": rest_mode,
    }


@attrs.frozen(kw_only=True)
class Hello:
    """What a client says about itself, checked."""

    embodiment: str | None
    """None: the default one."""

    schema: str | None
    robot: Mapping[str, Any] | None
    """Its own description of the robot."""

    session: str | None
    """To be resumed."""

    client: str
    execution: str | None
    capabilities: tuple[str, ...]
    guidance: float | None
    now_s: float | None


def read_hello(entry: Any) -> Hello:
    """Raises `Refusal` when it is no hello, or one of another version of the protocol."""
    if not isinstance(entry, Mapping):
        raise Refusal("protocol", f"a hello is a map, got a {type(entry).__name__}")
    entries = cast("Mapping[str, Any]", entry)
    spoken = entries.get("protocol")
    if spoken != PROTOCOL or type(spoken) is not int:
        older = "client" if type(spoken) is not int or spoken < PROTOCOL else "server"
        raise Refusal(
            "protocol",
            f"this server speaks version {PROTOCOL} of the protocol, the client asked for "
            f"{str(spoken)[:_LONGEST_TEXT]}: update the {older}",
        )
    robot = entries.get("robot")
    if robot is not None and not isinstance(robot, Mapping):
        raise Refusal("protocol", f"'robot' in a hello is a map, got a {type(robot).__name__}")
    told = entries.get("capabilities")
    capabilities = cast("Sequence[Any]", told) if isinstance(told, (list, tuple)) else ()
    return Hello(
        embodiment=_text(entries, "embodiment"),
        schema=_text(entries, "schema"),
        robot=cast("Mapping[str, Any] | None", robot),
        session=_text(entries, "session"),
        client=_text(entries, "client") or "",
        execution=_text(entries, "execution"),
        capabilities=tuple(str(one)[:_LONGEST_TEXT] for one in capabilities[:100]),
        guidance=number(entries, "guidance"),
        now_s=number(entries, "now_s"),
    )


def check_robot(hello: Hello, served: ServedPolicy) -> str:
    """The embodiment that the client drives.

    Raises `Refusal` when it is unknown, or when its numbers mean something else to the client, with both sides.
    """
    name = hello.embodiment or served.default_embodiment
    if name is None or name not in served.embodiments:
        if name is None:
            raise Refusal("embodiment", f"say which robot you are: one of {', '.join(served.embodiments) or 'none'}")
        raise Refusal("embodiment", str(UnknownNameError("embodiment for this server", name, served.embodiments)))
    robot = schema.describe(served.embodiments[name])
    found = [] if hello.robot is None else schema.differences(robot, hello.robot)
    if found:
        lines = "".join(f"\n  {line}" for line in found)
        raise Refusal("schema", f"{name} is described differently by server and client:{lines}\n{_ADVICE}")
    # A client that tells its robot in part has no hash to compare; one that tells none has nothing else.
    if hello.robot is None and hello.schema is not None and hello.schema != (own := schema.schema_of(robot)):
        expected = "\n".join(f"  {kind}: {_shown(robot[kind])}" for kind in ("state", "action"))
        raise Refusal(
            "schema",
            f"{name} is described differently by server ({own}) and client ({hello.schema}). The server expects\n"
            f"{expected}\n{_ADVICE}",
        )
    return name


def clock_warnings(hello: Hello, *, now_s: float) -> list[str]:
    """What to tell a robot whose clock is off: its recordings will not fit those of others."""
    off_s = 0.0 if hello.now_s is None else hello.now_s - now_s
    if abs(off_s) <= CLOCK_TOLERANCE_S:
        return []
    side = "behind" if off_s < 0 else "ahead of"
    warning = f"the robot's clock is {abs(off_s):.0f} s {side} the server's"
    return [f"{warning}: set it, for example by NTP. Deadlines are not affected, times in recordings are"]


_ADVICE = (
    "Install the same version of the robot's plugin on both sides, or send the numbers as the server expects them."
)


def _text(entries: Mapping[str, Any], key: str) -> str | None:
    value = entries.get(key)
    if value is not None and not isinstance(value, str):
        raise Refusal("protocol", f"{key!r} in a hello is text, got a {type(value).__name__}")
    return None if value is None else value[:_LONGEST_TEXT]


def _shown(fields: Sequence[Mapping[str, Any]]) -> str:
    return "; ".join(f"{', '.join(field['names'])} ({field['unit']}, {field['representation']})" for field in fields)
