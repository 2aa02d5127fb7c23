"""`VideoEncoder`: one mp4, frame by frame."""

import os
from collections.abc import Mapping
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

from fla_sdk.errors import DataError

CODECS = {
    # LeRobot's own choice: every second frame is a key frame, so that random access costs at most two.
    "libsvtav1": {"preset": "10", "crf": "30", "g": "2"},
    "libx264": {"preset": "veryfast", "crf": "23", "g": "2"},
}


SMALLEST = {"libsvtav1": 64, "libx264": 2}
"""Pixels per side. SVT-AV1 3.0 ends the whole process with a division by zero at 16x16."""


def choose_codec(height: int, width: int) -> str:
    """The first of `CODECS` that this PyAV has and that can encode frames of this size. Raises `DataError`."""
    if height % 2 or width % 2:
        raise DataError(
            f"images are {height}x{width}, but video needs even sizes; resize them or record with video=False"
        )
    for codec in CODECS:
        if codec in av.codecs_available and min(height, width) >= SMALLEST[codec]:
            return codec
    raise DataError(f"this PyAV has neither {' nor '.join(CODECS)}; install the `av` wheel, or use video=False")


def codec_of(entry: Mapping[str, Any]) -> str:
    """The encoder for more episodes of a camera that info.json describes so; "" for the best that there is."""
    details = {**(entry.get("video_info") or {}), **(entry.get("info") or {})}
    encoder = {"av1": "libsvtav1", "h264": "libx264"}.get(str(details.get("video.codec")), "")
    return encoder if encoder in av.codecs_available else ""


class VideoEncoder:
    """Encodes frames of one size to yuv420p as they come, so that a long episode needs no memory."""

    def __init__(self, path: Path, *, fps: float, height: int, width: int, codec: str) -> None:
        # SVT-AV1 prints its settings on stderr for every file; 1 leaves its errors. A user's own choice stays.
        os.environ.setdefault("SVT_LOG", "1")
        self.path, self.frames, self.codec = path, 0, codec
        path.parent.mkdir(parents=True, exist_ok=True)
        self._container = av.open(str(path), "w", format="mp4")
        rate = Fraction(fps).limit_denominator(1001)
        self._stream: Any = self._container.add_stream(codec, rate=rate, options=dict(CODECS[codec]))
        self._stream.height, self._stream.width, self._stream.pix_fmt = height, width, "yuv420p"

    def add(self, image: NDArray[np.uint8]) -> None:
        """Encode one frame `[H, W, 3]`."""
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")
        self._container.mux(self._stream.encode(frame))
        self.frames += 1

    def finish(self) -> None:
        """Flush the encoder and close the file."""
        self._container.mux(self._stream.encode())
        self._container.close()

    def abort(self) -> None:
        """Close and delete the unfinished file."""
        self._container.close()
        self.path.unlink(missing_ok=True)


def video_details(*, fps: float, height: int, width: int, codec: str) -> dict[str, Any]:
    """What `meta/info.json` says about a camera stored as video."""
    return {
        "video.height": height,
        "video.width": width,
        "video.channels": 3,
        "video.codec": "av1" if codec == "libsvtav1" else "h264",
        "video.pix_fmt": "yuv420p",
        "video.fps": fps,
        "video.g": int(CODECS[codec]["g"]),
        "video.crf": int(CODECS[codec]["crf"]),
        "has_audio": False,
        "is_depth_map": False,
    }
