"""`Backoff`: how long to wait before trying again."""

import random


class Backoff:
    """Waits that double up to a limit, each shortened at random, so that many robots do not come back at once."""

    def __init__(self, first_s: float, longest_s: float, *, rng: random.Random | None = None) -> None:
        self._first_s, self._longest_s = first_s, max(first_s, longest_s)
        self._rng = rng or random.Random()
        self._failures = 0

    def next_s(self, *, at_least_s: float = 0.0) -> float:
        """Seconds to wait after another failure, between half of the doubled wait and all of it.

        `at_least_s` is what the server asked for.
        """
        # Past 2**32 the limit has long been reached, and a float would overflow in the end.
        longest_s = min(self._first_s * 2 ** min(self._failures, 32), self._longest_s)
        self._failures += 1
        return max(longest_s * self._rng.uniform(0.5, 1.0), at_least_s)

    def reset(self) -> None:
        """It worked: the next failure waits as the first one did."""
        self._failures = 0
