"""Frames of mp4 files by integer index. Time stamps are only compared with each other, never computed."""

import threading
from fractions import Fraction
from pathlib import Path
from typing import Any, BinaryIO, cast

import attrs
import av
import numpy as np
from av.error import FFmpegError
from numpy.typing import NDArray

from fla_plugins.lerobot.cache import BoundedCache
from fla_plugins.lerobot.mp4 import Samples, read_samples
from fla_sdk.errors import DataError

REORDERED = 32
"""A frame is shown at most so many packets after the one that holds it has been decoded."""


@attrs.frozen(kw_only=True, eq=False)
class FrameIndex:
    """Where the frames of one mp4 are. A packet holds one frame; packets are counted in the order of decoding."""

    positions: NDArray[np.int64]
    """`[N]` of each packet in the file."""

    sizes: NDArray[np.int32]
    """`[N]` bytes of each packet."""

    shown: NDArray[np.int32]
    """`[N]` the number of the frame that a packet holds, by the time at which it is shown."""

    packets: NDArray[np.int32]
    """`[N]` the packet that holds each frame."""

    keys: NDArray[np.int32]
    """`[K]` frames at which decoding can begin, rising."""

    rate: float
    """Frames per second on average; nan for a single frame."""

    coding: "Coding"

    def __len__(self) -> int:
        return len(self.positions)

    def key_before(self, frame: int) -> int:
        """The packet at which decoding has to begin."""
        return int(self.packets[self.keys[np.searchsorted(self.keys, frame, side="right") - 1]])


@attrs.frozen(kw_only=True)
class Coding:
    """What a decoder is made of; decoders of equal coding can read each other's files."""

    codec: str
    extradata: bytes | None
    colors: tuple[tuple[str, int], ...]
    """What the container says about colours, for codecs that do not."""

    def decoder(self) -> Any:
        # Several threads would decode ahead, which is lost when the next frame is asked for elsewhere.
        context: Any = av.CodecContext.create(self.codec, "r")
        context.thread_count, context.extradata = 1, self.extradata
        for name, value in self.colors:
            setattr(context, name, value)
        return context


_COLORS = ("colorspace", "color_range", "color_primaries", "color_trc")

_codings: BoundedCache[bytes, Coding] = BoundedCache(1000)
"""By the description in the file: to ask libavformat for it takes longer than to decode a frame."""


def read_index(path: Path) -> FrameIndex:
    """Read where the frames are, without decoding. Raises `DataError` when it is missing, damaged or empty."""
    try:
        with path.open("rb") as file:
            samples = read_samples(file)
    except FileNotFoundError as error:
        raise DataError(f"missing file {path}; the dataset is incomplete: copy or download it again") from error
    except OSError as error:
        raise _damaged(path, error) from error
    if samples is None:
        samples, coding = _scan(path)
    else:
        coding = _codings.get(samples.description, lambda: _scan(path, packets=False)[1])
    stamps, count = samples.stamps, len(samples.stamps)
    packets = np.argsort(stamps, kind="stable")
    ordered, keys = stamps[packets], samples.keys[packets]
    if not count or not keys[0] or (ordered[1:] == ordered[:-1]).any():
        raise DataError(
            f"{path}: {count} frames with {len(np.unique(stamps))} different time stamps, first key frame at"
            f" {int(np.argmax(keys)) if keys.any() else 'none'}; frames cannot be told apart: encode the video again"
        )
    shown = np.empty(count, np.int32)
    shown[packets] = np.arange(count)
    return FrameIndex(
        positions=samples.positions,
        sizes=samples.sizes.astype(np.int32),
        shown=shown,
        packets=packets.astype(np.int32),
        keys=np.flatnonzero(keys).astype(np.int32),
        rate=float((count - 1) * samples.scale / (ordered[-1] - ordered[0])) if count > 1 else np.nan,
        coding=coding,
    )


def _scan(path: Path, *, packets: bool = True) -> tuple[Samples, Coding]:
    """What libavformat finds, reading through the whole file unless `packets` are not wanted."""
    try:
        with cast(Any, av.open(str(path))) as container:
            if not container.streams.video:
                raise _damaged(path, "it holds no video")
            stream = container.streams.video[0]
            coding = Coding(
                codec=stream.codec_context.codec.name,
                extradata=stream.codec_context.extradata,
                colors=tuple((name, int(getattr(stream.codec_context, name))) for name in _COLORS),
            )
            found: list[tuple[int, int, int, bool]] = []
            for packet in container.demux(stream) if packets else ():
                if packet.pts is not None and not packet.is_discard:
                    if not found:
                        _check_place(path, packet)
                    found.append((packet.pos, packet.size, packet.pts, packet.is_keyframe))
            positions, sizes, stamps, keys = np.array(found, np.int64).reshape(-1, 4).T
            base = stream.time_base or Fraction(1)
            samples = Samples(
                positions=positions,
                sizes=sizes,
                stamps=stamps * base.numerator,
                keys=keys.astype(np.bool_),
                scale=base.denominator,
                description=b"",
            )
            return samples, coding
    except (FFmpegError, OSError) as error:
        raise _damaged(path, error) from error


def _check_place(path: Path, packet: Any) -> None:
    """In an mp4 packets lie as they are; other containers cut them up or put something before them."""
    with path.open("rb") as file:
        file.seek(packet.pos or 0)
        if file.read(packet.size) != bytes(packet):
            raise DataError(f"{path} is no mp4, although it is named so; put the video into one (`ffmpeg -c copy`)")


