"""Frames of mp4 files by integer index. Time stamps are only compared with each other, never computed."""

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs
import av
import numpy as np
from av.error import FFmpegError
from av.video.frame import VideoFrame
from numpy.typing import NDArray

from fla_plugins.lerobot.cache import BoundedCache
from fla_sdk.errors import DataError


@attrs.frozen(kw_only=True, eq=False)
class FrameIndex:
    """Where the frames of one mp4 are."""

    pts: NDArray[np.int64]
    """`[N]` presentation time stamp of each frame, rising, in the stream's time base."""

    keys: NDArray[np.int64]
    """Numbers of the frames at which decoding can begin."""

    def key_before(self, frame: int) -> int:
        return int(self.keys[np.searchsorted(self.keys, frame, side="right") - 1])


def read_index(path: Path) -> FrameIndex:
    """Scan the packets of an mp4, without decoding. Raises `DataError` when it is missing, damaged or empty."""
    with _open(path) as container:
        try:
            packets = [
                (packet.pts, packet.is_keyframe)
                for packet in container.demux(container.streams.video[0])
                if packet.pts is not None and not packet.is_discard
            ]
        except FFmpegError as error:
            raise _damaged(path, error) from error
    pts = np.array([stamp for stamp, _ in packets], np.int64)
    keys = np.array([stamp for stamp, is_key in packets if is_key], np.int64)
    ordered = np.unique(pts)
    if len(ordered) != len(pts) or not len(pts) or ordered[0] not in keys:
        raise DataError(
            f"{path}: {len(pts)} frames with {len(ordered)} different time stamps, first key frame at"
            f" {keys.min() if len(keys) else 'none'}; frames cannot be told apart: encode the video again"
        )
    return FrameIndex(pts=ordered, keys=np.searchsorted(ordered, np.sort(keys)))


class VideoFiles:
    """Random and sequential access to frames of many mp4 files, from any thread.

    A decoder that has just given frame n gives n+1 at the cost of one frame; elsewhere it starts at the key frame
    before. At most `max_open` files stay open; each frame is decoded by a decoder that no other thread holds.
    """

    def __init__(self, *, max_open: int = 16, max_frames: int = 16) -> None:
        self._max_open = max_open
        self._idle: list[_Decoder] = []
        self._lock = threading.Lock()
        self._indexes: BoundedCache[Path, FrameIndex] = BoundedCache(10_000)
        self._frames: BoundedCache[tuple[Path, int], NDArray[np.uint8]] = BoundedCache(max_frames)

    def frame(self, path: Path, frame: int, *, expected: int) -> NDArray[np.uint8]:
        """RGB `[H, W, 3]`, read-only. `expected` is how many frames the episodes in this file have together."""

        def load() -> NDArray[np.uint8]:
            index = self._indexes.get(path, lambda: read_index(path))
            if len(index.pts) != expected:
                raise DataError(
                    f"{path} holds {len(index.pts)} frames, but its episodes have {expected} rows, so images and states"
                    " cannot be matched; record or convert those episodes again"
                )
            decoder = self._take(path, index, frame)
            image = decoder.read(frame)  # a decoder that raises is not handed back
            self._hand_back(decoder)
            image.flags.writeable = False
            return image

        return self._frames.get((path, frame), load)

    def _take(self, path: Path, index: FrameIndex, frame: int) -> "_Decoder":
        with self._lock:
            fitting = [decoder for decoder in self._idle if decoder.path == path]
            if fitting:
                best = min(fitting, key=lambda decoder: decoder.distance(frame))
                self._idle.remove(best)
                return best
        return _Decoder(path, index)

    def _hand_back(self, decoder: "_Decoder") -> None:
        with self._lock:
            self._idle.append(decoder)
            surplus = self._idle[: max(0, len(self._idle) - self._max_open)]
            del self._idle[: len(surplus)]
        for oldest in surplus:
            oldest.close()


class _Decoder:
    """One open mp4 and the number of the frame that decoding would give next."""

    def __init__(self, path: Path, index: FrameIndex) -> None:
        self.path, self._index = path, index
        self._container = _open(path)
        self._stream = self._container.streams.video[0]
        self._next = 0
        self._decoded: Iterator[VideoFrame] = self._container.decode(self._stream)

    def distance(self, frame: int) -> int:
        """How many frames must be decoded to reach `frame`; ties go to the decoder that need not seek."""
        start = self._index.key_before(frame)
        return 2 * (frame - self._next) if start <= self._next <= frame else 2 * (frame - start) + 1

    def read(self, frame: int) -> NDArray[np.uint8]:
        start = self._index.key_before(frame)
        try:
            if not start <= self._next <= frame:
                self._seek(start)
            found = self._forward_to(frame)
            if found is None and start > 0:
                # Containers are searched by decoding time: with reordered frames the search can land too late.
                self._seek(0)
                found = self._forward_to(frame)
            if found is None:
                raise DataError(f"{self.path}: frame {frame} cannot be decoded; encode the video again")
            self._next = frame + 1
            return found.to_ndarray(format="rgb24").astype(np.uint8, copy=False)
        except FFmpegError as error:
            raise _damaged(self.path, error) from error

    def _seek(self, frame: int) -> None:
        self._container.seek(int(self._index.pts[frame]), stream=self._stream, backward=True)
        self._decoded = self._container.decode(self._stream)
        self._next = frame

    def _forward_to(self, frame: int) -> VideoFrame | None:
        target = int(self._index.pts[frame])
        for decoded in self._decoded:
            if decoded.pts is not None and decoded.pts >= target:
                return decoded if decoded.pts == target else None
        return None

    def close(self) -> None:
        self._container.close()


def _open(path: Path) -> Any:
    try:
        container = av.open(str(path))
    except FileNotFoundError as error:
        raise DataError(f"missing file {path}; the dataset is incomplete: copy or download it again") from error
    except (FFmpegError, OSError) as error:
        raise _damaged(path, error) from error
    if not container.streams.video:
        container.close()
        raise _damaged(path, "it holds no video")
    return container


def _damaged(path: Path, error: Exception | str) -> DataError:
    return DataError(f"{path} is damaged or cut short: {error}; copy or download it again")
