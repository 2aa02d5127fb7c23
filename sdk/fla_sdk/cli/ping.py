"""`fla ping URL`: how fast a policy server answers, what it can do, and whether it means the same robot as we do."""

import argparse
import json
import os
import time
from collections.abc import Mapping, Sequence
from typing import Any, cast

import numpy as np

from fla_sdk.client import PolicyClient
from fla_sdk.client.description import example
from fla_sdk.embodiment import Embodiment
from fla_sdk.errors import ConfigError, FlaError, UnknownNameError
from fla_sdk.plugins import Registry
from fla_sdk.records import Command
from fla_sdk.schema import describe, differences, schema_of


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("url", help="ws://HOST:PORT, wss://HOST:PORT or HOST")
    parser.add_argument("--embodiment", metavar="NAME", help="robot to compare (default: the server's default)")
    parser.add_argument("--token", help="what the server wants to see; or set FLA_TOKEN")
    parser.add_argument("--count", type=int, default=20, help="pings, and observations, to measure (default 20)")
    parser.add_argument("--connect-timeout", type=float, default=10.0, metavar="S", help="seconds to look for it")
    parser.add_argument("--json", action="store_true", help="print everything as JSON")


def run(arguments: argparse.Namespace, registry: Registry) -> int:
    """Exit status 1 when the robot and the server do not fit."""
    if arguments.count < 1:
        raise ConfigError(f"--count is {arguments.count}, must be at least 1")
    token = arguments.token or os.environ.get("FLA_TOKEN") or None
    # Without a name: a server that does not know our robot shall be reported, not refused.
    with PolicyClient(arguments.url, token=token, connect_timeout_s=arguments.connect_timeout) as policy:
        report = _report(policy, arguments.embodiment, arguments.count, registry)
    print(json.dumps(report, indent=2) if arguments.json else "\n".join(_lines(report)))
    return 0 if report["compatible"] is not False else 1


def _report(policy: PolicyClient, wanted: str | None, count: int, registry: Registry) -> dict[str, Any]:
    """Plain values. `compatible` is None where one of the two sides is not known."""
    fla = cast("dict[str, Any]", policy.metadata.get("fla") or {})
    served = cast("dict[str, dict[str, Any]]", fla.get("embodiments") or {})
    name = wanted or fla.get("default_embodiment") or next(iter(served), None)
    here = registry.embodiments.get(name) if name is not None else None
    there = served.get(name) if name is not None else None
    if wanted is not None and here is None and there is None:
        raise UnknownNameError("embodiment", wanted, {*served, *registry.embodiments})
    report: dict[str, Any] = {
        "url": policy.url,
        "server": {"version": fla.get("version"), "protocol": fla.get("protocol")},
        "features": sorted(policy.features),
        "limits": dict(policy.limits),
        "embodiments": list(served),
        "embodiment": name,
        "transport_ms": _spread([policy.ping() * 1e3 for _ in range(count)]),
        "infer": None,
        **_comparison(name, here, there, served, is_ours=bool(fla)),
    }
    robot = here or there
    if robot is None or report["compatible"] is False:
        return report
    observation = example(robot) | ({"embodiment": name} if served else {})
    try:
        report["infer"] = _measure(policy, observation, count)
    except FlaError as error:
        report |= {"compatible": False, "differences": [f"an example observation of {name}: {error}"]}
    return report


def _comparison(
    name: str | None,
    here: Embodiment | None,
    there: Mapping[str, Any] | None,
    served: Mapping[str, Any],
    *,
    is_ours: bool,
) -> dict[str, Any]:
    """Both sides, and in what they differ."""
    both = {"here": None if here is None else describe(here), "there": None if there is None else dict(there)}
    if not is_ours:
        return {"compatible": None, "differences": [], **both, "note": "the server does not say which robots it knows"}
    if there is None:
        note = f"the server does not know {name!r}; it serves {', '.join(served) or 'no robot that it names'}"
        return {"compatible": False if served else None, "differences": [note] if served else [], **both, "note": note}
    if here is None:
        return {"compatible": None, "differences": [], **both, "note": f"no plugin here describes {name!r}"}
    found = differences(there, describe(here), we="the server expects", they="the robot here has")
    hashes = f"schema {schema_of(here)} here, {schema_of(there)} on the server"
    return {"compatible": not found, "differences": found, **both, "note": hashes}


