"""Distributions add up: in any order, from any parts, the histogram is that of one pass."""

import functools
import json
import operator
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fla_sdk.data.distribution import BINS, Distribution
from fla_sdk.errors import StatsError

# float32 is what datasets hold; offsets and scales of any size come with it.
VALUES = st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=1, max_size=30)


def of(values: list[float]) -> Distribution:
    return Distribution.of(np.array(values))


def same_counts(a: Distribution, b: Distribution) -> bool:
    return (a.count, a.low, a.high) == (b.count, b.low, b.high) and np.array_equal(a.counts, b.counts)


@given(a=VALUES, b=VALUES, c=VALUES)
def test_sums_are_those_of_one_pass_in_any_order(a: list[float], b: list[float], c: list[float]) -> None:
    whole = of(a + b + c)
    assert len(whole.counts) <= BINS
    for one in ((of(a) + of(b)) + of(c), of(a) + (of(b) + of(c)), of(c) + of(a) + of(b)):
        assert same_counts(one, whole)
        size = max(abs(whole.low), abs(whole.high))
        assert one.mean == pytest.approx(whole.mean, rel=1e-12, abs=1e-14 * size)
        assert one.std == pytest.approx(whole.std, rel=1e-9, abs=1e-7 * size)


@given(values=VALUES, q=st.floats(0, 1))
def test_percentiles_are_at_most_a_bin_off(values: list[float], q: float) -> None:
    one = of(values)
    spread = one.high - one.low
    exact = np.quantile(np.array(values), q)
    # Numbers of bins end at 2^53, so a spread that float64 hardly resolves has wider ones; and so does rounding.
    rounding = 2.0**-51 * max(abs(one.low), abs(one.high))
    assert abs(one.quantile(q) - exact) <= one.bin_width + rounding
    assert one.bin_width <= max(spread / 32767, rounding, 2.0**-1000)


@pytest.mark.parametrize("shape", ["normal", "heavy", "two_places", "far_away"])
def test_many_values_in_blocks(shape: str) -> None:
    rng = np.random.default_rng(0)
    values = {
        "normal": rng.normal(size=50_000),
        "heavy": rng.standard_t(2, size=50_000),
        "two_places": np.where(rng.uniform(size=50_000) < 0.02, 1.0, 0.0),
        "far_away": 1e6 + rng.normal(size=50_000),
    }[shape]
    one = functools.reduce(operator.add, map(Distribution.of, np.array_split(values, 17)))
    assert one.mean == pytest.approx(values.mean(), rel=1e-13)
    assert one.std == pytest.approx(values.std(), rel=1e-9)
    for q in (0, 0.01, 0.5, 0.99, 1):
        assert one.quantile(q) == pytest.approx(np.quantile(values, q), abs=one.bin_width)


@given(values=VALUES, data=st.data())
def test_weights_repeat_values(values: list[float], data: st.DataObject) -> None:
    weights = data.draw(st.lists(st.integers(1, 5), min_size=len(values), max_size=len(values)))
    weighted = Distribution.of(np.array(values), np.array(weights))
    repeated = Distribution.of(np.repeat(np.array(values), weights))
    assert same_counts(weighted, repeated)
    size = max(abs(repeated.low), abs(repeated.high))
    assert weighted.mean == pytest.approx(repeated.mean, rel=1e-12, abs=1e-14 * size)
    assert weighted.std == pytest.approx(repeated.std, rel=1e-9, abs=1e-7 * size)


def test_constants_are_exact() -> None:
    for value in (0.0, 3.1, -1e30, 1e-30):
        one = of([value] * 7) + of([value])
        assert (one.mean, one.std) == (pytest.approx(value, rel=1e-15), pytest.approx(0, abs=1e-15 * abs(value)))
        assert one.quantile(0.01) == one.quantile(0.99) == value


def test_nothing_is_written_to() -> None:
    values, weights = np.arange(5.0), np.ones(5, np.int64)
    values.flags.writeable = weights.flags.writeable = False
    one = Distribution.of(values, weights)
    one.counts.flags.writeable = False
    assert (one + one).count == 10
    assert one.count == 5


@given(values=VALUES)
def test_json_round_trip_is_exact(values: list[float]) -> None:
    one = of(values)
    again = Distribution.from_json(json.loads(json.dumps(one.to_json())))
    assert same_counts(one, again)
    assert (one.mean, one.squares) == (again.mean, again.squares)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"counts": [1, 2]}, "of 3 values in 32769 bins, from 1.0 to 3.0, has 3 bins that hold 3"),
        ({"counts": [1, 3, -1]}, "that hold 3"),
        ({"count": 4}, "of 4 values in 32769 bins"),
        ({"bins": [0, 5, 5]}, "has 3 bins"),
        ({"bins": [0, 5, 32769]}, "has 3 bins"),
        ({"bins": [], "counts": [], "count": 0}, "has 0 bins"),
        ({"low": 9.0}, "from 9.0 to 3.0, mean 2.0, squares 2.0, is none"),
        ({"mean": float("nan")}, "mean nan, squares 2.0, is none"),
        ({"squares": -1.0}, "squares -1.0, is none"),
    ],
)
def test_contradictions_are_refused(changes: dict[str, Any], message: str) -> None:
    tree = of([1.0, 2.0, 3.0]).to_json()
    with pytest.raises(StatsError, match=message):
        Distribution.from_json(tree | changes)
