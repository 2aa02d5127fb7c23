"""docs/protocol.md says what is so."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from fla_sdk import wire

PAGE = (Path(__file__).parents[3] / "docs" / "protocol.md").read_text()


def section(number: int) -> str:
    return PAGE.split(f"\n## {number}. ")[1].split("\n## ")[0]


def names(text: str) -> list[set[str]]:
    """Of each table, what is named in the first column."""
    tables = re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE)
    return [set(re.findall(r"`(\w+)`", " ".join(row.split("|")[1] for row in table.splitlines()))) for table in tables]


def test_the_bytes_of_an_array() -> None:
    block = next(block for block in PAGE.split("```") if "84   " in block)
    message = bytes.fromhex("".join(re.findall(r"\b(?:[0-9a-f]{2})+\b(?=[ \n])", re.sub(r"  [a-z]+ .*", " ", block))))
    np.testing.assert_array_equal(wire.unpack(message), np.array([0.5, -1.0], np.float32))


def test_the_client_on_the_page(many_server: Any) -> None:
    source = next(block for block in PAGE.split("```python\n")[1:]).split("```")[0]
    made: dict[str, Any] = {}
    exec(compile(source, "docs/protocol.md", "exec"), made)
    observation = {"state": np.ones(3, np.float32), "images": {"top": np.zeros((4, 4, 3), np.uint8)}, "task": "pick"}
    assert made["ask"](many_server.url, observation)["actions"].shape == (3, 3)


def test_greeting_and_hello_have_the_entries_of_the_page(robot: Callable[[], Any]) -> None:
    one = robot()
    fla = one.greeting["fla"]
    greeting, description = names(section(4))
    assert set(fla) <= greeting
    assert set(fla["embodiments"]["arm"]) <= description
    assert all(f"`{name}`" in section(4) for name in fla["limits"])
    asked, answered = names(section(5))
    told = ("protocol", "client", "embodiment", "schema", "robot", "session", "now_s", "execution", "guidance")
    assert asked == {*told, "capabilities"}
    assert set(one.hello(now_s=0.0)) == answered
    timing = one.observe()["server_timing"]
    assert all(f"`{name}`" in PAGE for name in timing)


def test_errors_have_the_entries_of_the_page(robot: Callable[[], Any]) -> None:
    one = robot()
    assert one.hello(protocol=3)["code"] in names(section(8))[0]
    one.hello()
    assert set(one.refused("state")) == {"code", "message", "retry_after_ms", "request"}
    assert names(section(8))[0] == {
        *("observation", "protocol", "embodiment", "schema", "overloaded", "rate", "draining", "failed")
    }
