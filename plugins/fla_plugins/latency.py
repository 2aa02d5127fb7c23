"""What `fla serve` says about its speed: a line per embodiment after every hundred answers."""

from collections import defaultdict

import numpy as np

import fla_sdk as fla

EVERY = 100


class LatencyLog:
    """Listens to the server; keeps the last hundred times per embodiment."""

    def __init__(self) -> None:
        self._times: defaultdict[str, list[float]] = defaultdict(list)

    @fla.hookimpl
    def fla_policy_called(self, embodiment: str, milliseconds: float) -> None:
        times = self._times[embodiment]
        times.append(milliseconds)
        if len(times) == EVERY:
            median, slow = np.percentile(times, [50, 95])
            print(f"{embodiment}: {EVERY} answers, median {median:.0f} ms, 95 % below {slow:.0f} ms", flush=True)
            times.clear()


log = LatencyLog()
