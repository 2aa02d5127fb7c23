"""Messages that nobody should send: each gets an answer, and the next good request its actions."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgpack
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fla_sdk import wire

CORPUS = sorted((Path(__file__).parent / "corpus").glob("*.bin"))
NAMES = st.sampled_from(["state", "images", "top", "prompt", "embodiment", "fla", "hello", "protocol", "rest", "robot"])
MARKS = st.sampled_from([b"__ndarray__", b"__npgeneric__", b"__image__", b"data", b"dtype", b"shape", b"format"])
NUMBERS = st.booleans() | st.integers(-(2**63), 2**63) | st.floats()
PLAIN = st.none() | NUMBERS | st.text(max_size=5) | st.binary(max_size=9)
VALUES = st.recursive(
    PLAIN,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(NAMES | MARKS | st.text(max_size=3), inner, max_size=5),
    max_leaves=20,
)


def test_the_corpus_is_there() -> None:
    assert len(CORPUS) > 50


@pytest.mark.parametrize("hello", [False, True])
def test_every_message_of_the_corpus_gets_an_answer(robot: Callable[[], Any], hello: bool) -> None:
    one = robot()
    if hello:
        one.hello()
    for file in CORPUS:
        reply = one.ask(file.read_bytes())
        said = reply if isinstance(reply, str) else reply.get("fla", {}).get("error", {}).get("message", "")
        assert "Traceback" not in said, file.name
        assert str(Path(__file__).parents[3]) not in said, file.name
    np.testing.assert_array_equal(one.observe()["actions"][0], np.array([0.5, -1.0, 0.25], np.float32))


def test_whatever_is_sent_gets_an_answer(robot: Callable[[], Any]) -> None:
    one = robot()
    images = {"top": np.zeros((4, 4, 3), np.uint8)}
    sample = wire.pack({"state": np.zeros(3, np.float32), "images": images, "prompt": "x"})

    @settings(max_examples=300)
    @given(st.data())
    def send(data: st.DataObject) -> None:
        kind = data.draw(st.sampled_from(["bytes", "values", "mutated"]))
        if kind == "bytes":
            message = data.draw(st.binary(max_size=64))
        elif kind == "values":
            message = msgpack.packb(data.draw(VALUES.filter(_packs)))
        else:
            changed = bytearray(sample)
            for _ in range(data.draw(st.integers(1, 5))):
                changed[data.draw(st.integers(0, len(sample) - 1))] = data.draw(st.integers(0, 255))
            message = bytes(changed)
        one.ask(message)

    send()
    assert "actions" in one.observe()


def _packs(value: Any) -> bool:
    try:
        msgpack.packb(value)
    except (OverflowError, ValueError):
        return False
    return True
