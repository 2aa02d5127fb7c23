"""The wire format: msgpack with numpy arrays, openpi-compatible byte for byte.

An array travels as a map of four entries whose keys are byte strings, which no observation uses:

    {b"__ndarray__": True, b"data": C-order bytes, b"dtype": "<f4", b"shape": [3, 2]}

and a numpy scalar as `{b"__npgeneric__": True, b"data": value, b"dtype": "<f4"}`. Everything else is plain msgpack.

Received bytes are not trusted. `unpack` first walks the message without building anything, so that a small message
cannot ask for much memory or time; arrays are read-only views of the received bytes.
"""

import math
import re
import threading
from collections.abc import Callable
from functools import lru_cache
from typing import Any, cast

import msgpack  # pyright: ignore[reportMissingTypeStubs]
import numpy as np
from numpy.typing import NDArray

from fla_sdk.errors import ProtocolError

MAX_BYTES = 64 * 2**20
"""Longest message accepted by default, in bytes: 20 RGB images of 1024x1024."""

MAX_DEPTH = 32
"""Deepest nesting of maps and lists accepted by default."""

MAX_ITEMS = 20_000
"""Most values in one message accepted by default, map keys included; the content of an array counts as one."""

MAX_ARRAYS = 512
"""Most numpy arrays in one message accepted by default."""

# msgpack has no type stubs.
_Packer = cast("Callable[..., Any]", msgpack.Packer)  # pyright: ignore[reportUnknownMemberType]
_unpackb = cast("Callable[..., Any]", msgpack.unpackb)  # pyright: ignore[reportUnknownMemberType]

_ARRAY, _SCALAR, _DATA, _DTYPE, _SHAPE = b"__ndarray__", b"__npgeneric__", b"data", b"dtype", b"shape"
_MAX_DIMENSIONS = 32

_KEPT_BYTES = 8 * 2**20
"""Longest message whose buffer a thread keeps for its next."""

# Written as numpy writes `dtype.str`: no objects, no records, no complex numbers, no shape inside the type.
_PLAIN_DTYPE = re.compile(r"[<>|](b1|[iu][1248]|f(2|4|8|12|16)|[SU]\d{1,9}|[mM]8(\[\d{0,9}[A-Za-z]{1,2}\])?)")


def pack(value: Any) -> bytes:
    """Bytes of `value`: None, booleans, numbers, text, bytes, lists, maps, numpy arrays and scalars, nested at will.

    Raises `ProtocolError` that names the entry which cannot be sent.
    """
    try:
        return _packers.pack(value)
    except (ProtocolError, TypeError, ValueError, OverflowError) as error:
        raise ProtocolError(f"cannot send {_culprit(value)}: {error}") from error


class _Packers(threading.local):
    """One packer per thread, kept: a new one for every message costs more than the packing."""

    kept: Any = None

    def pack(self, value: Any) -> bytes:
        # Taken away while in use, so that neither a failure nor one that packs while it packs leaves a used one.
        packer, self.kept = self.kept or _Packer(default=_encode), None
        packed: bytes = packer.pack(value)
        if len(packed) <= _KEPT_BYTES:
            self.kept = packer
        return packed


_packers = _Packers()


def unpack(
    message: bytes,
    *,
    max_bytes: int = MAX_BYTES,
    max_depth: int = MAX_DEPTH,
    max_items: int = MAX_ITEMS,
    max_arrays: int = MAX_ARRAYS,
) -> Any:
    """The value in `message`; arrays are read-only views that keep the message's bytes alive.

    Raises `ProtocolError` when the message is damaged, larger than a limit, or holds an array whose type is not plain
    or whose shape does not fit its bytes.
    """
    if len(message) > max_bytes:
        raise ProtocolError(f"the message has {len(message)} bytes, the limit is {max_bytes}")
    _check_structure(message, max_depth=max_depth, max_items=max_items)
    arrays = 0

    def decode(entries: dict[Any, Any]) -> Any:
        nonlocal arrays
        if _ARRAY in entries:
            arrays += 1
            if arrays > max_arrays:
                raise ProtocolError(f"the message holds more than {max_arrays} arrays")
            return _decode_array(entries, max_bytes)
        if _SCALAR in entries:
            return _decode_scalar(entries)
        return entries

    try:
        return _unpackb(message, object_hook=decode)
    except (TypeError, ValueError, msgpack.UnpackException) as error:
        raise ProtocolError(f"the message is not valid msgpack: {error or type(error).__name__}") from error


