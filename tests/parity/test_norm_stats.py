"""Statistics against the reference: the same text of `norm_stats.json`, read and written, and the same numbers."""

import json
import re
from typing import Any

import numpy as np
import pytest

from fla_sdk.normalization import NormStats, Stats


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
    """Ours are exact. The reference's percentiles are left edges of 5000 bins between the extremes.

    They are compared until the range grows: then the reference loses the counts of its lowest bin.
    """
    z = golden.npz("running_stats")
    within = 1e-12 if dtype == "f64" else 1e-5  # float32 batches are summed in float32
    batches = [z[name] for name in z if name.startswith(f"{dtype}/batch")]
    rows = [batch.reshape(-1, batch.shape[-1]).astype(np.float64) for batch in batches]
    low, high = rows[0].min(axis=0), rows[0].max(axis=0)
    for i in range(len(rows)):
        seen = np.sort(np.concatenate(rows[: i + 1]), axis=0)
        stats = Stats.of(seen, min_range=0)
        np.testing.assert_allclose(stats.mean, z[f"{dtype}/after{i}/mean"], rtol=within, atol=within)
        np.testing.assert_allclose(stats.std, z[f"{dtype}/after{i}/std"], rtol=within, atol=within)
        if (seen[0] < low).any() or (seen[-1] > high).any():
            assert i > 0
            continue
        for name, quantile in (("q01", 0.01), ("q99", 0.99)):
            rank = int(np.ceil(quantile * len(seen))) - 1
            left = seen[rank] - z[f"{dtype}/after{i}/{name}"]
            assert (left >= 0).all() and (left <= (high - low) / 5000 * 1.001).all(), f"{name} after {i}"
            below, above = seen[max(rank - 1, 0)] - 1e-12, seen[min(rank + 1, len(seen) - 1)] + 1e-12
            assert (below <= getattr(stats, name)).all() and (getattr(stats, name) <= above).all(), f"{name} after {i}"


def test_statistics_of_a_constant(golden: Any) -> None:
    z = golden.npz("running_stats")
    constant = z["constant/mean"]
    stats = Stats.of(np.tile(constant, (10, 1)), min_range=0)
    for name in ("mean", "std", "q01", "q99"):
        # The reference's first bin begins 1e-10 below the smallest value.
        np.testing.assert_allclose(getattr(stats, name), z[f"constant/{name}"], atol=2e-10, err_msg=name)
