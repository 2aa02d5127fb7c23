"""Statistics against the reference: the same text of `norm_stats.json`, read and written, and the same numbers."""

import itertools
import json
import operator
import re
from typing import Any

import numpy as np
import pytest

from fla_sdk.data.distribution import Distribution
from fla_sdk.normalization import NormStats


def test_text_both_ways(golden: Any) -> None:
    """To the character, but for exponents: the reference writes 1e-7 where Python's json writes 1e-07."""
    text = golden.json("norm_stats_json")["text"]
    written = NormStats.from_json(text).to_json()
    assert re.sub(r"(e[+-]?)0+(?=\d)", r"\1", written) == text
    assert json.loads(written) == json.loads(text)


def test_read_values_and_dtypes(golden: Any) -> None:
    stored = golden.json("norm_stats_json")
    stats = NormStats.from_json(stored["text"])
    for kind, dtypes in stored["roundtrip_dtypes"].items():
        for name, dtype in dtypes.items():
            value: Any = getattr(getattr(stats, kind), name)
            assert (value is None) if dtype is None else (value.dtype == np.dtype(dtype)), f"{kind} {name}"


@pytest.mark.parametrize("dtype", ["f64", "f32"])
def test_statistics_of_batches(golden: Any, dtype: str) -> None:
    """The reference's percentiles are left edges of 5000 bins between the extremes, so they lie a bin lower at most.

    They are compared until the range grows: then the reference loses the counts of its lowest bin.
    """
    z = golden.npz("running_stats")
    within = 1e-12 if dtype == "f64" else 1e-5  # float32 batches are summed in float32
    batches = [z[name] for name in z if name.startswith(f"{dtype}/batch")]
    rows = [batch.reshape(-1, batch.shape[-1]) for batch in batches]
    low, high = rows[0].min(axis=0), rows[0].max(axis=0)
    for dimension in range(rows[0].shape[-1]):
        found = [Distribution.of(batch[:, dimension]) for batch in rows]
        for i, one in enumerate(itertools.accumulate(found, operator.add)):
            expected = {name: z[f"{dtype}/after{i}/{name}"][dimension] for name in ("mean", "std", "q01", "q99")}
            assert one.mean == pytest.approx(expected["mean"], rel=within, abs=within)
            assert one.std == pytest.approx(expected["std"], rel=within, abs=within)
            if one.low < low[dimension] or one.high > high[dimension]:
                assert i > 0
                continue
            seen = np.sort(np.concatenate([batch[:, dimension] for batch in rows[: i + 1]]).astype(np.float64))
            bin_width = (one.high - one.low) / 5000 * 1.001
            for name, quantile in (("q01", 0.01), ("q99", 0.99)):
                # The reference takes the value at this rank, ours lies between it and its neighbours.
                rank = int(np.ceil(quantile * len(seen))) - 1
                assert 0 <= seen[rank] - expected[name] <= bin_width, f"{name} after {i}"
                below, above = seen[max(rank - 1, 0)] - one.bin_width, seen[min(rank + 1, len(seen) - 1)]
                assert below <= one.quantile(quantile) <= above + one.bin_width, f"{name} after {i}"


def test_statistics_of_a_constant(golden: Any) -> None:
    z = golden.npz("running_stats")
    for dimension, constant in enumerate(z["constant/mean"]):
        one = Distribution.of(np.full(10, constant))
        # The reference's first bin begins 1e-10 below the smallest value.
        found = {"mean": one.mean, "std": one.std, "q01": one.quantile(0.01), "q99": one.quantile(0.99)}
        for name, value in found.items():
            assert value == pytest.approx(z[f"constant/{name}"][dimension], abs=2e-10), name
