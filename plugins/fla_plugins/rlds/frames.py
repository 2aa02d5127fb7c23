"""Single camera frames: one small read where the frame lies, and its decoding."""

import io
import zlib
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fla_plugins.rlds.example import Window, boundaries, element, integer_boundaries, integers
from fla_plugins.rlds.index import Index
from fla_plugins.rlds.schema import Leaf, Schema
from fla_plugins.rlds.shard import Shard
from fla_sdk.errors import DataError

_OPEN_FILES = 128


class Frames:
    """Frames of the episodes of an index, from any thread.

    Where the frames of an episode lie is found when the first of them is asked for, and remembered: 4 bytes a frame.
    """

    def __init__(self, index: Index, schema: Schema) -> None:
        self._index = index
        self._places = {leaf.key: place for place, leaf in enumerate(schema.leaves)}
        self._boundaries: dict[tuple[str, int], NDArray[np.unsignedinteger]] = {}
        self._shard = lru_cache(_OPEN_FILES)(Shard)

    def frame(self, leaf: Leaf, episode: int, step: int) -> NDArray[np.uint8]:
        """`[H, W, 3]`. Raises `DataError` saying what is wrong with which record."""
        shard = self._shard(self._index.path(episode))
        try:
            region = self._index.region(episode, leaf, self._places[leaf.key])
            bounds = self._found(shard, leaf, episode)
            start, end = int(bounds[step]), int(bounds[step + 1])
            return _decode(leaf, shard.read(region.start + start, end - start))
        except (DataError, OSError, ValueError, SyntaxError, zlib.error, Image.DecompressionBombError) as error:
            raise DataError(
                f"{self._index.where(episode)}: {leaf.key!r} of step {step} cannot be read ({error}); "
                f"{self._cause(shard, episode)}"
            ) from error

    def _found(self, shard: Shard, leaf: Leaf, episode: int) -> NDArray[np.unsignedinteger]:
        key = leaf.key, episode
        if key not in self._boundaries:
            region = self._index.region(episode, leaf, self._places[leaf.key])
            size = region.end - region.start
            if leaf.kind == "bytes":
                bounds = boundaries(Window(shard), region)
            else:
                bounds = integer_boundaries(shard.read(region.start, size), leaf.width)
            steps = int(self._index.steps[episode])
            if len(bounds) != steps + 1:
                raise DataError(f"it has {len(bounds) - 1} frames, the episode {steps} steps")
            self._boundaries[key] = bounds.astype(np.uint32 if size < 2**32 else np.uint64)
        return self._boundaries[key]

    def _cause(self, shard: Shard, episode: int) -> str:
        if shard.is_intact(self._index.record(episode)):
            return "the record is as it was written, so it was written so"
        return "the record fails its checksum: copy or download the file again"


def _decode(leaf: Leaf, data: bytes) -> NDArray[np.uint8]:
    if leaf.encoding == "image":
        with Image.open(io.BytesIO(element(data))) as image:
            frame = np.asarray(image if image.mode == "RGB" else image.convert("RGB"))
    elif leaf.encoding == "none":
        frame = integers(data).astype(np.uint8).reshape(leaf.shape)
    else:
        value = element(data)
        value = zlib.decompress(value) if leaf.encoding == "zlib" else value
        frame = np.frombuffer(value, np.uint8).reshape(leaf.shape)
    if any(declared not in (-1, size) for declared, size in zip(leaf.shape, frame.shape, strict=True)):
        raise ValueError(f"it is {list(frame.shape)}, features.json declares {list(leaf.shape)}")
    return frame
