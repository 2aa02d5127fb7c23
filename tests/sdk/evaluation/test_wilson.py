"""The Wilson interval, against worked values, its defining equation, and what any interval of a rate must be."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fla_sdk.errors import ConfigError
from fla_sdk.evaluation.wilson import Interval, wilson

Z95 = 1.959963984540054


@st.composite
def counts(draw: st.DrawFn) -> tuple[int, int]:
    episodes = draw(st.integers(1, 10_000))
    return draw(st.integers(0, episodes)), episodes


@pytest.mark.parametrize(
    ("successes", "episodes", "low", "high"),
    [
        (81, 263, 0.2553, 0.3662),  # Newcombe (1998), Statistics in Medicine 17, table I, method 3
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ],
)  # fmt: skip
def test_published_values(successes: int, episodes: int, low: float, high: float) -> None:
    interval = wilson(successes, episodes)
    assert interval.low == pytest.approx(low, abs=6e-5)
    assert interval.high == pytest.approx(high, abs=6e-5)


def test_closed_forms_at_the_ends_and_in_the_middle() -> None:
    n = 100
    assert wilson(0, n).low == 0.0
    assert wilson(0, n).high == pytest.approx(Z95**2 / (n + Z95**2))
    assert wilson(n, n).low == pytest.approx(n / (n + Z95**2))
    assert wilson(n, n).high == 1.0
    half = wilson(n // 2, n)
    assert half.high - half.rate == pytest.approx(0.5 * Z95 / math.sqrt(n + Z95**2))


@given(counts())
def test_both_ends_lie_z_standard_errors_from_the_rate(count: tuple[int, int]) -> None:
    interval = wilson(*count)
    for end in (interval.low, interval.high):
        variance = end * (1.0 - end) / interval.episodes
        assert (interval.rate - end) ** 2 == pytest.approx(Z95**2 * variance, rel=1e-6, abs=1e-12)


@given(counts())
def test_the_interval_holds_the_rate_and_lies_in_0_to_1(count: tuple[int, int]) -> None:
    interval = wilson(*count)
    assert interval.rate == count[0] / count[1]
    assert 0.0 <= interval.low <= interval.rate <= interval.high <= 1.0
    assert interval.low < interval.high


@given(counts())
def test_failures_mirror_successes(count: tuple[int, int]) -> None:
    successes, episodes = count
    interval, mirror = wilson(successes, episodes), wilson(episodes - successes, episodes)
    assert (interval.low, interval.high) == pytest.approx((1 - mirror.high, 1 - mirror.low), abs=1e-12)


@given(counts(), st.integers(2, 50))
def test_more_episodes_narrow_it(count: tuple[int, int], times: int) -> None:
    few, many = wilson(*count), wilson(count[0] * times, count[1] * times)
    assert many.high - many.low < few.high - few.low


@given(counts())
def test_more_confidence_widens_it(count: tuple[int, int]) -> None:
    sure, surer = wilson(*count), wilson(*count, confidence=0.99)
    assert surer.low <= sure.low and sure.high <= surer.high
    assert surer.high - surer.low > sure.high - sure.low


def test_it_reads_like_a_sentence() -> None:
    assert str(Interval(rate=0.9, low=0.826, high=0.945, episodes=100)) == "90% [83%, 94%] of 100"


@pytest.mark.parametrize(("successes", "episodes"), [(0, 0), (-1, 10), (11, 10)])
def test_impossible_counts_are_refused(successes: int, episodes: int) -> None:
    with pytest.raises(ConfigError, match=f"{successes} successes in {episodes} episodes"):
        wilson(successes, episodes)


@pytest.mark.parametrize("confidence", [0.0, 1.0, 95.0])
def test_an_impossible_confidence_is_refused(confidence: float) -> None:
    with pytest.raises(ConfigError, match="must be a fraction"):
        wilson(1, 2, confidence=confidence)
