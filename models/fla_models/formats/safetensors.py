"""Files of named arrays in the safetensors format, one array in memory at a time."""

import json
import math
import struct
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import attrs
import ml_dtypes
import numpy as np

from fla_sdk.errors import CheckpointError
from fla_sdk.model import Array

_DTYPES: Mapping[str, np.dtype[Any]] = {
    "F32": np.dtype(np.float32),
    "F16": np.dtype(np.float16),
    "BF16": np.dtype(ml_dtypes.bfloat16),
}
_INDEX, _SINGLE = "model.safetensors.index.json", "model.safetensors"


class _Handle(Protocol):
    """What we use of `safetensors.safe_open`."""

    def keys(self) -> list[str]: ...
    def get_tensor(self, name: str) -> Any: ...
    def get_slice(self, name: str) -> Any: ...


class Place(NamedTuple):
    """Where an array lies."""

    file: Path
    handle: _Handle
    name: str
    """As the file calls it."""


@attrs.frozen(kw_only=True)
class Tensors:
    """Arrays of one file or of several shards, by name; nothing is read before it is asked for."""

    where: Path
    places: Mapping[str, Place]

    @classmethod
    def open(cls, path: Path) -> "Tensors | None":
        """A `.safetensors` file, or a folder with `model.safetensors` or the index of its shards; else None.

        Raises `CheckpointError` naming the file that is missing, cut short or damaged.
        """
        if path.is_file() and path.suffix == ".safetensors":
            return cls(where=path, places=_scan(path))
        if (path / _INDEX).is_file():
            return cls(where=path, places=_sharded(path / _INDEX))
        if (path / _SINGLE).is_file():
            return cls(where=path, places=_scan(path / _SINGLE))
        return None

    def renamed(self, rename: Callable[[str], str]) -> "Tensors":
        """The same arrays under other names. Raises `CheckpointError` when two would have the same."""
        places: dict[str, Place] = {}
        for name, place in self.places.items():
            if (new := rename(name)) in places:
                raise CheckpointError(f"{self.where} holds {new} twice: as {places[new].name} and as {place.name}")
            places[new] = place
        return attrs.evolve(self, places=places)

    def shape(self, name: str) -> tuple[int, ...]:
        place = self.places[name]
        return tuple(place.handle.get_slice(place.name).get_shape())

    def dtype(self, name: str) -> np.dtype[Any]:
        """Raises `CheckpointError` for anything but floats, such as quantized weights."""
        place = self.places[name]
        code = place.handle.get_slice(place.name).get_dtype()
        if code not in _DTYPES:
            raise CheckpointError(
                f"{place.file}: {place.name} is of type {code}; only {', '.join(_DTYPES)} can be read. "
                "Quantized weights have to be converted back first."
            )
        return _DTYPES[code]

    def read(self, name: str) -> np.ndarray[Any, Any]:
        """A copy of the array in the type of the file."""
        place = self.places[name]
        return place.handle.get_tensor(place.name)


def _scan(file: Path) -> dict[str, Place]:
    from safetensors import SafetensorError, safe_open

    try:
        handle = safe_open(file, "numpy")
    except (SafetensorError, OSError) as error:
        size = file.stat().st_size if file.is_file() else None
        raise CheckpointError(
            f"{file} cannot be read as safetensors ({error}): it is "
            + ("missing" if size is None else f"damaged or cut short at {size:,} bytes")
            + "; fetch it again"
        ) from error
    return {name: Place(file, handle, name) for name in handle.keys()}  # noqa: SIM118


def _sharded(index: Path) -> dict[str, Place]:
    try:
        shards: Mapping[str, str] = dict(json.loads(index.read_text())["weight_map"])
    except (ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{index} is damaged: {type(error).__name__}: {error}") from error
    places: dict[str, Place] = {}
    for shard in sorted(set(shards.values())):
        places |= _scan(index.parent / shard)
    if lost := sorted(shards.keys() - places.keys()):
        raise CheckpointError(
            f"{index} lists {len(shards)} arrays, but its shards lack {len(lost)} of them, "
            f"among them {lost[0]} of {shards[lost[0]]}; fetch the folder again"
        )
    return places


class Item(NamedTuple):
    """An array to be written."""

    name: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    make: Callable[[], Array]


def write(file: Path, items: Iterable[Item], *, metadata: Mapping[str, str]) -> None:
    """Write `file`, calling each `make` when its turn comes. The file appears only when it is complete."""
    items = list(items)
    codes = {dtype: code for code, dtype in _DTYPES.items()}
    header: dict[str, Any] = {"__metadata__": dict(metadata)}
    end = 0
    for item in items:
        start, end = end, end + math.prod(item.shape) * item.dtype.itemsize
        header[item.name] = {"dtype": codes[item.dtype], "shape": item.shape, "data_offsets": (start, end)}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    partial = file.with_name(f"{file.name}.partial")
    with partial.open("wb") as out:
        out.write(struct.pack("<Q", len(text)) + text)
        for item in items:
            array = np.ascontiguousarray(item.make(), item.dtype)
            if array.shape != item.shape:
                raise CheckpointError(f"{item.name} was announced as {item.shape} and is {array.shape}")
            out.write(array.view(np.uint8).data if array.size else b"")
    partial.rename(file)
