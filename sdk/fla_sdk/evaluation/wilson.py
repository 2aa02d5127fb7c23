"""`wilson`: how sure a success rate can be after a given number of episodes."""

import math
from statistics import NormalDist

import attrs

from fla_sdk.errors import ConfigError


@attrs.frozen(kw_only=True)
class Interval:
    """An observed success rate and the range that the true one lies in, all fractions between 0 and 1."""

    rate: float
    low: float
    high: float
    episodes: int

    def __str__(self) -> str:
        return f"{self.rate:.0%} [{self.low:.0%}, {self.high:.0%}] of {self.episodes}"


def wilson(successes: int, episodes: int, *, confidence: float = 0.95) -> Interval:
    """The score interval of Wilson (1927), two-sided, without continuity correction.

    The textbook interval, rate ± z · standard error, has no width at 0 and 100 %, where policies often are; this one
    stays honest there and for few episodes. Raises `ConfigError` when the counts or the confidence make no sense.
    """
    if episodes < 1 or not 0 <= successes <= episodes:
        raise ConfigError(
            f"{successes} successes in {episodes} episodes: need at least one episode, and 0 to all solved"
        )
    if not 0.0 < confidence < 1.0:
        raise ConfigError(f"confidence {confidence} must be a fraction between 0 and 1, such as 0.95")
    z = NormalDist().inv_cdf(0.5 + confidence / 2)
    rate = successes / episodes
    shrink = 1.0 + z * z / episodes
    centre = (rate + z * z / (2 * episodes)) / shrink
    half = z / shrink * math.sqrt(rate * (1.0 - rate) / episodes + z * z / (4 * episodes * episodes))
    # At 0 and 100 % centre and half cancel but for rounding, which must not push the rate out of its interval.
    return Interval(
        rate=rate, low=max(0.0, min(rate, centre - half)), high=min(1.0, max(rate, centre + half)), episodes=episodes
    )
