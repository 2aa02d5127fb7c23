"""Images that come as JPEG or WebP."""

import struct
from collections.abc import Callable
from io import BytesIO
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from fla_sdk.errors import ObservationError
from fla_sdk.serving.images import decompressed, has_images

PICTURE = np.linspace(0, 255, 40 * 60 * 3).reshape(40, 60, 3).astype(np.uint8)


def file(kind: str, picture: np.ndarray = PICTURE, **options: Any) -> bytes:
    made = BytesIO()
    Image.fromarray(picture).save(made, kind, **options)
    return made.getvalue()


def entry(data: Any, kind: Any) -> dict[bytes, Any]:
    return {b"__image__": True, b"data": data, b"format": kind}


def decode(data: Any, kind: str, *, max_bytes: int = 10**8) -> np.ndarray:
    observation = {"images": {"top": entry(data, kind)}, "state": [1.0]}
    assert has_images(observation)
    found = decompressed(observation, max_bytes=max_bytes)
    assert found["state"] == [1.0]
    assert not has_images(found)
    return found["images"]["top"]


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("jpeg", {"quality": 95}),
        ("jpeg", {"quality": 95, "progressive": True}),
        ("jpeg", {"quality": 95, "exif": b"Exif\x00\x00" + bytes(5000)}),
        ("webp", {"quality": 95}),
        ("webp", {"lossless": True}),
        ("webp", {"quality": 95, "exif": b"Exif\x00\x00" + bytes(10)}),
    ],
)
def test_pictures_are_what_they_were(kind: str, options: dict[str, Any]) -> None:
    found = decode(file(kind, **options), kind)
    assert (found.shape, found.dtype) == (PICTURE.shape, np.uint8)
    assert np.abs(found.astype(int) - PICTURE).mean() < 3


def test_grey_and_transparent_pictures_become_rgb() -> None:
    assert decode(file("jpeg", PICTURE[:, :, 0]), "jpeg").shape == (40, 60, 3)
    assert decode(file("webp", np.dstack([PICTURE, PICTURE[:, :, :1]])), "webp").shape == (40, 60, 3)


@pytest.mark.parametrize(
    ("data", "kind", "reason"),
    [
        (b"", "jpeg", "image 'images/top' is no jpeg file: its 0 bytes have no such header"),
        (file("webp"), "jpeg", "is no jpeg file"),
        (file("jpeg"), "webp", "is no webp file"),
        (file("jpeg"), "png", r"image 'images/top' must be .*b'format': 'jpeg' or 'webp'"),
        ("text", "jpeg", r"image 'images/top' must be .*b'data': bin"),
        (file("jpeg")[:500], "jpeg", "image 'images/top' is (damaged|no jpeg file)"),
        (file("webp")[:100], "webp", "image 'images/top' is damaged"),
        (file("jpeg", np.zeros((1, 5000, 3), np.uint8)), "jpeg", "is 5000x1, the limit is 4096x4096"),
    ],
)
def test_files_that_are_refused(data: Any, kind: str, reason: str) -> None:
    with pytest.raises(ObservationError, match=reason):
        decode(data, kind)


def _bomb(kind: str) -> bytes:
    """A few bytes that announce 16383 x 16383 pixels."""
    if kind == "jpeg":
        data = bytearray(file("jpeg"))
        at = data.index(b"\xff\xc0")
        data[at + 5 : at + 9] = struct.pack(">HH", 16383, 16383)
        return bytes(data)
    flags = struct.pack("<I", 0)
    size = (16382).to_bytes(3, "little")
    body = b"WEBP" + b"VP8X" + struct.pack("<I", 10) + flags + size + size
    return b"RIFF" + struct.pack("<I", len(body)) + body


@pytest.mark.parametrize("kind", ["jpeg", "webp"])
def test_size_is_known_before_anything_is_decoded(kind: str) -> None:
    with pytest.raises(ObservationError, match="is 16383x16383, the limit is 4096x4096"):
        decode(_bomb(kind), kind)


def test_all_images_of_a_request_share_a_limit() -> None:
    many = {f"camera{i}": entry(file("jpeg"), "jpeg") for i in range(3)}
    assert len(decompressed(many, max_bytes=3 * PICTURE.size)) == 3
    with pytest.raises(ObservationError, match="take more than 21599 bytes decompressed"):
        decompressed(many, max_bytes=3 * PICTURE.size - 1)


@given(st.data())
def test_damaged_files_are_refused_or_pictures(data: st.DataObject) -> None:
    kind = data.draw(st.sampled_from(["jpeg", "webp"]))
    content = bytearray(file(kind))
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    try:
        found = decode(bytes(content[: data.draw(st.integers(0, len(content)))]), kind)
    except ObservationError:
        return
    assert found.ndim == 3 and found.shape[2] == 3


@pytest.mark.parametrize("kind", ["jpeg", "webp"])
def test_the_server_takes_them(robot: Callable[[], Any], kind: str) -> None:
    one = robot()
    one.hello()
    reply = one.observe(images={"top": entry(file(kind, quality=95), kind)})
    assert reply["image_sum"] == pytest.approx(int(PICTURE.sum()), rel=0.02)
    error = one.refused(images={"top": entry(b"\xff\xd8\xff", kind)})
    assert error["message"] == f"image 'images/top' is no {kind} file: its 3 bytes have no such header"
