"""Whether a run is better off with a frame cache."""

from collections.abc import Callable, Sequence
from typing import Literal

import attrs

from fla_sdk.data.frame_cache import CachedFrames
from fla_sdk.home import free_bytes
from fla_sdk.terminal import duration, size

Choice = Literal["auto", "always", "never"]

WORTH_S = 60.0
"""A cache that saves a run less than this is not made for it."""


@attrs.frozen(kw_only=True)
class CachePlan:
    """A choice and its reason, in one line with figures."""

    use: bool
    line: str


def plan_cache(
    parts: Sequence[tuple[CachedFrames, float]],
    *,
    choice: Choice,
    samples: int,
    demand: Callable[[], float],
    threads: int,
) -> CachePlan:
    """Decide for a run of `samples`, of which each part has a share, that reads with `threads`.

    `demand` gives the samples per second of a training that never waits for data. `auto` takes a cache that is there,
    and makes one when that shortens the run; it measures for a second per part unless the run is short anyway.
    """
    if choice != "auto":
        return CachePlan(use=choice == "always", line=f"frame cache: {choice}, as configured")
    if not any(frames.missing() for frames, _ in parts):
        return CachePlan(use=True, line=f"frame cache: used, as it is there ({parts[0][0].folder})")
    for seconds in (0.05, 1.0):
        rates = [frames.measure(threads=threads, seconds=seconds) for frames, _ in parts]
        shares = [share for _, share in parts]
        decoded = 1 / sum(share / rate.decoded for share, rate in zip(shares, rates, strict=True))
        if samples / decoded < WORTH_S:
            return CachePlan(use=False, line=f"frame cache: none, decoding takes {samples / decoded:.0f} s of this run")
    cached = 1 / sum(share / rate.cached for share, rate in zip(shares, rates, strict=True))
    rows = [frames.missing() / len(frames.cameras) for frames, _ in parts]
    build_s = sum(left / rate.built for left, rate in zip(rows, rates, strict=True))
    needed = sum(left * rate.row_bytes for left, rate in zip(rows, rates, strict=True))
    need = demand()
    saved_s = samples / min(decoded, need) - samples / min(cached, need) - build_s
    use, reason = True, f"saves {duration(saved_s)}"
    if decoded >= need:
        use, reason = False, "decoding is fast enough"
    elif saved_s < WORTH_S:
        use, reason = False, "does not pay in this run"
    elif needed > free_bytes(parts[0][0].folder):
        use, reason = False, f"no room in {parts[0][0].folder}"
    return CachePlan(
        use=use,
        line=f"frame cache: {'used' if use else 'none'}, {reason} (samples/s: training takes {need:.0f}, decoding with "
        f"{threads} threads gives {decoded:.0f}, a cache {cached:.0f}; it takes {size(needed)} and "
        f"{duration(build_s)} to make)",
    )
