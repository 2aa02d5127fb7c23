"""`Rate`: how often one client may ask."""

from fla_sdk.serving.refusal import Refusal

BURST_S = 1.0
"""A client that was quiet may ask as often at once as in this time."""


class Rate:
    """A bucket that fills at `per_s`, and that each request takes one from."""

    def __init__(self, per_s: float | None) -> None:
        """None: no limit."""
        self._per_s = per_s
        self._size = max((per_s or 0.0) * BURST_S, 1.0)
        self._left, self._at_s = self._size, 0.0

    def check(self, now_s: float) -> None:
        """Count a request; raises `Refusal` when it comes too soon, without counting it."""
        if self._per_s is None:
            return
        self._left = min(self._size, self._left + max(now_s - self._at_s, 0.0) * self._per_s)
        self._at_s = now_s
        if self._left < 1.0:
            wait_s = (1.0 - self._left) / self._per_s
            raise Refusal(
                "rate",
                f"this server takes {self._per_s:g} requests per second of a robot: ask again in {wait_s * 1e3:.0f} ms",
                retry_after_s=wait_s,
            )
        self._left -= 1.0
