"""Which arrays of a PyTorch layout are which of ours: names, axes and layers, as entries that work both ways."""

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import attrs
import numpy as np

from fla_models.formats.safetensors import Item, Tensors
from fla_sdk.errors import CheckpointError, nearest
from fla_sdk.model import Array

Flat = dict[str, Array]


@attrs.frozen
class Entry:
    """One parameter of ours and what it is called and how it is laid out elsewhere."""

    path: str
    names: tuple[str, ...]
    """Theirs. With `{}` in the place of the layer's number where our array has a leading axis of layers. Several where
    our next axis holds what is several arrays for them: keys and values, gate and up."""

    axes: str
    """Ours and theirs, a letter each, joined axes without a comma: `NDH->NH,D` moves the heads of `[N, D, H]` to the
    front and flattens them to `[N * H, D]`."""

    sizes: Mapping[str, int]
    """Letter -> length. At most one letter of each joined axis may be free; `L` is the number of layers."""

    padded: bool = False
    """Their first axis may be longer than ours and is cut."""

    @property
    def ours(self) -> str:
        return self.axes.split("->")[0]

    @property
    def theirs(self) -> list[str]:
        return self.axes.split("->")[1].split(",")

    @property
    def layers(self) -> range | None:
        return range(self.sizes["L"]) if "{}" in self.names[0] else None

    def all_names(self) -> list[list[str]]:
        """Names by layer (one row when there are no layers), in the order of our array."""
        return [[name.format(i) for name in self.names] for i in self.layers or (0,)]

    def lengths(self, shape: Sequence[int]) -> dict[str, int] | None:
        """The length of every letter when one of their arrays has this shape; None when the shape does not fit."""
        if len(shape) != len(self.theirs):
            return None
        found: dict[str, int] = {}
        for i, (axes, length) in enumerate(zip(self.theirs, shape, strict=True)):
            free = [letter for letter in axes if letter not in self.sizes]
            known = math.prod(self.sizes[letter] for letter in axes if letter in self.sizes)
            found |= {letter: self.sizes[letter] for letter in axes if letter in self.sizes}
            if free and length % known == 0:
                found[free[0]] = length // known
            elif free or (length < known if self.padded and i == 0 else length != known):
                return None
        return found

    def expected(self) -> str:
        """The shape of one of their arrays, for messages."""
        sides = ("*".join(str(self.sizes.get(letter, letter)) for letter in axes) for axes in self.theirs)
        return f"({', '.join(sides)})"

    def from_ours(self, array: Array) -> Array:
        """One of their arrays from our `[*axes]`."""
        lengths = dict(zip(self.ours, array.shape, strict=True))
        turned = array.transpose([self.ours.index(letter) for letter in "".join(self.theirs)])
        return turned.reshape([math.prod(lengths[letter] for letter in axes) for axes in self.theirs])

    def to_ours(self, array: Array) -> Array:
        """Our `[*axes]` from one of their arrays. The shape must fit."""
        lengths, joined = self.lengths(array.shape), "".join(self.theirs)
        assert lengths is not None
        if self.padded:
            array = array[: lengths[joined[0]]]
        return array.reshape([lengths[letter] for letter in joined]).transpose([joined.index(c) for c in self.ours])


def entries(
    rows: Sequence[tuple[str, str | tuple[str, ...], str]],
    *,
    ours: str,
    theirs: str,
    sizes: Mapping[str, int],
    padded: Sequence[str] = (),
) -> list[Entry]:
    """Rows of path, name or names, and axes; `ours` and `theirs` go before every path and name."""
    return [
        Entry(
            path=ours + path,
            names=tuple(theirs + name for name in ((names,) if isinstance(names, str) else names)),
            axes=axes,
            sizes=sizes,
            padded=path in padded,
        )
        for path, names, axes in rows
    ]


def items(table: Sequence[Entry], parameters: Mapping[str, Array]) -> Iterator[Item]:
    """Their arrays, to be written one by one. Every entry's path must be in `parameters`.

    Raises `CheckpointError` when a parameter has another shape than the model's config says.
    """
    for entry in table:
        whole = parameters[entry.path]
        lead = [len(entry.layers)] if entry.layers else []
        lead += [len(entry.names)] if len(entry.names) > 1 else []
        inner = tuple(whole.shape[len(lead) :])
        wanted = tuple(entry.sizes.get(letter, length) for letter, length in zip(entry.ours, inner, strict=False))
        if list(whole.shape[: len(lead)]) != lead or inner != wanted or len(inner) != len(entry.ours):
            raise CheckpointError(
                f"{entry.path} has shape {tuple(whole.shape)}, the config says {(*lead, *wanted)}: "
                "the parameters belong to another config"
            )
        lengths = dict(zip(entry.ours, inner, strict=True))
        shape = tuple(math.prod(lengths[letter] for letter in axes) for axes in entry.theirs)
        for i, row in enumerate(entry.all_names()):
            for j, name in enumerate(row):
                index = ((i,) if entry.layers else ()) + ((j,) if len(row) > 1 else ())

                def make(entry: Entry = entry, index: tuple[int, ...] = index) -> Array:
                    return entry.from_ours(np.asarray(parameters[entry.path][index]))

                yield Item(name, shape, np.dtype(whole.dtype), make)


