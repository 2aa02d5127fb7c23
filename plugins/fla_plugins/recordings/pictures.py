"""Pictures as files hold them, made into RGB `[H, W, 3]` as a mapping says."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fla_plugins.lerobot.images import decode_image
from fla_plugins.recordings.mapping import CameraImages
from fla_sdk.errors import DataError


def to_rgb(value: NDArray[Any] | bytes, camera: CameraImages, where: str) -> NDArray[np.uint8]:
    """Decoded, coloured, turned and resized. Raises `DataError` beginning with `where`."""
    image = decode_image(value, where) if isinstance(value, bytes) else _pixels(value, camera, where)
    if camera.order == "bgr":
        image = image[..., ::-1]
    if camera.rotate:
        image = np.rot90(image, camera.rotate // 90)
    if camera.size is not None and image.shape[:2] != camera.size:
        height, width = camera.size
        image = np.asarray(Image.fromarray(np.ascontiguousarray(image)).resize((width, height)))
    return np.ascontiguousarray(image)


def _pixels(value: NDArray[Any], camera: CameraImages, where: str) -> NDArray[np.uint8]:
    image = np.moveaxis(value, 0, -1) if camera.layout == "chw" and value.ndim == 3 else value
    if image.ndim == 2:
        image = image[..., None]
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[-1] not in (1, 3, 4):
        raise DataError(
            f"{where} is {value.dtype} {list(value.shape)} in layout {camera.layout!r}, which is no picture; expected"
            " uint8 with 1, 3 or 4 colours (layout hwc: colours last, chw: colours first)"
        )
    return np.repeat(image, 3, axis=-1) if image.shape[-1] == 1 else image[..., :3]
