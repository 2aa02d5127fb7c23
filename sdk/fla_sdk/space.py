"""`Space` and `Field`: what the numbers of a state or an action mean."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any, Literal

import attrs
import numpy as np
from numpy.typing import NDArray

from fla_sdk.errors import EmbodimentError, nearest

Representation = Literal["absolute", "delta", "velocity"]
Prediction = Literal["as_is", "relative"]
Rotation = Literal["axis_angle", "rpy", "quaternion_xyzw", "rotation_6d"]

UNITS: Mapping[str, str] = {
    "rad": "radians",
    "m": "metres",
    "rad/s": "radians per second",
    "m/s": "metres per second",
    "deg": "degrees",
    "percent": "per cent of the calibrated range, -100 to 100",
    "open_fraction": "0 closed, 1 open",
    "open_percent": "0 closed, 100 open",
    "closed_fraction": "0 open, 1 closed",
    "open_command": "-1 close, +1 open",
    "close_command": "-1 open, +1 close",
    "normalized": "the robot's own scale, about -1 to 1",
    "pixel": "pixels",
}
"""Unit -> what it means. A gripper's polarity is in the name of its unit, so it has one meaning everywhere."""

RESOLUTION: Mapping[str, float] = {
    "rad": 1e-3,
    "m": 1e-4,
    "rad/s": 1e-2,
    "m/s": 1e-3,
    "deg": 1e-1,
    "percent": 1e-1,
    "open_fraction": 1e-2,
    "open_percent": 1.0,
    "closed_fraction": 1e-2,
    "open_command": 1e-2,
    "close_command": 1e-2,
    "normalized": 1e-3,
    "pixel": 1.0,
}
"""Unit -> smallest spread that is taken for motion rather than noise, in that unit."""

ROTATION_WIDTH: Mapping[Rotation, int] = {"axis_angle": 3, "rpy": 3, "quaternion_xyzw": 4, "rotation_6d": 6}


def _strings(value: Sequence[str]) -> tuple[str, ...]:
    if isinstance(value, str):
        raise EmbodimentError(f"expected a sequence of names, got the string {value!r}; write ({value!r},)")
    return tuple(value)


@attrs.frozen(kw_only=True)
class Field:
    """A run of dimensions that share a unit and a meaning. Build one with `joints`, `gripper` or directly."""

    names: tuple[str, ...] = attrs.field(converter=_strings)
    """One name per dimension, as datasets list them."""

    unit: str
    """A key of `UNITS`."""

    representation: Representation = "absolute"
    """What the numbers are in the data and on the robot: positions, steps from the last one, or rates."""

    predict: Prediction = "as_is"
    """What the model learns: the numbers themselves, or their difference to the current state."""

    limits: tuple[float, float] | None = None
    """Lowest and highest value, in `unit`; None when unknown."""

    rotation: Rotation | None = None
    """Format, when these dimensions are one rotation."""

    aliases: tuple[str, ...] = attrs.field(default=(), converter=_strings)
    """Keys under which datasets and robot clients deliver just this field; or, side by side, this and its neighbours
    with the same aliases."""

    def __attrs_post_init__(self) -> None:
        where = f"field {', '.join(self.names) or '(unnamed)'}"
        if not self.names:
            raise EmbodimentError("a field needs at least one dimension name")
        if self.unit not in UNITS:
            hint = f"; did you mean {close!r}?" if (close := nearest(self.unit, UNITS)) else ""
            raise EmbodimentError(f"{where}: unknown unit {self.unit!r}{hint} (known: {', '.join(UNITS)})")
        for attribute, value, known in (
            ("representation", self.representation, ("absolute", "delta", "velocity")),
            ("predict", self.predict, ("as_is", "relative")),
        ):
            if value not in known:
                raise EmbodimentError(f"{where}: {attribute} is {value!r}, must be one of {', '.join(known)}")
        if self.predict == "relative" and self.representation != "absolute":
            raise EmbodimentError(
                f"{where}: predict='relative' of data that is already {self.representation!r}. "
                "Subtracting the state from a step or a rate has no meaning: use predict='as_is', "
                "or representation='absolute' if the data holds positions."
            )
        if self.rotation is not None:
            if self.rotation not in ROTATION_WIDTH:
                raise EmbodimentError(
                    f"{where}: unknown rotation {self.rotation!r} (known: {', '.join(ROTATION_WIDTH)})"
                )
            if len(self.names) != ROTATION_WIDTH[self.rotation]:
                raise EmbodimentError(
                    f"{where}: a {self.rotation} rotation has {ROTATION_WIDTH[self.rotation]} numbers, "
                    f"this field has {len(self.names)}"
                )
            if self.predict == "relative":
                raise EmbodimentError(
                    f"{where}: rotations cannot be predicted 'relative': the difference of two {self.rotation} "
                    "vectors is not a rotation. Predict them as_is, or record them as delta."
                )
        if self.limits is not None and not self.limits[0] < self.limits[1]:
            raise EmbodimentError(f"{where}: limits {self.limits} must be (low, high) with low < high")

    @property
    def width(self) -> int:
        return len(self.names)