class VideoFiles:
    """Random and sequential access to frames of many mp4 files, from any thread.

    A decoder that has just given frame n gives n+1 at the cost of one frame; elsewhere it starts at the key frame
    before. At most `max_idle` decoders are kept, with one open file each; a frame is decoded by a decoder that no
    other thread holds.
    """

    def __init__(self, *, max_idle: int = 16, max_indexed: int = 1 << 23) -> None:
        """`max_indexed` frames (24 bytes each) are remembered where they are."""
        self._max_idle = max_idle
        self._idle: list[_Decoder] = []
        self._lock = threading.Lock()
        self._indexes: BoundedCache[Path, FrameIndex] = BoundedCache(max_indexed, weight=len)

    def index(self, path: Path) -> FrameIndex:
        """Where the frames of a file are."""
        return self._indexes.get(path, lambda: read_index(path))

    def frame(self, path: Path, frame: int) -> NDArray[np.uint8]:
        """RGB `[H, W, 3]`, read-only. Raises `DataError` when it cannot be decoded, `IndexError` past the end."""
        index = self.index(path)
        if not 0 <= frame < len(index):
            raise IndexError(f"frame {frame} of {path}, which has {len(index)}")
        decoder = self._take(path, index, frame)
        try:
            image = decoder.read(frame)
        except BaseException:
            decoder.close()
            raise
        self._hand_back(decoder)
        image.flags.writeable = False
        return image

    def _take(self, path: Path, index: FrameIndex, frame: int) -> "_Decoder":
        with self._lock:
            same = [decoder for decoder in self._idle if decoder.index is index]
            if same:
                decoder = min(same, key=lambda decoder: decoder.distance(frame))
            else:
                full = len(self._idle) >= self._max_idle
                decoder = next((d for d in self._idle if full and d.coding == index.coding), None)
            if decoder is not None:
                self._idle.remove(decoder)
        if decoder is None:
            return _Decoder(path, index)
        if decoder.index is not index:
            decoder.open(path, index)
        return decoder

    def _hand_back(self, decoder: "_Decoder") -> None:
        with self._lock:
            self._idle.append(decoder)
            surplus = self._idle[: max(0, len(self._idle) - self._max_idle)]
            del self._idle[: len(surplus)]
        for oldest in surplus:
            oldest.close()


class _Decoder:
    """A codec, fed with packets of one file at a time, and what it would give next."""

    _file: BinaryIO | None = None

    def __init__(self, path: Path, index: FrameIndex) -> None:
        self.coding, self._context = index.coding, index.coding.decoder()
        self.open(path, index)

    def open(self, path: Path, index: FrameIndex) -> None:
        """Read from another file of the same coding from now on."""
        self.close()
        try:
            self._file = path.open("rb", buffering=0)
        except OSError as error:
            raise _damaged(path, error) from error
        self.index, self._path = index, path
        self._next, self._passed, self._ready = 0, len(index), list[Any]()

    def distance(self, frame: int) -> int:
        """How many packets must be decoded to reach `frame`; ties go to the decoder that need not begin anew."""
        last = int(self.index.packets[frame])
        return 2 * (last - self._next) if self._reaches(frame) else 2 * (last - self.index.key_before(frame)) + 1

    def _reaches(self, frame: int) -> bool:
        """Whether going on gives the frame, without decoding more than from the key frame before it."""
        return self._passed < frame and self.index.key_before(frame) < self._next

    def read(self, frame: int) -> NDArray[np.uint8]:
        try:
            found = self._forward_to(frame) if self._reaches(frame) else None
            if found is None:
                self._begin(frame)
                found = self._forward_to(frame)
            if found is None:
                # A file may order frames otherwise than `_forward_to` expects; then none is left out.
                self._begin(frame)
                found = self._forward_to(frame, leave_out=False)
        except (FFmpegError, OSError) as error:
            raise _damaged(self._path, error) from error
        if found is None:
            raise DataError(f"{self._path}: frame {frame} cannot be decoded; encode the video again")
        return found.to_ndarray(format="rgb24").astype(np.uint8, copy=False)

    def _begin(self, frame: int) -> None:
        self._context.flush_buffers()
        self._next = self.index.key_before(frame)
        self._passed, self._ready = int(self.index.shown[self._next]) - 1, []

    def _forward_to(self, frame: int, *, leave_out: bool = True) -> Any:
        """Decode up to `frame`. Frames before it that no other refers to are left out."""
        index = self.index
        last = int(index.packets[frame])
        while True:
            while self._ready:
                decoded = self._ready.pop(0)
                self._passed = max(self._passed, decoded.pts)
                if decoded.pts == frame:
                    return decoded
            if self._next > min(last + REORDERED, len(index)):
                return None
            self._context.skip_frame = "NONREF" if leave_out and self._next < last else "DEFAULT"
            self._ready = self._context.decode(self._packet(self._next) if self._next < len(index) else None)
            self._next += 1

    def _packet(self, number: int) -> Any:
        position, size = int(self.index.positions[number]), int(self.index.sizes[number])
        assert self._file is not None
        self._file.seek(position)
        data = self._file.read(size)
        if len(data) < size:
            raise _damaged(self._path, f"frame {self.index.shown[number]} should end at byte {position + size}")
        packet = av.Packet(data)
        packet.pts = int(self.index.shown[number])
        return packet

    def close(self) -> None:
        if self._file is not None:
            self._file.close()

    __del__ = close  # a dataset has no end of its own; its files close with it


def _damaged(path: Path, error: Exception | str) -> DataError:
    return DataError(f"{path} is damaged or cut short: {error}; copy or download it again")
