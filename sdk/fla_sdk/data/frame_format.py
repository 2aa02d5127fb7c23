"""`FrameFormat`: how a camera frame lies in the frame cache."""

import io
from functools import partial
from typing import Any

import attrs
import numpy as np
from numpy.typing import NDArray

from fla_sdk.errors import ConfigError
from fla_sdk.sample import PendingImage
from fla_sdk.transforms import resize_with_pad


@attrs.frozen(kw_only=True)
class FrameFormat:
    """The size that a model sees, as JPEG or as plain bytes."""

    size: tuple[int, int]
    """Height and width in pixels."""

    quality: int | None = 95
    """Of JPEG, 1 to 95; None keeps plain bytes, which are exact, six times as large and a little faster."""

    def __attrs_post_init__(self) -> None:
        if len(self.size) != 2 or min(self.size) < 1:
            raise ConfigError(f"frame cache: size is {self.size}, must be height and width in pixels")
        if self.quality is not None and not 1 <= self.quality <= 95:
            raise ConfigError(f"frame cache: quality is {self.quality}, must be 1 to 95, or none for plain bytes")

    def __str__(self) -> str:
        kind = "plain bytes" if self.quality is None else f"JPEG {self.quality}"
        return f"{self.size[0]}x{self.size[1]}, {kind}"

    @property
    def typical_bytes(self) -> int:
        """Of one frame; those of JPEG vary."""
        height, width = self.size
        return height * width * 3 if self.quality is None else max(1, height * width // 2)

    def encode(self, image: NDArray[np.uint8]) -> bytes:
        """`[H, W, 3]` of any size, fitted into `size` as the codec does it."""
        fitted = resize_with_pad(image, *self.size)
        if self.quality is None:
            return fitted.tobytes()
        from PIL import Image

        buffer = io.BytesIO()
        Image.fromarray(fitted).save(buffer, "JPEG", quality=self.quality)
        return buffer.getvalue()

    def pending(self, encoded: bytes) -> PendingImage:
        """`[height, width, 3]`, still to be decoded."""
        return PendingImage(shape=(*self.size, 3), into=partial(self._decode, encoded))

    def _decode(self, encoded: bytes, into: NDArray[np.uint8]) -> None:
        if self.quality is None:
            into[...] = np.frombuffer(encoded, np.uint8).reshape(into.shape)
            return
        # Pillow gives the same pixels in twice the processor time, and its threads wait for each other.
        import simplejpeg  # pyright: ignore[reportMissingTypeStubs]

        library: Any = simplejpeg
        library.decode_jpeg(encoded, "RGB", buffer=into)
