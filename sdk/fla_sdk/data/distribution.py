"""`Distribution`: how the values of one dimension are spread, in a form that can be added up in any order."""

import math
from collections.abc import Mapping
from functools import cached_property
from typing import Any

import attrs
import numpy as np
from numpy.typing import NDArray

from fla_sdk.errors import StatsError

BINS = 2**16
"""Most bins of a histogram. A bin is narrower than 1 / 32767 of the range."""

_FINEST = -1000
"""Exponent of the narrowest bin."""


@attrs.define(kw_only=True, eq=False, slots=False)
class Distribution:
    """Count, extremes, mean and deviation of some values, and a histogram for their percentiles.

    A bin is a power of two wide and begins at a multiple of its width, and the extremes alone decide which power. So
    a coarse bin is the union of finer ones: counts add up without error, and those of a sum are those of one pass,
    whatever the order and the blocks. Mean and deviation are merged in float64 (Chan, Golub and LeVeque 1979).
    """

    count: int
    low: float
    high: float
    mean: float
    squares: float
    """Sum of squared distances from the mean."""

    counts: NDArray[np.int64]
    """From the bin of `low` to the bin of `high`."""

    @classmethod
    def of(cls, values: NDArray[np.floating], weights: NDArray[np.int64] | None = None) -> "Distribution":
        """Of finite `values` `[N]`, N above 0, each counted as often as `weights` `[N]` says (at least once)."""
        values = values.astype(np.float64)
        low, high = float(values.min()), float(values.max())
        exponent = _exponent(low, high)
        scaled = values * 2.0**-exponent
        bins = scaled.view(np.int64)  # in place: fresh memory costs more than the arithmetic
        np.floor(scaled, out=bins, casting="unsafe")
        bins -= _bin(low, exponent)
        counts = np.bincount(bins, weights).astype(np.int64, copy=False)
        count = len(values) if weights is None else int(weights.sum())
        mean = _sum(values, weights) / count
        values -= mean
        values *= values
        squares = _sum(values, weights)
        return cls(count=count, low=low, high=high, mean=mean, squares=squares, counts=counts)

    def __add__(self, other: "Distribution") -> "Distribution":
        """Of the values of both."""
        low, high = min(self.low, other.low), max(self.high, other.high)
        exponent = _exponent(low, high)
        first = _bin(low, exponent)
        counts = np.zeros(_bin(high, exponent) - first + 1, np.int64)
        for one in (self, other):
            coarse = one._coarsened(exponent)
            start = _bin(one.low, exponent) - first
            counts[start : start + len(coarse)] += coarse
        count = self.count + other.count
        apart, share = other.mean - self.mean, other.count / count
        return Distribution(
            count=count,
            low=low,
            high=high,
            mean=self.mean + apart * share,
            squares=self.squares + other.squares + apart**2 * self.count * share,
            counts=counts,
        )

    @property
    def std(self) -> float:
        """Of the values themselves, not an estimate for more of their kind."""
        return math.sqrt(self.squares / self.count)

    @cached_property
    def _exponent(self) -> int:
        return _exponent(self.low, self.high)

    @property
    def bin_width(self) -> float:
        return 2.0**self._exponent

    def quantile(self, q: float) -> float:
        """As `numpy.quantile` has it, at most one `bin_width` off."""
        rank = q * (self.count - 1)
        below = int(rank)
        left, right = self._ranked(below), self._ranked(min(below + 1, self.count - 1))
        return left + (right - left) * (rank - below)

    def _ranked(self, rank: int) -> float:
        """The value with `rank` smaller ones, as if those of a bin lay evenly in it."""
        place = int(np.searchsorted(self._ends, rank, side="right"))
        inside = int(self.counts[place])
        part = (rank - (int(self._ends[place]) - inside) + 0.5) / inside
        value = (_bin(self.low, self._exponent) + place + part) * self.bin_width
        return min(max(value, self.low), self.high)

    @cached_property
    def _ends(self) -> NDArray[np.int64]:
        return np.cumsum(self.counts)

    def _coarsened(self, exponent: int) -> NDArray[np.int64]:
        """Counts in bins of `2**exponent`, from the one that holds `low`."""
        finer = exponent - self._exponent
        if finer == 0:
            return self.counts
        step = 1 << min(finer, 60)
        edge = -_bin(self.low, self._exponent) % step
        starts = np.arange(edge, len(self.counts), step)
        return np.add.reduceat(self.counts, starts if edge == 0 else np.append(0, starts))

    def to_json(self) -> dict[str, Any]:
        """Plain values that `from_json` reads back without loss; empty bins are left out."""
        filled = np.flatnonzero(self.counts)
        return attrs.asdict(self) | {"bins": filled.tolist(), "counts": self.counts[filled].tolist()}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "Distribution":
        """Raises `StatsError` when the values contradict each other, and what python raises when some are missing."""
        low, high, mean, squares = (float(values[name]) for name in ("low", "high", "mean", "squares"))
        if not all(map(math.isfinite, (low, high, mean, squares))) or not low <= high or squares < 0:
            raise StatsError(f"a distribution from {low} to {high}, mean {mean}, squares {squares}, is none")
        exponent = _exponent(low, high)
        counts = np.zeros(_bin(high, exponent) - _bin(low, exponent) + 1, np.int64)
        bins, filled, count = np.array(values["bins"], np.int64), np.array(values["counts"], np.int64), values["count"]
        fits = bins.shape == filled.shape == (len(bins),) and len(bins) and 0 <= bins[0] <= bins[-1] < len(counts)
        if not fits or (np.diff(bins) < 1).any() or (filled < 1).any() or filled.sum() != count:
            raise StatsError(
                f"a histogram of {count} values in {len(counts)} bins, from {low} to {high}, has {len(bins)} bins that "
                f"hold {filled.sum()}"
            )
        counts[bins] = filled
        return cls(count=int(count), low=low, high=high, mean=mean, squares=squares, counts=counts)


def _sum(values: NDArray[np.float64], weights: NDArray[np.int64] | None) -> float:
    """Pairwise, which a dot product is not; and that wakes threads, which wait longer than it takes."""
    return float((values if weights is None else values * weights).sum())


def _bin(value: float, exponent: int) -> int:
    return math.floor(math.ldexp(value, -exponent))


def _exponent(low: float, high: float) -> int:
    """Of the narrowest bins, as a power of two, of which at most `BINS` reach from `low` to `high`.

    A wider range never has narrower bins: this is what makes histograms of parts mergeable without loss.
    """
    spread, size = high - low, max(-low, high)
    # Numbers of bins are exact in float64. The other bound is too narrow by one or two steps.
    exponent = max(math.frexp(size)[1] - 53 if size else _FINEST, _FINEST)
    exponent = max(math.frexp(spread)[1] - 18, exponent) if spread else exponent
    while _bin(high, exponent) - _bin(low, exponent) >= BINS:
        exponent += 1
    return exponent
