"""The rhythm of the control loop, on a clock that the test winds."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fla_sdk.client.clock import Clock
from fla_sdk.errors import ConfigError


class _Time:
    """Time that passes by sleeping, which always takes a little longer, and by working."""

    def __init__(self, oversleep_s: float = 0.0) -> None:
        self.now_s, self._oversleep_s = 1000.0, oversleep_s

    def now(self) -> float:
        return self.now_s

    def sleep(self, seconds: float) -> None:
        assert seconds > 0
        self.now_s += seconds + self._oversleep_s


@given(
    st.sampled_from([1.0, 20.0, 50.0, 1000.0]),
    st.lists(st.floats(0, 5), min_size=1, max_size=60),
    st.floats(0, 0.5),
)
def test_ticks_stay_on_their_grid_and_never_come_in_bursts(hz: float, work: list[float], oversleep: float) -> None:
    """`work` and `oversleep` are in periods."""
    period = 1 / hz
    time = _Time(oversleep * period)
    clock = Clock(hz, now=time.now, sleep=time.sleep)
    slots: list[int] = []
    for periods in work:
        late = clock.wait()
        since = (time.now_s - 1000.0) / period
        assert -1e-6 <= late / period <= 1 + 1e-6  # late by less than a period: no drift
        slots.append(round(since - late / period))
        time.now_s += periods * period
    assert slots[0] == 0
    assert slots == sorted(set(slots))  # one tick per slot
    assert clock.jitter.missed == slots[-1] - (len(slots) - 1)


def test_jitter_is_measured_and_start_forgets_it() -> None:
    time = _Time()
    clock = Clock(10, now=time.now, sleep=time.sleep)
    for work_s in (0.0, 0.15, 0.0, 0.35):
        clock.wait()
        time.now_s += work_s
    clock.wait()
    jitter = clock.jitter
    assert jitter.missed == 2
    assert jitter.max_ms == pytest.approx(50)
    assert jitter.mean_ms == pytest.approx(20)
    assert jitter.p99_ms == pytest.approx(50, rel=0.1)
    clock.start()
    assert clock.jitter == (0.0, 0.0, 0.0, 0)


def test_a_rate_must_be_one() -> None:
    for rate in (0, -1, float("inf"), float("nan")):
        with pytest.raises(ConfigError, match="rate_hz is"):
            Clock(rate)
