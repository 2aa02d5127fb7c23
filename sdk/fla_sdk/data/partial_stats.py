"""`PartialStats`: statistics of one robot from some of its data, which add up with those from the rest."""

import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import attrs
import numpy as np

from fla_sdk.config import structure, unstructure
from fla_sdk.data.distribution import BINS, Distribution
from fla_sdk.embodiment import Embodiment
from fla_sdk.errors import FlaError, StatsError
from fla_sdk.normalization import NormStats, Stats, fingerprint
from fla_sdk.space import RESOLUTION

FORMAT = 1
METHOD = f"percentiles from histograms of {BINS} bins"


@attrs.frozen(kw_only=True)
class Dimension:
    """One number of a state or an action."""

    name: str
    unit: str = attrs.field(validator=attrs.validators.in_(RESOLUTION))
    relative: bool = False
    """Whether the model predicts its difference to the current state."""


@attrs.frozen(kw_only=True)
class Basis:
    """What statistics must have in common to be pooled."""

    embodiment: str
    control_mode: str
    horizon: int
    """Actions of a chunk."""

    state: tuple[Dimension, ...]
    actions: tuple[Dimension, ...]

    @classmethod
    def of(cls, embodiment: Embodiment, *, horizon: int) -> "Basis":
        state, actions = (
            tuple(
                Dimension(name=name, unit=field.unit, relative=field.predict == "relative")
                for field in space
                for name in field.names
            )
            for space in (embodiment.state, embodiment.action)
        )
        return cls(
            embodiment=embodiment.name,
            control_mode=embodiment.control_mode,
            horizon=horizon,
            state=state,
            actions=actions,
        )


@attrs.frozen(kw_only=True)
class Row:
    """A dimension and its statistics, in its unit, as tables show them."""

    kind: str
    """`state` or `actions`."""

    name: str
    unit: str
    min: float
    q01: float
    mean: float
    std: float
    q99: float
    max: float
    note: str


@attrs.frozen(kw_only=True, eq=False)
class PartialStats:
    """Distributions of a robot's states and of its actions as the model predicts them."""

    basis: Basis
    parts: tuple[str, ...]
    """Fingerprints of the demonstrations."""

    state: tuple[Distribution, ...]
    actions: tuple[Distribution, ...]

    @property
    def count(self) -> int:
        """Samples."""
        return self.state[0].count

    @property
    def fingerprint(self) -> str:
        """Of the demonstrations, in whatever order they were pooled, and of the method."""
        return fingerprint({"parts": sorted(self.parts), "method": METHOD})

    def __add__(self, other: "PartialStats") -> "PartialStats":
        """Of all samples of both. Raises `StatsError` when they are of different robots."""
        both = [
            f"{name}: {_shown(ours)} and {_shown(theirs)}"
            for name, ours in attrs.asdict(self.basis, recurse=False).items()
            if ours != (theirs := getattr(other.basis, name))
        ]
        if both:
            raise StatsError(f"statistics can only be pooled for one robot and one horizon, got {'; '.join(both)}")
        return PartialStats(
            basis=self.basis,
            parts=(*self.parts, *other.parts),
            state=tuple(a + b for a, b in zip(self.state, other.state, strict=True)),
            actions=tuple(a + b for a, b in zip(self.actions, other.actions, strict=True)),
        )

    def norm_stats(self) -> NormStats:
        """What the codec needs. Dimensions that spread less than the resolution of their unit are not blown up."""
        state, actions = (
            _stats(found).resolved(np.array([RESOLUTION[one.unit] for one in about]))
            for found, about in ((self.state, self.basis.state), (self.actions, self.basis.actions))
        )
        return NormStats(
            state=state,
            actions=actions,
            count=self.count,
            fingerprint=self.fingerprint,
            method=METHOD,
        )

    def rows(self) -> Iterator[Row]:
        """Every dimension as it is in the data, states first."""
        for kind, found, about in (
            ("state", self.state, self.basis.state),
            ("actions", self.actions, self.basis.actions),
        ):
            stats = attrs.asdict(_stats(found), recurse=False)
            for i, one in enumerate(about):
                values = {name: float(values[i]) for name, values in stats.items()}
                note = _note(one.unit, values["q99"] - values["q01"], values["max"] - values["min"])
                yield Row(kind=kind, name=one.name, unit=one.unit, note=note, **values)

    def to_json(self) -> str:
        """A file that `from_json` reads, on this or another machine."""
        tree = {
            "format": FORMAT,
            "basis": unstructure(self.basis),
            "parts": self.parts,
            "state": [one.to_json() for one in self.state],
            "actions": [one.to_json() for one in self.actions],
        }
        return json.dumps(tree)

    @classmethod
    def from_json(cls, text: str, *, where: str) -> "PartialStats":
        """Raises `StatsError` naming `where` and what is wrong."""
        try:
            tree = json.loads(text)
            if tree["format"] != FORMAT:
                raise StatsError(f"it has format {tree['format']!r}, this version of fla-sdk reads {FORMAT}")
            basis = structure(tree["basis"], Basis, where="basis")
            found = {kind: tuple(map(Distribution.from_json, tree[kind])) for kind in ("state", "actions")}
            for kind, about in (("state", basis.state), ("actions", basis.actions)):
                if len(found[kind]) != len(about) or not about or len({one.count for one in found[kind]}) != 1:
                    raise StatsError(
                        f"{kind} has {len(about)} dimensions and distributions of "
                        f"{', '.join(str(one.count) for one in found[kind])} values"
                    )
            return cls(basis=basis, parts=tuple(map(str, tree["parts"])), **found)
        except (FlaError, KeyError, TypeError, AttributeError, ValueError, OverflowError) as error:
            reason = error if isinstance(error, FlaError) else f"{type(error).__name__}: {error}"
            raise StatsError(
                f"{where} does not hold statistics that can be pooled: {reason}. Write them with "
                "`fla stats DATA --part FILE`"
            ) from error

    @classmethod
    def load(cls, path: Path) -> "PartialStats":
        """Read a file of `to_json`; raises `StatsError`."""
        if not path.is_file():
            raise StatsError(f"there are no statistics at {path}; write them with `fla stats DATA --part {path}`")
        return cls.from_json(path.read_text(errors="replace"), where=str(path))


def hardly_moving(rows: Iterable[Row]) -> str:
    """One line about the dimensions with a note; empty when there are none."""
    return "; ".join(f"{row.kind} {row.name!r} {row.note}" for row in rows if row.note)


def _note(unit: str, spread: float, widest: float) -> str:
    """What becomes of a dimension that hardly moves; empty for others."""
    resolution = RESOLUTION[unit]
    if spread >= resolution:
        return ""
    if widest >= resolution:
        return f"rests in 98 % of the rows ({spread:.2g} {unit}, below {resolution:g}): scaled by its extremes"
    return f"spreads {spread:.2g} {unit}, below {resolution:g}: scaled as if it were {resolution:g}"


def _stats(found: Sequence[Distribution]) -> Stats:
    return Stats(
        mean=[one.mean for one in found],
        std=[one.std for one in found],
        q01=[one.quantile(0.01) for one in found],
        q99=[one.quantile(0.99) for one in found],
        min=[one.low for one in found],
        max=[one.high for one in found],
    )


def _shown(value: str | int | tuple[Dimension, ...]) -> str:
    """Dimensions by name and unit."""
    if not isinstance(value, tuple):
        return repr(value)
    return ", ".join(f"{one.name} ({one.unit}{', relative' if one.relative else ''})" for one in value)
