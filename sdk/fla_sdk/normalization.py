"""`NormStats`: the statistics that bring states and actions to the model's scale, and the two ways to apply them."""

import hashlib
import json
from collections.abc import Mapping
from operator import index
from pathlib import Path
from typing import Any

import attrs
import numpy as np
from numpy.typing import NDArray

from fla_sdk.errors import ConfigError, StatsError

Floats = NDArray[np.floating]
EPSILON = 1e-6


def _vector(value: Any) -> Floats:
    array = np.array(value)  # a copy: statistics outlive the arrays they came from
    return array if array.dtype.kind == "f" else array.astype(np.float64)


def _optional_vector(value: Any) -> Floats | None:
    return None if value is None else _vector(value)


@attrs.frozen(kw_only=True, eq=False)
class Stats:
    """Per-dimension statistics, `[width]` each, in the units that the model predicts in."""

    mean: Floats = attrs.field(converter=_vector)
    std: Floats = attrs.field(converter=_vector)
    q01: Floats | None = attrs.field(default=None, converter=_optional_vector)
    """1st percentile; None in statistics made for z-scores only."""
    q99: Floats | None = attrs.field(default=None, converter=_optional_vector)
    min: Floats | None = attrs.field(default=None, converter=_optional_vector)
    """Smallest value; None in files of openpi."""
    max: Floats | None = attrs.field(default=None, converter=_optional_vector)

    def __attrs_post_init__(self) -> None:
        for name, value in attrs.asdict(self, recurse=False).items():
            if value is None:
                continue
            if value.shape != self.mean.shape or value.ndim != 1:
                raise StatsError(
                    f"statistics: {name} has shape {value.shape}, mean has {self.mean.shape}; both must be [width]"
                )
            if not np.isfinite(value).all():
                raise StatsError(f"statistics: {name} is not finite in dimension {int(np.argmin(np.isfinite(value)))}")

    @property
    def width(self) -> int:
        return len(self.mean)

    @classmethod
    def of(cls, rows: Floats) -> "Stats":
        """Exact statistics of `rows` `[N, width]`."""
        if rows.ndim != 2 or len(rows) < 2:
            raise StatsError(f"statistics need at least 2 rows [N, width], got an array of shape {rows.shape}")
        rows = rows.astype(np.float64)
        q01, q99 = np.quantile(rows, [0.01, 0.99], axis=0)
        return cls(
            mean=rows.mean(axis=0), std=rows.std(axis=0), q01=q01, q99=q99, min=rows.min(axis=0), max=rows.max(axis=0)
        )

    def resolved(self, resolution: Floats) -> "Stats":
        """Without dimensions that would blow rounding noise up to full scale.

        Where the percentiles lie closer than `resolution` `[width]` they become the extremes, which a gripper that
        opens once reaches, or are moved apart to it around their middle. The deviation is raised to it.
        """
        q01, q99 = _quantiles(self, "quantile")
        still = q99 - q01 < resolution
        if self.min is None or self.max is None:
            low, high = q01, q99
        else:
            rare = self.max - self.min >= resolution
            low, high = np.where(rare, self.min, q01), np.where(rare, self.max, q99)
        middle, half = (low + high) / 2, np.maximum(high - low, resolution) / 2
        return attrs.evolve(
            self,
            std=np.maximum(self.std, resolution),
            q01=np.where(still, middle - half, q01),
            q99=np.where(still, middle + half, q99),
        )


