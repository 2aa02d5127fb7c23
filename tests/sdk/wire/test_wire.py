"""Round trips of the wire format, and messages that were made to do harm."""

import contextlib
import tracemalloc
from typing import Any

import msgpack
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from fla_sdk import wire
from fla_sdk.errors import ProtocolError

_plain = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats()
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
    | st.binary(max_size=40)
)
_scalars = hnp.integer_dtypes(endianness="<") | hnp.unsigned_integer_dtypes(endianness="<") | hnp.boolean_dtypes()
_dtypes = (
    _scalars
    | hnp.integer_dtypes(endianness=">")
    | hnp.floating_dtypes(endianness="?", sizes=(16, 32, 64))
    | hnp.unicode_string_dtypes(endianness="?", min_len=1, max_len=5)
    | hnp.byte_string_dtypes(min_len=1, max_len=5)
    | hnp.datetime64_dtypes(endianness="<")
)
_arrays = _dtypes.flatmap(lambda dtype: hnp.arrays(dtype, hnp.array_shapes(min_dims=0, max_dims=4, min_side=0)))
_values = st.recursive(
    _plain | _arrays | _scalars.flatmap(hnp.from_dtype),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(st.characters(codec="utf-8")), inner, max_size=4)
    ),
    max_leaves=12,
)


def _same(a: Any, b: Any) -> bool:
    if isinstance(a, dict):
        return isinstance(b, dict) and list(a) == list(b) and all(_same(a[k], b[k]) for k in a)
    if isinstance(a, list):
        return isinstance(b, list) and len(a) == len(b) and all(map(_same, a, b))
    if isinstance(a, (np.ndarray, np.generic)):
        # Compared as bytes, so that NaN equals itself and the sign of zero counts.
        return type(a) is type(b) and (a.dtype.str, a.shape, a.tobytes()) == (b.dtype.str, b.shape, b.tobytes())
    return type(a) is type(b) and (a == b or a != a)


@given(_values)
@settings(max_examples=300, deadline=None)
def test_round_trip(value: Any) -> None:
    message = wire.pack(value)
    assert _same(value, wire.unpack(message))
    assert wire.pack(wire.unpack(message)) == message


@given(_values, st.data())
@settings(max_examples=300, deadline=None)
def test_a_damaged_message_is_a_value_or_a_protocol_error(value: Any, data: st.DataObject) -> None:
    message = bytearray(wire.pack(value))
    for at in data.draw(st.lists(st.integers(0, len(message) - 1), min_size=1, max_size=3)):
        message[at] = data.draw(st.integers(0, 255))
    with contextlib.suppress(ProtocolError):
        wire.unpack(bytes(message))


