"""Numpy transforms on one sample: pure functions, no input is ever written to.

Arrays keep their floating dtype. What openpi does differently from the obvious is said at each function.
"""

from collections.abc import Mapping
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from fla_sdk.errors import ObservationError

Floats = NDArray[np.floating]
S = TypeVar("S", bound=np.generic)


def flatten_keys(tree: Mapping[str, Any], *, separator: str = "/") -> dict[str, Any]:
    """`{"a": {"b": 1}}` -> `{"a/b": 1}`. Keys that already hold the separator stay as they are."""
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, Mapping):
            nested = flatten_keys(value, separator=separator)  # pyright: ignore[reportUnknownArgumentType]
            flat.update({f"{key}{separator}{k}": v for k, v in nested.items()})
        else:
            flat[key] = value
    return flat


def to_image(image: Any, *, where: str = "image") -> NDArray[np.uint8]:
    """uint8 `[H, W, 3]` from uint8 or float in [0, 1], channels last or first. openpi-compatible: floats are truncated.

    Raises `ObservationError` naming `where`.
    """
    try:
        array = np.asarray(image)
    except ValueError as error:  # lists of different lengths
        raise ObservationError(f"{where} is no image: {error}") from error
    if array.ndim == 3 and array.shape[0] == 3 and array.shape[2] != 3:
        array = array.transpose(1, 2, 0)
    if array.ndim != 3 or array.shape[2] != 3 or 0 in array.shape:
        raise ObservationError(f"{where} must have shape [height, width, 3], got {np.shape(image)}")
    if array.dtype == np.uint8:
        return array
    if array.dtype.kind == "f":
        if not np.isfinite(array).all() or array.min() < 0 or array.max() > 1:
            raise ObservationError(f"{where}: a float image must lie in [0, 1]; send uint8 for 0 to 255")
        return (255 * array).astype(np.uint8)
    raise ObservationError(f"{where} must be uint8, or float in [0, 1]; got {array.dtype}")


def resize_with_pad(image: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]:
    """Fit `[H, W, 3]` into `[height, width, 3]`, keeping its aspect, black around it. PIL bilinear, as openpi does."""
    from PIL import Image

    image_height, image_width = image.shape[:2]
    if (image_height, image_width) == (height, width):
        return image
    ratio = max(image_width / width, image_height / height)
    # At least one pixel: openpi fails on a strip narrower than that.
    fit_height, fit_width = max(1, int(image_height / ratio)), max(1, int(image_width / ratio))
    resized = Image.fromarray(image).resize((fit_width, fit_height), resample=Image.Resampling.BILINEAR)
    canvas = np.zeros((height, width, 3), np.uint8)
    top, left = int((height - fit_height) / 2), int((width - fit_width) / 2)
    canvas[top : top + fit_height, left : left + fit_width] = np.asarray(resized)
    return canvas


def relative(actions: Floats, state: Floats, index: NDArray[np.int64]) -> Floats:
    """`[T, A]` absolute -> relative to the current state `[S]`, where `index` `[A]` names a state dimension (else -1).

    Every step of the chunk is relative to the state now, not to the step before (openpi-compatible).
    """
    return actions - _reference(state, index)


def absolute(actions: Floats, state: Floats, index: NDArray[np.int64]) -> Floats:
    """The inverse of `relative`."""
    return actions + _reference(state, index)


def _reference(state: Floats, index: NDArray[np.int64]) -> Floats:
    return np.where(index >= 0, state[..., index], np.zeros((), state.dtype))[..., None, :]


def pad(array: NDArray[S], width: int) -> NDArray[S]:
    """Zero-pad the last axis up to `width`; an array that is wide enough is returned as it is."""
    missing = width - array.shape[-1]
    if missing <= 0:
        return array
    padded = np.zeros((*array.shape[:-1], width), array.dtype)  # np.pad takes ten times as long
    padded[..., : array.shape[-1]] = array
    return padded


def discretize(state: Floats, bins: int = 256) -> NDArray[np.int64]:
    """Normalized state -> integers 0..255; -1 below -1, 255 at the top and above (openpi-compatible)."""
    return np.digitize(state, np.linspace(-1, 1, bins + 1)[:-1]) - 1
