"""Statistics: exact, safe for constant dimensions, and read from damaged files with the reason."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fla_sdk.errors import ConfigError, StatsError
from fla_sdk.normalization import NormStats, Stats, fingerprint, normalize, unnormalize

KINDS = ("quantile", "zscore")


def stats(width: int, seed: int = 0) -> Stats:
    return Stats.of(np.random.default_rng(seed).normal(size=(100, width)) * np.logspace(-2, 2, width))


def test_statistics_are_those_of_the_rows() -> None:
    rows = np.random.default_rng(0).normal(size=(1001, 3)).astype(np.float32)
    one = Stats.of(rows)
    exact = rows.astype(np.float64)
    np.testing.assert_allclose(one.mean, exact.mean(axis=0), rtol=1e-14)
    np.testing.assert_allclose(one.std, exact.std(axis=0), rtol=1e-14)
    assert one.q01 is not None and one.q99 is not None
    ranked = np.sort(exact, axis=0)  # a percent of 1001 rows is ten steps
    np.testing.assert_allclose(one.q01, ranked[10], rtol=1e-12)
    np.testing.assert_allclose(one.q99, ranked[990], rtol=1e-12)


def test_constant_dimensions_do_not_blow_noise_up() -> None:
    rows = np.zeros((50, 2))
    rows[:, 0] = 3 + 1e-7 * np.arange(50)
    one = Stats.of(rows).resolved(np.array([1e-2, 1e-3]))
    assert one.q01 is not None and one.q99 is not None
    np.testing.assert_allclose(one.q99 - one.q01, [1e-2, 1e-3])
    np.testing.assert_allclose((one.q99 + one.q01) / 2, [3, 0], atol=1e-5)
    np.testing.assert_allclose(one.std, [1e-2, 1e-3])
    for kind in KINDS:
        assert np.abs(normalize(rows, one, kind)).max() < 1e-2


def test_rare_motion_reaches_full_scale_and_no_more() -> None:
    """A gripper that opens once in 200 rows: its percentiles are both 0."""
    rows = np.zeros((1000, 1))
    rows[::200] = 1
    one = Stats.of(rows).resolved(np.array([1e-2]))
    np.testing.assert_allclose(np.unique(normalize(rows, one, "quantile")), [-1, 1], atol=1e-5)


@given(seed=st.integers(0, 2**32 - 1))
def test_dimensions_that_move_are_left_as_they_are(seed: int) -> None:
    one = stats(3, seed % 1000)
    again = one.resolved(np.full(3, 1e-3))
    for name in ("mean", "std", "q01", "q99", "min", "max"):
        np.testing.assert_array_equal(getattr(again, name), getattr(one, name))


@pytest.mark.parametrize("rows", [np.zeros((1, 3)), np.zeros(3), np.zeros((0, 3))])
def test_too_few_rows_are_refused(rows: np.ndarray) -> None:
    with pytest.raises(StatsError, match=r"at least 2 rows \[N, width\], got an array of shape"):
        Stats.of(rows)


@given(width=st.integers(1, 6), extra=st.integers(0, 3), seed=st.integers(0, 2**32 - 1), kind=st.sampled_from(KINDS))
def test_unnormalize_inverts_normalize(width: int, extra: int, seed: int, kind: str) -> None:
    """Also with statistics longer than the data, and without writing to anything."""
    one = stats(width + extra, seed % 1000)
    x = np.random.default_rng(seed).normal(size=(2, 5, width)) * 10
    x.flags.writeable = False
    scaled = normalize(x, one, kind)
    assert scaled.shape == x.shape
    scaled.flags.writeable = False
    np.testing.assert_allclose(unnormalize(scaled, one, kind), x, rtol=1e-9, atol=1e-9)


def test_percentiles_go_to_minus_one_and_one() -> None:
    one = stats(4)
    assert one.q01 is not None and one.q99 is not None
    np.testing.assert_allclose(normalize(one.q01, one, "quantile"), -1, atol=1e-12)
    np.testing.assert_allclose(normalize(one.q99, one, "quantile"), 1, atol=1e-3)
    np.testing.assert_allclose(normalize(one.mean, one, "zscore"), 0, atol=1e-12)


def test_missing_percentiles_and_unknown_kinds() -> None:
    plain = Stats(mean=[0.0], std=[1.0])
    with pytest.raises(StatsError, match="quantile normalization needs the 1st and 99th percentile"):
        normalize(np.zeros(1), plain, "quantile")
    with pytest.raises(ConfigError, match=r"unknown normalization 'minmax' \(known: quantile, zscore\)"):
        unnormalize(np.zeros(1), plain, "minmax")


def test_statistics_keep_a_copy() -> None:
    mean = np.zeros(2)
    one = Stats(mean=mean, std=np.ones(2))
    mean[:] = 9
    assert one.mean.tolist() == [0, 0]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"std": [1.0]}, r"std has shape \(1,\), mean has \(2,\)"),
        ({"q01": [[1.0, 2.0]]}, r"q01 has shape \(1, 2\)"),
        ({"std": [1.0, float("nan")]}, "std is not finite in dimension 1"),
        ({"max": [1.0]}, r"max has shape \(1,\)"),
        ({"mean": [float("inf"), 0.0]}, "mean is not finite in dimension 0"),
    ],
)
def test_contradicting_statistics_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(StatsError, match=message):
        Stats(**{"mean": [0.0, 0.0], "std": [1.0, 1.0], **changes})


def test_json_round_trip_is_exact(tmp_path: Path) -> None:
    one = NormStats(state=stats(3, 1), actions=stats(4, 2), count=100, fingerprint="abc", method="guessed")
    path = tmp_path / "norm_stats.json"
    path.write_text(one.to_json())
    again = NormStats.load(path)
    assert (again.count, again.fingerprint, again.method) == (100, "abc", "guessed")
    for kind in ("state", "actions"):
        for name in ("mean", "std", "q01", "q99", "min", "max"):
            np.testing.assert_array_equal(getattr(getattr(again, kind), name), getattr(getattr(one, kind), name))


GOOD = {"norm_stats": {kind: {"mean": [0.0], "std": [1.0], "q01": None, "q99": None} for kind in ("state", "actions")}}


def with_state(**values: Any) -> str:
    return json.dumps({"norm_stats": {**GOOD["norm_stats"], "state": values}})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "JSONDecodeError"),
        (json.dumps(GOOD)[:-9], "JSONDecodeError"),
        ("[]", "TypeError"),
        ("{}", "KeyError: 'norm_stats'"),
        (json.dumps({"norm_stats": {"state": GOOD["norm_stats"]["state"]}}), "KeyError: 'actions'"),
        (with_state(std=[1.0]), "KeyError: 'mean'"),
        (with_state(mean=[0.0]), "KeyError: 'std'"),
        (with_state(mean=["a"], std=[1.0]), "ValueError"),
        (with_state(mean=[0.0], std=[1.0, 2.0]), "std has shape"),
        (json.dumps(GOOD).replace("1.0", "NaN"), "std is not finite"),
        (json.dumps({**GOOD, "count": "many"}), "integer"),
    ],
)
def test_damaged_files_are_named(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "norm_stats.json"
    path.write_text(text)
    with pytest.raises(StatsError, match=message) as caught:
        NormStats.load(path)
    assert str(path) in str(caught.value)


def test_a_missing_file_says_where_it_should_be(tmp_path: Path) -> None:
    with pytest.raises(StatsError, match=f"no statistics at {tmp_path}/nowhere.json; they are written by training"):
        NormStats.load(tmp_path / "nowhere.json")


def test_fingerprints_depend_on_values_alone() -> None:
    assert fingerprint({"a": 1, "b": (2, 3)}) == fingerprint({"b": (2, 3), "a": 1})
    assert fingerprint({"a": 1}) != fingerprint({"a": 2})