def read(table: Sequence[Entry], tensors: Tensors, *, unused: str) -> Flat:
    """Our parameters from their arrays, in the types of the file. What the file has nothing of is left out.

    `unused` is a pattern of the names that may stay behind. Raises `CheckpointError` when layers are missing or too
    many, a shape does not fit, or an array is none of the table's.
    """
    _check_layers(table, tensors)
    flat: Flat = {}
    used: set[str] = set()
    for entry in table:
        names = entry.all_names()
        wanted = [name for row in names for name in row]
        used.update(wanted)
        present = [name for name in wanted if name in tensors.places]
        if not present:
            continue
        if lost := [name for name in wanted if name not in tensors.places]:
            raise CheckpointError(
                f"{tensors.where} has {len(present)} of the {len(wanted)} arrays that make {entry.path}; "
                f"missing: {', '.join(lost[:4])}{' ...' if len(lost) > 4 else ''}"
            )
        flat[entry.path] = _stack(entry, tensors, names)
    unknown = sorted(name for name in tensors.places.keys() - used if not re.fullmatch(unused, name))
    if unknown:
        close = nearest(unknown[0], used)
        raise CheckpointError(
            f"{tensors.where} has {len(unknown)} arrays that this model has no place for: "
            f"{', '.join(tensors.places[name].name for name in unknown[:4])}{' ...' if len(unknown) > 4 else ''}"
            + (f" (nearest to the first: {close})" if close else "")
            + ". Name the model variant that the file was made for."
        )
    return flat


def _stack(entry: Entry, tensors: Tensors, names: list[list[str]]) -> np.ndarray[Any, Any]:
    lengths: dict[str, int] | None = None
    kinds: set[np.dtype[Any]] = set()
    for name in (name for row in names for name in row):
        shape, first = tensors.shape(name), lengths
        lengths = entry.lengths(shape)
        if lengths is None or (first is not None and lengths != first):
            raise CheckpointError(
                f"{tensors.where}: {tensors.places[name].name} has shape {shape}, this model's {entry.path} needs "
                f"{entry.expected()}. Name the model variant that the file was made for."
            )
        kinds.add(tensors.dtype(name))
    assert lengths is not None
    if not entry.layers and len(entry.names) == 1:  # such as the embedding: too large to be copied once more
        return np.ascontiguousarray(entry.to_ours(tensors.read(names[0][0])))
    dtype = kinds.pop() if len(kinds) == 1 else np.dtype(np.float32)
    inner = [lengths[letter] for letter in entry.ours]
    out = np.empty((len(names), len(entry.names), *inner), dtype)
    for i, row in enumerate(names):
        for j, name in enumerate(row):
            out[i, j] = entry.to_ours(tensors.read(name))
    lead = ([len(names)] if entry.layers else []) + ([len(entry.names)] if len(entry.names) > 1 else [])
    return out.reshape(*lead, *inner)


def _check_layers(table: Sequence[Entry], tensors: Tensors) -> None:
    depths = {entry.names[0].split("{}")[0]: entry.sizes["L"] for entry in table if entry.layers}
    for prefix, depth in depths.items():
        pattern = re.compile(re.escape(prefix) + r"(\d+)\.")
        found = {int(m[1]) for name in tensors.places if (m := pattern.match(name))}
        if not found or found == set(range(depth)):
            continue
        if max(found) >= depth:
            raise CheckpointError(
                f"{tensors.where} holds {max(found) + 1} layers under {prefix}, the model has {depth}. "
                "Name the model variant that the file was made for."
            )
        lost = sorted(set(range(depth)) - found)
        raise CheckpointError(
            f"{tensors.where} holds {len(found)} of {depth} layers under {prefix}; missing: "
            f"{', '.join(map(str, lost[:8]))}{' ...' if len(lost) > 8 else ''}. "
            "The file is not whole, or of a shallower model."
        )
