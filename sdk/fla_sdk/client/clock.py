"""`Clock`: the rhythm of a control loop, without drift."""

import time
from collections import deque
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from fla_sdk.errors import ConfigError

_REMEMBERED = 100_000


class Jitter(NamedTuple):
    """How late control steps began, over the last 100,000 of them."""

    mean_ms: float
    p99_ms: float
    max_ms: float
    missed: int
    """Steps left out because the ones before took too long."""


class Clock:
    """Ticks at `start + n / rate_hz`, whenever the tick before was done. Moments that have passed are left out and
    counted: never do several ticks come at once to make up for one that took long.
    """

    def __init__(
        self,
        rate_hz: float,
        *,
        now: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        if not 0 < rate_hz < float("inf"):
            raise ConfigError(f"rate_hz is {rate_hz}, must be above 0 (control steps per second)")
        self.period_s = 1 / rate_hz
        self._now, self._sleep = now, sleep
        self.start()

    def start(self) -> None:
        """The first tick is now; forget what was measured."""
        self._begun_s = self._now()
        self._tick = self._missed = 0
        self._late_s: deque[float] = deque(maxlen=_REMEMBERED)

    def wait(self) -> float:
        """Sleep until the next tick; how late it is, in seconds."""
        late_s = self._now() - self._begun_s - self._tick * self.period_s
        if late_s >= self.period_s:
            skipped = int(late_s / self.period_s)
            self._missed, self._tick = self._missed + skipped, self._tick + skipped
        due_s = self._begun_s + self._tick * self.period_s
        while (left_s := due_s - self._now()) > 0:
            self._sleep(left_s)
        self._tick += 1
        self._late_s.append(self._now() - due_s)
        return self._late_s[-1]

    @property
    def jitter(self) -> Jitter:
        """What was measured since `start`."""
        late_ms = np.array(self._late_s or [0.0]) * 1e3
        return Jitter(float(late_ms.mean()), float(np.percentile(late_ms, 99)), float(late_ms.max()), self._missed)