def _measure(policy: PolicyClient, observation: Mapping[str, Any], count: int) -> dict[str, Any]:
    times: list[float] = []
    server: list[float] = []
    answer: Mapping[str, Any] = {}
    for turn in range(count + 1):
        begun = time.perf_counter()
        answer = policy.infer(observation)
        if turn:  # the first one may include the compilation of the model
            times.append((time.perf_counter() - begun) * 1e3)
            server.append(float(answer.get("server_timing", {}).get("infer_ms", np.nan)))
    known = [one for one in server if np.isfinite(one)]
    return {
        "actions": list(np.shape(answer["actions"])),
        "total_ms": _spread(times),
        "on_server_ms": _spread(known) if known else None,
    }


def _spread(milliseconds: Sequence[float]) -> dict[str, float]:
    low, median, high = (round(float(one), 3) for one in np.percentile(milliseconds, [0, 50, 99]))
    return {"min": low, "median": median, "p99": high}


_SIDES = {"here": "as described here", "there": "as the server knows it"}


# --- For people -------------------------------------------------------------------------------------------------------


def _lines(report: Mapping[str, Any]) -> list[str]:
    server, infer = report["server"], report["infer"]
    version = f"FLA {server['version']}, protocol {server['protocol']}" if server["version"] else "not one of FLA's"
    limits = ", ".join(f"{name} {value}" for name, value in report["limits"].items() if value is not None)
    lines = [
        f"{report['url']}: {version}",
        f"can          {', '.join(report['features']) or 'answer'}",
        *([f"takes        {limits}"] if limits else []),
        f"serves       {', '.join(report['embodiments']) or 'does not say'}",
        f"transport    {_shown(report['transport_ms'])}",
    ]
    if infer is not None:
        lines.append(
            f"infer        {_shown(infer['total_ms'])}; {infer['actions'][0]} actions of {infer['actions'][1]}"
        )
        if infer["on_server_ms"] is not None:
            lines.append(f"  on server  {_shown(infer['on_server_ms'])}")
    sides = {whose: _robot(report[side]) for side, whose in _SIDES.items() if report[side] is not None}
    if len({tuple(robot) for robot in sides.values()}) == 1:
        sides = {" and ".join(sides): next(iter(sides.values()))}
    for whose, robot in sides.items():
        lines += [f"{report['embodiment']}, {whose}", *robot]
    verdict = {True: "compatible", False: "NOT compatible", None: "cannot tell"}[report["compatible"]]
    lines.append(f"{verdict}: {report['note']}")
    return [*lines, *(f"  {line}" for line in report["differences"] if line != report["note"])]


def _robot(robot: Mapping[str, Any]) -> list[str]:
    lines: list[str] = []
    for kind in ("state", "action"):
        parts = [f"{', '.join(field['names'])} [{field['unit']}]" for field in robot[kind]]
        lines.append(f"  {kind:8}   {'; '.join(parts)}")
    cameras = ", ".join(one["name"] if one["required"] else f"{one['name']} (optional)" for one in robot["cameras"])
    return [
        *lines,
        f"  cameras    {cameras or 'none'}",
        f"  control    {robot['control_hz']:g} Hz, {robot['control_mode']}",
    ]


def _shown(spread: Mapping[str, float]) -> str:
    return f"min {spread['min']:.2f}, median {spread['median']:.2f}, p99 {spread['p99']:.2f} ms"


COMMAND = Command(name="ping", help="latency and capabilities of a policy server", configure=configure, run=run)
