"""`features.json`: what the features of an episode are called in its records, and what they hold."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

import attrs
import numpy as np

from fla_plugins.rlds.example import Kind
from fla_sdk.data.dataset import Feature
from fla_sdk.errors import DataError

Holds = Literal["numbers", "text", "image"]

STEPS = "steps/"


@attrs.frozen(kw_only=True)
class Leaf:
    """One feature: of every step when its key begins with `steps/`, else of the episode."""

    key: str
    """As records spell it: `steps/observation/image`."""

    holds: Holds
    dtype: str
    """As declared: `float64`, though TFRecords hold 32 bits of it."""

    shape: tuple[int, ...]
    """Of one step; -1 where it varies, which only encoded images may."""

    encoding: str
    """`none` (numbers in their own lists), `bytes` or `zlib` (of a whole array), `image` (JPEG, PNG, ...), `text`."""

    @property
    def name(self) -> str:
        return self.key.removeprefix(STEPS)

    @property
    def width(self) -> int:
        return int(np.prod(self.shape, dtype=np.int64))

    @property
    def kind(self) -> Kind:
        if self.encoding != "none":
            return "bytes"
        return "floats" if np.dtype(self.dtype).kind == "f" else "integers"

    @property
    def is_colour(self) -> bool:
        return self.dtype == "uint8" and len(self.shape) == 3 and self.shape[2] == 3

    @property
    def column_dtype(self) -> str:
        """Of the column in memory: a FloatList holds 32 bits, whatever was declared."""
        return "float32" if self.kind == "floats" else self.dtype

    @property
    def feature(self) -> Feature:
        if self.holds == "text":
            return Feature(dtype="string", shape=(1,))
        return Feature(dtype="image" if self.holds == "image" else self.column_dtype, shape=self.shape)


@attrs.frozen(kw_only=True)
class Schema:
    steps: tuple[Leaf, ...]
    episode: tuple[Leaf, ...]
    unsupported: Mapping[str, str]
    """Features of a step that cannot be read, and why."""

    @property
    def leaves(self) -> tuple[Leaf, ...]:
        return (*self.steps, *self.episode)


def read_schema(path: Path) -> Schema:
    """Raises `DataError` for a file that is missing, damaged, or not of episodes."""
    try:
        declared = json.loads(path.read_text())
    except FileNotFoundError as error:
        raise DataError(f"missing file {path}, which says what the records hold; copy it from the dataset") from error
    except (OSError, ValueError) as error:
        raise DataError(f"{path} is damaged ({error}); copy it again") from error
    found: list[Leaf] = []
    unsupported: dict[str, str] = {}
    try:
        for key, node, ragged in _leaves("", declared, sequences=0):
            leaf = ragged or _leaf(key, node)
            if isinstance(leaf, Leaf):
                found.append(leaf)
            elif key.startswith(STEPS):
                unsupported[key.removeprefix(STEPS)] = leaf
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise DataError(f"{path} is not a features.json of TensorFlow Datasets ({error!r}); copy it again") from error
    steps = tuple(sorted((leaf for leaf in found if leaf.key.startswith(STEPS)), key=lambda leaf: leaf.key))
    if not steps:
        raise DataError(f"{path} declares no steps, so this is not a dataset of episodes (RLDS)")
    episode = tuple(leaf for leaf in found if not leaf.key.startswith(STEPS))
    return Schema(steps=steps, episode=episode, unsupported=unsupported)


def _leaves(key: str, node: Mapping[str, Any], *, sequences: int) -> Iterator[tuple[str, Mapping[str, Any], str]]:
    """Key, declaration, and why it cannot be read if that is so, of each feature below `node`."""
    if "featuresDict" in node:
        for name, inner in node["featuresDict"]["features"].items():
            yield from _leaves(f"{key}/{name}" if key else name, inner, sequences=sequences)
    elif "sequence" in node:
        yield from _leaves(key, node["sequence"]["feature"], sequences=sequences + 1)
    else:
        of_steps = key.startswith(STEPS)
        ragged = sequences > of_steps
        yield key, node, "it is a sequence of varying length" if ragged else ""


def _leaf(key: str, node: Mapping[str, Any]) -> Leaf | str:
    """The feature, or why it cannot be read."""
    if "text" in node:
        return Leaf(key=key, holds="text", dtype="string", shape=(), encoding="text")
    if "classLabel" in node:
        return Leaf(key=key, holds="numbers", dtype="int64", shape=(), encoding="none")
    if "image" in node:
        image = node["image"]
        dtype, shape = image.get("dtype") or "uint8", _shape(image) or (-1, -1, 3)
        return Leaf(key=key, holds="image", dtype=dtype, shape=shape, encoding="image")
    if "tensor" not in node:
        return f"it is a {node['pythonClassName'].rsplit('.', 1)[-1]}"
    tensor = node["tensor"]
    shape, dtype, encoding = _shape(tensor), tensor["dtype"], (tensor.get("encoding") or "none").lower()
    if dtype in ("string", "object"):
        return Leaf(key=key, holds="text", dtype="string", shape=(), encoding="text") if not shape else "it is text"
    if encoding not in ("none", "bytes", "zlib"):
        return f"its encoding is {encoding!r}"
    if any(size < 1 for size in shape):
        return f"its shape {list(shape)} varies"
    leaf = Leaf(key=key, holds="numbers", dtype=np.dtype(dtype).name, shape=shape, encoding=encoding)
    return attrs.evolve(leaf, holds="image") if leaf.is_colour else leaf


def _shape(node: Mapping[str, Any]) -> tuple[int, ...]:
    return tuple(int(size) for size in (node.get("shape") or {}).get("dimensions", ()))