def joints(
    *names: str,
    unit: str = "rad",
    representation: Representation = "absolute",
    predict: Prediction = "as_is",
    limits: tuple[float, float] | None = None,
    aliases: Sequence[str] = (),
) -> Field:
    """Joint angles, one dimension per name, in radians unless `unit` says otherwise."""
    return Field(
        names=names, unit=unit, representation=representation, predict=predict, limits=limits, aliases=tuple(aliases)
    )


def gripper(
    name: str = "gripper",
    *,
    unit: str = "open_fraction",
    limits: tuple[float, float] | None = (0.0, 1.0),
    aliases: Sequence[str] = (),
) -> Field:
    """One gripper opening. `open_fraction` is 0 closed and 1 open; say `closed_fraction` for the opposite."""
    return Field(names=(name,), unit=unit, limits=limits, aliases=tuple(aliases))


def default_aliases(kind: str) -> tuple[str, ...]:
    """Keys under which every LeRobot dataset and openpi client delivers a whole `state` or `action`."""
    return {"state": ("state", "observation.state"), "action": ("actions", "action")}.get(kind, ())


@attrs.frozen(init=False)
class Space:
    """An ordered tuple of fields: one state or one action vector `[width]`."""

    fields: tuple[Field, ...]
    aliases: tuple[str, ...]
    """Keys under which datasets and clients deliver the whole vector, besides the usual ones."""

    def __init__(self, *fields: Field, aliases: Sequence[str] = ()) -> None:
        names = [name for field in fields for name in field.names]
        if not names:
            raise EmbodimentError("a space needs at least one field")
        if repeated := sorted({name for name in names if names.count(name) > 1}):
            raise EmbodimentError(f"dimension names must be unique within a space, repeated: {', '.join(repeated)}")
        self.__attrs_init__(fields, _strings(aliases))  # type: ignore[attr-defined]

    def __iter__(self) -> Iterator[Field]:
        return iter(self.fields)

    @property
    def names(self) -> tuple[str, ...]:
        """Dimension names in order."""
        return tuple(name for field in self.fields for name in field.names)

    @property
    def width(self) -> int:
        return len(self.names)

    def slices(self) -> Iterator[tuple[Field, slice]]:
        """Each field with its place in the vector."""
        start = 0
        for field in self.fields:
            yield field, slice(start, start + field.width)
            start += field.width

    def gather(self, record: Mapping[str, Any], kind: str) -> NDArray[np.floating] | None:
        """The vector `[..., width]` from the first alias that `record` has, or field by field; None if it has neither.

        `kind` is `state` or `action`. A scalar stands for a field of one dimension. Widths are not checked here.
        """
        for alias in (*self.aliases, *default_aliases(kind)):
            if alias in record:
                return np.asarray(record[alias])
        parts: list[NDArray[np.floating]] = []
        for aliases, fields in groupby(self.fields, key=lambda field: field.aliases):
            alias = next((a for a in aliases if a in record), None)
            if alias is None:
                return None
            part, width = np.asarray(record[alias]), sum(field.width for field in fields)
            parts.append(part[..., None] if width == 1 and (part.ndim == 0 or part.shape[-1] != 1) else part)
        return np.concatenate(parts, axis=-1)

    def keys(self, kind: str) -> str:
        """The keys that `gather` looks for, for error messages."""
        whole = " or ".join(repr(a) for a in (*self.aliases, *default_aliases(kind)))
        if all(field.aliases for field in self.fields):
            whole += ", or all of " + ", ".join(dict.fromkeys(repr(field.aliases[0]) for field in self.fields))
        return whole