def _encode(value: Any) -> dict[bytes, Any]:
    """What msgpack cannot write itself, as the marker maps."""
    if isinstance(value, np.ndarray):
        array = cast("NDArray[Any]", value)
        if array.dtype.kind in "VOc":
            raise ProtocolError(f"arrays of dtype {array.dtype} have no wire format; {_advice(array.dtype)}")
        # Dates have no buffer; all else is copied once, into the message.
        plain = array.flags.c_contiguous and array.dtype.kind not in "mM"
        return {
            _ARRAY: True,
            _DATA: array.data if plain else array.tobytes(),
            _DTYPE: array.dtype.str,
            _SHAPE: array.shape,
        }
    if isinstance(value, np.generic):
        scalar = cast("np.generic[Any]", value)
        dtype = scalar.dtype
        if dtype.kind not in "biuf" or dtype.itemsize > 8:
            raise ProtocolError(f"numpy scalars of dtype {dtype} have no wire format; {_advice(dtype)}")
        return {_SCALAR: True, _DATA: scalar.item(), _DTYPE: dtype.str}
    if isinstance(value, int):
        raise ProtocolError("an integer must fit in 64 bits")
    raise ProtocolError(f"a {type(value).__name__} has no wire format; send numpy arrays or plain values instead")


def _advice(dtype: "np.dtype[Any]") -> str:
    if dtype.kind in "mM":
        return "send it in an array of one element"
    if dtype.kind == "c":
        return "send the real and the imaginary part"
    return "give it a numeric dtype" if dtype.kind == "O" else "convert it with .astype(numpy.float32)"


def _culprit(value: Any) -> str:
    """Where in `value` the first entry is that cannot be packed, as a path for a person."""
    path = ""
    for _ in range(MAX_DEPTH):
        children: Any = ()
        if isinstance(value, dict):
            children = cast("dict[Any, Any]", value).items()
        elif isinstance(value, (list, tuple)):
            children = enumerate(cast("list[Any]", value))
        culprit = next(((key, child) for key, child in children if not _packs(child)), None)
        if culprit is None:
            break
        path, value = f"{path}[{culprit[0]!r}]", culprit[1]
    return f"entry {path}" if path else "the value"


def _packs(value: Any) -> bool:
    try:
        _packers.pack(value)
    except (ProtocolError, TypeError, ValueError, OverflowError):
        return False
    return True


# --- Reading ----------------------------------------------------------------------------------------------------------

_LENGTH_BYTES = {0xC4: 1, 0xC5: 2, 0xC6: 4, 0xD9: 1, 0xDA: 2, 0xDB: 4}
_COUNT_BYTES = {0xDC: (2, 1), 0xDD: (4, 1), 0xDE: (2, 2), 0xDF: (4, 2)}
_NUMBER_BYTES = {0xCA: 4, 0xCB: 8, 0xCC: 1, 0xCD: 2, 0xCE: 4, 0xCF: 8, 0xD0: 1, 0xD1: 2, 0xD2: 4, 0xD3: 8}


def _fixed_bytes(kind: int) -> int:
    if kind <= 0x7F or kind >= 0xE0 or kind in (0xC0, 0xC2, 0xC3):
        return 1
    if 0xA0 <= kind <= 0xBF:
        return 1 + (kind & 0x1F)
    return 1 + _NUMBER_BYTES[kind] if kind in _NUMBER_BYTES else 0


_FIXED_BYTES = tuple(_fixed_bytes(kind) for kind in range(256))
"""Type byte -> bytes of the whole value; 0 where more bytes tell."""


