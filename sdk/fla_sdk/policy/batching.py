"""Requests of several robots as one compiled call: which rows fit together, and the shapes that programs have."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import attrs
import numpy as np
from numpy.typing import NDArray

from fla_sdk.codec import Codec, collate_inputs
from fla_sdk.errors import ConfigError
from fla_sdk.model import ActionPrefix, ModelInput


class Kind(NamedTuple):
    """Rows of one kind go through the same program."""

    rest: bool
    """They continue a chunk."""

    guided: bool
    """They have a weight of guidance, and so two prompts each."""

    def __str__(self) -> str:
        named = [name for name, holds in (("continuing chunks", self.rest), ("guided", self.guided)) if holds]
        return ", ".join(named) or "plain"


@attrs.frozen(kw_only=True, eq=False)
class Prepared:
    """A request as its model sees it: one row of a batch."""

    codec: Codec
    state: NDArray[np.floating]
    """`[S]`, in the robot's units: what the answer is decoded at."""

    inputs: ModelInput
    prefix: ActionPrefix | None
    """Of a batch of one."""

    guidance: float | None

    @property
    def kind(self) -> Kind:
        return Kind(self.prefix is not None, self.guidance is not None)


class Shape(NamedTuple):
    """What a program is compiled for."""

    batch: int
    slots: tuple[str, ...]
    length: int
    """Of the prompt, in tokens."""

    kind: Kind

    def holds(self, other: "Shape") -> bool:
        """Whether rows of `other` can be padded to this shape."""
        return (
            self.kind == other.kind
            and self.batch >= other.batch
            and self.length >= other.length
            and set(self.slots) >= set(other.slots)
        )

    @property
    def cost(self) -> tuple[int, int, int]:
        return self.batch, len(self.slots), self.length

    def __str__(self) -> str:
        robots = "one robot" if self.batch == 1 else f"{self.batch} robots at once"
        return f"{robots}, {len(self.slots)} cameras, prompts of {self.length} tokens, {self.kind}"


def buckets(most: int) -> tuple[int, ...]:
    """The batch sizes that are compiled: 1, 2, 4, ... and `most`."""
    if most < 1:
        raise ConfigError(f"max_batch is {most}, must be at least 1")
    return (*(2**i for i in range(most.bit_length()) if 2**i < most), most)


def bucket(count: int, most: int) -> int:
    """The smallest of them that holds `count` rows."""
    return next(size for size in buckets(most) if size >= count)


def shape_of(rows: Sequence[Prepared], *, most: int) -> Shape:
    """The smallest shape that holds `rows`, which are of one kind."""
    slots = sorted({slot for row in rows for slot in row.inputs.images})
    length = max(row.inputs.tokens.shape[-1] for row in rows)
    return Shape(bucket(len(rows), most), tuple(slots), length, rows[0].kind)


def stack(
    rows: Sequence[Prepared], shape: Shape, *, size: tuple[int, int]
) -> tuple[ModelInput, ActionPrefix | None, NDArray[np.float32] | None]:
    """Inputs, prefix and guidance `[B, 1, 1]` of `rows`, padded to `shape`; `size` is that of images.

    The first row fills the batch up: it is known to be good, and nobody looks at its answer.
    """
    rows = [*rows, *[rows[0]] * (shape.batch - len(rows))]
    inputs = collate_inputs([row.inputs for row in rows], slots=shape.slots, size=size, length=shape.length)
    if not shape.kind.guided:
        inputs = inputs._replace(indicator=None)  # not looked at; and rows with and without one are of one kind
    prefixes = [row.prefix for row in rows if row.prefix is not None]
    prefix = ActionPrefix(*(np.concatenate(leaves) for leaves in zip(*prefixes, strict=True))) if prefixes else None
    weights = [row.guidance for row in rows if row.guidance is not None]
    return inputs, prefix, np.array(weights, np.float32)[:, None, None] if weights else None


def examples(codec: Codec) -> list[dict[str, Any]]:
    """What a robot may send: with all of its cameras, and with those alone that it must have."""
    whole = {**codec.embodiment.example_observation(), "embodiment": codec.embodiment.name}
    optional = [f"images/{camera.name}" for camera in codec.embodiment.cameras if not camera.required]
    return [whole, {key: value for key, value in whole.items() if key not in optional}] if optional else [whole]