@attrs.frozen(kw_only=True, eq=False)
class NormStats:
    """Statistics of one embodiment's states and of its actions as the model predicts them."""

    state: Stats
    actions: Stats
    count: int = 0
    """Rows they were computed from; 0 when unknown (files of openpi do not say)."""

    fingerprint: str = ""
    """Of the data, the embodiment and the horizon they were computed from; empty when unknown."""

    method: str = ""
    """How percentiles were found, or where the statistics were taken from; empty when unknown."""

    def to_json(self) -> str:
        """openpi's `norm_stats.json`, with what it lacks added: extremes, count, fingerprint and method.

        openpi ignores the additions. Statistics read from its files are written as they were.
        """
        tree: dict[str, Any] = {"norm_stats": {"state": _listed(self.state), "actions": _listed(self.actions)}}
        if self.count or self.fingerprint or self.method:
            tree |= {"count": self.count, "fingerprint": self.fingerprint, "method": self.method}
        return json.dumps(tree, indent=2)

    @classmethod
    def from_json(cls, text: str, *, where: str = "norm_stats.json") -> "NormStats":
        """Read openpi's or our own file; raises `StatsError` naming `where` and the missing key."""
        try:
            tree = json.loads(text)
            parts = {kind: _read(tree["norm_stats"][kind]) for kind in ("state", "actions")}
            return cls(
                **parts,
                count=index(tree.get("count", 0)),
                fingerprint=str(tree.get("fingerprint", "")),
                method=str(tree.get("method", "")),
            )
        except (StatsError, KeyError, TypeError, AttributeError, ValueError) as error:
            reason = error if isinstance(error, StatsError) else f"{type(error).__name__}: {error}"
            raise StatsError(
                f"{where} is not a statistics file: {reason}. "
                'Expected {"norm_stats": {"state": {"mean", "std", "q01", "q99"}, "actions": {...}}}'
            ) from error

    @classmethod
    def load(cls, path: Path) -> "NormStats":
        """Read a `norm_stats.json`; raises `StatsError` when it is missing or damaged."""
        if not path.is_file():
            raise StatsError(f"no statistics at {path}; they are written by training, next to the parameters")
        return cls.from_json(path.read_text(), where=str(path))


def _read(values: Mapping[str, Any]) -> Stats:
    optional = {name: values.get(name) for name in ("q01", "q99", "min", "max")}
    return Stats(mean=values["mean"], std=values["std"], **optional)


def _listed(stats: Stats) -> dict[str, list[float] | None]:
    values = {k: None if v is None else [float(x) for x in v] for k, v in attrs.asdict(stats, recurse=False).items()}
    return {k: v for k, v in values.items() if v is not None or k in ("q01", "q99")}


def fingerprint(parts: Mapping[str, Any]) -> str:
    """A short stable hash of plain values."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()[:16]


def normalize(x: Floats, stats: Stats, kind: str) -> Floats:
    """`[..., width]` to the model's scale, without clipping (openpi-compatible).

    `quantile`: the 1st and 99th percentile go to -1 and 1. `zscore`: mean 0, deviation 1. Statistics longer than the
    data are cut to its width.
    """
    n = x.shape[-1]
    if kind == "zscore":
        return (x - stats.mean[:n]) / (stats.std[:n] + EPSILON)
    q01, q99 = _quantiles(stats, kind)
    return (x - q01[:n]) / (q99[:n] - q01[:n] + EPSILON) * 2.0 - 1.0


def unnormalize(x: Floats, stats: Stats, kind: str) -> Floats:
    """The inverse of `normalize`. Statistics longer than the data are cut, dimensions beyond them pass through."""
    n = min(stats.width, x.shape[-1])
    extra = (0, x.shape[-1] - n)
    if kind == "zscore":
        # openpi takes a missing deviation as 1, so the epsilon reaches those dimensions too: they grow by a millionth.
        std, mean = np.pad(stats.std[:n], extra, constant_values=1), np.pad(stats.mean[:n], extra)
        return x * (std + EPSILON) + mean
    q01, q99 = (quantile[:n] for quantile in _quantiles(stats, kind))
    known = (x[..., :n] + 1.0) / 2.0 * (q99 - q01 + EPSILON) + q01
    return np.concatenate([known, x[..., n:]], axis=-1) if extra[1] else known


def _quantiles(stats: Stats, kind: str) -> tuple[Floats, Floats]:
    if kind != "quantile":
        raise ConfigError(f"unknown normalization {kind!r} (known: quantile, zscore)")
    if stats.q01 is None or stats.q99 is None:
        raise StatsError(
            "quantile normalization needs the 1st and 99th percentile, but these statistics have none; "
            "compute them again from the data"
        )
    return stats.q01, stats.q99
