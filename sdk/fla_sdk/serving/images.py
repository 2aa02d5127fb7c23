"""Camera images that come as JPEG or WebP: their header is checked before they are decompressed.

    {b"__image__": True, b"data": the file's bytes, b"format": "jpeg" or "webp"}

A header of a few bytes can announce any number of pixels, and some decoders allocate them at once: so width and height
are read here, without a decoder.
"""

from collections.abc import Mapping
from io import BytesIO
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from fla_sdk.errors import ObservationError

MARK = b"__image__"
MAX_SIDE = 4096
"""Pixels."""

_FRAMES = frozenset({*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC})
"""JPEG markers that begin a frame, which says its size."""


def check_names(observation: Mapping[Any, Any]) -> None:
    """Raise `ObservationError` on an entry whose name is no text."""
    for name, value in observation.items():
        if not isinstance(name, str):
            raise ObservationError(f"the names of entries are text, got {str(name)[:60]}")
        if isinstance(value, dict) and MARK not in value:
            check_names(cast("dict[Any, Any]", value))


def has_images(observation: Mapping[str, Any]) -> bool:
    """Whether any entry is a compressed image."""
    return any(
        isinstance(value, dict) and (MARK in value or has_images(cast("dict[Any, Any]", value)))
        for value in observation.values()
    )


def decompressed(observation: Mapping[str, Any], *, max_bytes: int) -> dict[str, Any]:
    """`observation` with compressed images as RGB uint8 `[H, W, 3]`, in any thread.

    Raises `ObservationError` when one is damaged, or all of them would take more than `max_bytes`.
    """
    left = max_bytes

    def walk(entries: Mapping[Any, Any], path: str) -> dict[str, Any]:
        nonlocal left
        found: dict[str, Any] = {}
        for key, value in entries.items():
            where = f"{path}{key}"
            if not isinstance(value, dict):
                found[key] = value
            elif MARK in value:
                data, width, height = _checked(cast("dict[Any, Any]", value), where)
                left -= width * height * 3
                if left < 0:
                    raise ObservationError(f"the images of one request take more than {max_bytes} bytes decompressed")
                found[key] = _decode(data, where)
            else:
                found[key] = walk(cast("dict[Any, Any]", value), f"{where}/")
        return found

    return walk(observation, "")


def _checked(image: dict[Any, Any], where: str) -> tuple[bytes, int, int]:
    """Data, width and height."""
    data, kind = image.get(b"data"), image.get(b"format")
    if not isinstance(data, bytes) or kind not in ("jpeg", "webp"):
        raise ObservationError(
            f"image {where!r} must be {{b'__image__': true, b'data': bin, b'format': 'jpeg' or 'webp'}}"
        )
    size = _jpeg_size(data) if kind == "jpeg" else _webp_size(data)
    if size is None:
        raise ObservationError(f"image {where!r} is no {kind} file: its {len(data)} bytes have no such header")
    width, height = size
    if not (0 < width <= MAX_SIDE and 0 < height <= MAX_SIDE):
        raise ObservationError(f"image {where!r} is {width}x{height}, the limit is {MAX_SIDE}x{MAX_SIDE}")
    return data, width, height


def _decode(data: bytes, where: str) -> NDArray[np.uint8]:
    from PIL import Image

    try:
        with Image.open(BytesIO(data), formats=("JPEG", "WEBP")) as image:
            return np.array(image.convert("RGB"))
    except Exception as error:  # whatever a decoder makes of damaged bytes
        raise ObservationError(f"image {where!r} is damaged: {error}") from error


def _jpeg_size(data: bytes) -> tuple[int, int] | None:
    """ITU T.81: segments of a marker and a length, until the one that begins the frame."""
    at = 2
    while data[:2] == b"\xff\xd8" and at + 9 <= len(data) and data[at] == 0xFF:
        kind = data[at + 1]
        if kind == 0xFF:  # filling
            at += 1
        elif kind in _FRAMES:
            return int.from_bytes(data[at + 7 : at + 9], "big"), int.from_bytes(data[at + 5 : at + 7], "big")
        else:
            at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    return None


def _webp_size(data: bytes) -> tuple[int, int] | None:
    """RFC 9649: the first chunk is a canvas, a lossless or a lossy image."""
    if data[:4] != b"RIFF" or data[8:12] != b"WEBP" or len(data) < 30:
        return None
    if data[12:16] == b"VP8X":
        return 1 + int.from_bytes(data[24:27], "little"), 1 + int.from_bytes(data[27:30], "little")
    if data[12:16] == b"VP8L" and data[20] == 0x2F:
        bits = int.from_bytes(data[21:25], "little")
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    if data[12:16] == b"VP8 " and data[23:26] == b"\x9d\x01\x2a":
        return int.from_bytes(data[26:28], "little") & 0x3FFF, int.from_bytes(data[28:30], "little") & 0x3FFF
    return None