@given(_values)
@settings(max_examples=100, deadline=None)
def test_a_message_cut_short_or_continued_is_refused(value: Any) -> None:
    message = wire.pack(value)
    for cut in {0, 1, len(message) // 2, len(message) - 1} - {len(message)}:
        with pytest.raises(ProtocolError, match="ends too early"):
            wire.unpack(message[:cut])
    with pytest.raises(ProtocolError, match="1 bytes after the message's end"):
        wire.unpack(message + b"\xc0")


def test_arrays_are_read_only_views_of_the_received_bytes() -> None:
    array = wire.unpack(wire.pack({"image": np.ones((4, 4, 3), np.uint8)}))["image"]
    assert isinstance(array.base, bytes)
    with pytest.raises(ValueError, match="read-only"):
        array[0] = 0


def test_the_culprit_is_named() -> None:
    with pytest.raises(ProtocolError, match=r"cannot send entry \['robot'\]\['notes'\]\[1\]: a set has no wire format"):
        wire.pack({"state": np.zeros(3), "robot": {"notes": ["fine", {1}]}})
    circular: list[Any] = []
    circular.append(circular)
    with pytest.raises(ProtocolError, match="recursion"):
        wire.pack(circular)
    for value, why in (
        (2**64, "64 bits"),
        ("\ud800", "surrogates"),
        (np.datetime64("2026-01-01"), "array of one element"),
        (np.complex64(1), "real and the imaginary part"),
    ):
        with pytest.raises(ProtocolError, match=why):
            wire.pack({"entry": value})


def _packb(value: Any) -> bytes:
    message = msgpack.packb(value)
    assert isinstance(message, bytes)
    return message


def _array(dtype: Any, shape: Any, data: Any = b"", **more: Any) -> bytes:
    return _packb({b"__ndarray__": True, b"data": data, b"dtype": dtype, b"shape": shape, **more})


def _scalar(dtype: Any, data: Any) -> bytes:
    return _packb({b"__npgeneric__": True, b"data": data, b"dtype": dtype})


_HARMFUL = {
    "object dtype": (_array("|O", [1], b"\0" * 8), "not accepted"),
    "void dtype": (_array("|V8", [1], b"\0" * 8), "not accepted"),
    "complex dtype": (_array("<c8", [1], b"\0" * 8), "not accepted"),
    "record dtype": (_array("<f4,<f4", [1], b"\0" * 8), "not accepted"),
    "shape in the dtype": (_array("(2,)<f4", [1], b"\0" * 8), "not accepted"),
    "alias of a dtype": (_array("float32", [1], b"\0" * 4), "not accepted"),
    "unknown width": (_array("<f3", [1], b"\0" * 3), "not accepted"),
    "dtype of no bytes": (_array("<U0", [2**62]), "not accepted"),
    "dtype that is no text": (_array(["<f4"], [1], b"\0" * 4), "not accepted"),
    "too few bytes": (_array("<f4", [3], b"\0" * 8), r"needs 12 bytes, the message carries 8"),
    "too many bytes": (_array("<f4", [1], b"\0" * 8), r"needs 4 bytes, the message carries 8"),
    "huge shape": (_array("<f4", [2**62, 2**62]), "exceeds the limit"),
    "huge empty shape": (_array("<f4", [0, 2**62]), "exceeds the limit"),
    "negative shape": (_array("<f4", [-1], b"\0" * 4), "shape"),
    "boolean shape": (_array("<f4", [True], b"\0" * 4), "shape"),
    "33 dimensions": (_array("|u1", [1] * 33, b"\0"), "shape"),
    "shape that is no list": (_array("|u1", 1, b"\0"), "an array must be"),
    "data that is text": (_array("|u1", [1], "a"), "an array must be"),
    "more entries": (msgpack.packb({b"__ndarray__": True, b"x": 1}), "an array must be"),
    "boolean of 2": (_array("|b1", [1], b"\2"), "booleans"),
    "text that is no text": (_array("<U1", [1], b"\xff\xff\xff\x7f"), "no characters"),
    "scalar too large": (_scalar("|u1", 300), "no numpy scalar"),
    "scalar of another kind": (_scalar("<i4", "3"), "no numpy scalar"),
    "scalar of objects": (_scalar("|O", 3), "not accepted"),
    "scalar without data": (msgpack.packb({b"__npgeneric__": True}), "a numpy scalar must be"),
    "extension type": (msgpack.packb(msgpack.ExtType(5, b"x")), "begins no value"),
    "timestamp": (msgpack.packb(msgpack.Timestamp(1)), "begins no value"),
    "text that is not UTF-8": (b"\xa2\xff\xff", "not valid msgpack"),
    "map with a number as key": (msgpack.packb({1: 2}), "not valid msgpack"),
    "map with a map as key": (b"\x81\x80\x01", "not valid msgpack"),
    "deep lists": (b"\x91" * 1000 + b"\xc0", "deeper than 32"),
    "deep maps": (b"\x81\xa1a" * 1000 + b"\xc0", "deeper than 32"),
    "many values": (msgpack.packb([0] * 30_000), "more than 20000 values"),
    "many lists": (b"\xdd\x00\xff\xff\xff" + b"\x90" * 0xFFFFFF, "more than 20000 values"),
    "announced list": (b"\xdd\xff\xff\xff\xff", "ends too early"),
    "announced map": (b"\xdf\xff\xff\xff\xff", "ends too early"),
    "announced bytes": (b"\xc6\xff\xff\xff\xff", "ends too early"),
    "many arrays": (msgpack.packb([{b"__ndarray__": True, b"data": b"", b"dtype": "|u1", b"shape": [0]}] * 600), "512"),
}


@pytest.mark.parametrize("name", _HARMFUL)
def test_harmful_messages_are_refused_before_they_cost_memory(name: str) -> None:
    message, reason = _HARMFUL[name]
    tracemalloc.start()
    try:
        with pytest.raises(ProtocolError, match=reason):
            wire.unpack(message)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 2 * 2**20


def test_limits_are_parameters() -> None:
    message = wire.pack({"a": [np.zeros(3), np.zeros(3)]})
    wire.unpack(message, max_bytes=len(message), max_depth=4, max_items=23, max_arrays=2)
    for limit, reason in (
        ({"max_bytes": len(message) - 1}, "bytes, the limit is"),
        ({"max_depth": 3}, "deeper than 3"),
        ({"max_items": 22}, "more than 22 values"),
        ({"max_arrays": 1}, "more than 1 arrays"),
    ):
        with pytest.raises(ProtocolError, match=reason):
            wire.unpack(message, **limit)