def _check_structure(message: bytes, *, max_depth: int, max_items: int) -> None:
    """Walk the message by its type bytes alone: complete, one value, no extension types, within the limits.

    msgpack itself would allocate lists and maps before it sees that a message is too deep or too long.
    """
    end, at, items = len(message), 0, 1
    left, around = 1, list[int]()
    """Values still expected by the innermost open map or list, and by those around it."""
    while at < end:
        while not left and around:
            left = around.pop()
        if not left:
            break
        left -= 1
        kind = message[at]
        if size := _FIXED_BYTES[kind]:
            at += size
            continue
        at += 1
        if width := _LENGTH_BYTES.get(kind):
            at += width + (message[at] if width == 1 and at < end else int.from_bytes(message[at : at + width], "big"))
            continue
        if kind <= 0x8F:
            children = 2 * (kind & 0x0F)
        elif kind <= 0x9F:
            children = kind & 0x0F
        elif kind in _COUNT_BYTES:
            width, per_entry = _COUNT_BYTES[kind]
            children = per_entry * int.from_bytes(message[at : at + width], "big")
            at += width
        else:
            raise ProtocolError(f"byte {at - 1} of the message, 0x{kind:02x}, begins no value of this protocol")
        if len(around) + 1 > max_depth:
            raise ProtocolError(f"the message is nested deeper than {max_depth} levels")
        if children > end - at:  # each takes a byte at least
            raise ProtocolError(f"the message ends too early, after {end} bytes")
        items += children
        if items > max_items:
            raise ProtocolError(f"the message holds more than {max_items} values")
        around.append(left)
        left = children
    if at > end or left or any(around):
        raise ProtocolError(f"the message ends too early, after {end} bytes")
    if at < end:
        raise ProtocolError(f"{end - at} bytes after the message's end")


def _plain_dtype(text: object, *, of: str) -> "np.dtype[Any]":
    if isinstance(text, str) and (dtype := _known_dtype(text)) is not None:
        return dtype
    raise ProtocolError(f"{of} of dtype {str(text)[:60]!r} is not accepted; send booleans, numbers, text or bytes")


@lru_cache(maxsize=64)
def _known_dtype(text: str) -> "np.dtype[Any] | None":
    if _PLAIN_DTYPE.fullmatch(text):
        try:
            dtype = np.dtype(text)
        except TypeError:
            return None
        if dtype.str == text and dtype.itemsize > 0:
            return dtype
    return None


def _decode_array(entries: dict[Any, Any], max_bytes: int) -> NDArray[Any]:
    data, shape = entries.get(_DATA), entries.get(_SHAPE)
    if len(entries) != 4 or entries[_ARRAY] is not True or not isinstance(data, bytes) or not isinstance(shape, list):
        raise ProtocolError("an array must be {b'__ndarray__': true, b'data': bin, b'dtype': str, b'shape': list}")
    dtype = _plain_dtype(entries.get(_DTYPE), of="an array")
    sizes = cast("list[Any]", shape)
    if len(sizes) > _MAX_DIMENSIONS or not all(type(n) is int and n >= 0 for n in sizes):
        raise ProtocolError(f"an array's shape must be at most {_MAX_DIMENSIONS} sizes >= 0, got {str(sizes)[:80]}")
    needed = math.prod(sizes) * dtype.itemsize
    # An empty array may not claim other huge dimensions either: a reduction over it would allocate them.
    if (needed or math.prod(max(n, 1) for n in sizes) * dtype.itemsize) > max_bytes:
        raise ProtocolError(f"an array of shape {sizes} and dtype {dtype.str!r} exceeds the limit of {max_bytes} bytes")
    if needed != len(data):
        raise ProtocolError(
            f"an array of shape {sizes} and dtype {dtype.str!r} needs {needed} bytes, the message carries {len(data)}"
        )
    if dtype.kind == "b" and len(data) > 0 and np.frombuffer(data, np.uint8).max() > 1:
        raise ProtocolError("an array of booleans holds bytes other than 0 and 1")
    if dtype.kind == "U" and len(data) > 0 and np.frombuffer(data, f"{dtype.str[0]}u4").max() > 0x10FFFF:
        raise ProtocolError("an array of text holds values that are no characters")
    return np.ndarray(tuple(sizes), dtype, buffer=data)


def _decode_scalar(entries: dict[Any, Any]) -> "np.generic[Any]":
    if len(entries) != 3 or entries[_SCALAR] is not True or _DATA not in entries:
        raise ProtocolError("a numpy scalar must be {b'__npgeneric__': true, b'data': value, b'dtype': str}")
    dtype, value = _plain_dtype(entries.get(_DTYPE), of="a numpy scalar"), entries[_DATA]
    if dtype.kind == "b":
        fits = type(value) is bool
    elif dtype.kind in "iu":
        fits = type(value) is int and np.iinfo(dtype).min <= value <= np.iinfo(dtype).max
    else:
        fits = dtype.kind == "f" and type(value) in (int, float)
    if not fits:
        raise ProtocolError(f"{str(value)[:60]!r} is no numpy scalar of dtype {dtype.str!r}")
    with np.errstate(over="ignore"):
        return dtype.type(value)
