"""Camera images as JPEG, where a network is slower than a processor."""

from collections.abc import Callable, Mapping
from io import BytesIO
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from fla_sdk.errors import ConfigError

QUALITY = 90

Encode = Callable[[NDArray[np.uint8]], bytes]


def jpeg_encoder() -> Encode:
    """From RGB uint8 `[H, W, 3]` to the bytes of a JPEG file, by whichever library is installed; simplejpeg is faster.

    Raises `ConfigError` that names what to install.
    """
    try:
        import simplejpeg  # pyright: ignore[reportMissingTypeStubs]

        fast = cast("Callable[..., bytes]", simplejpeg.encode_jpeg)  # pyright: ignore[reportUnknownMemberType]
        return lambda image: fast(np.ascontiguousarray(image), quality=QUALITY, colorspace="RGB")
    except ModuleNotFoundError:
        pass
    try:
        from PIL import Image
    except ModuleNotFoundError:
        raise ConfigError('images="jpeg" needs simplejpeg or pillow: pip install simplejpeg') from None

    def encode(image: NDArray[np.uint8]) -> bytes:
        file = BytesIO()
        Image.fromarray(image).save(file, "JPEG", quality=QUALITY)
        return file.getvalue()

    return encode


def compressed(entries: Mapping[str, Any], encode: Encode) -> dict[str, Any]:
    """`entries` with each RGB image uint8 `[H, W, 3]`, at any depth, as its compressed bytes."""
    return {key: _compressed(value, encode) for key, value in entries.items()}


def _compressed(value: Any, encode: Encode) -> Any:
    if isinstance(value, Mapping):
        return compressed(cast("Mapping[str, Any]", value), encode)
    if isinstance(value, np.ndarray):
        array = cast("NDArray[Any]", value)
        if array.dtype == np.uint8 and array.ndim == 3 and array.shape[2] == 3 and array.size:
            return {b"__image__": True, b"data": encode(array), b"format": "jpeg"}
    return cast("Any", value)
