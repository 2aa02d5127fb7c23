"""`DelayForecast`: how many control steps the next answer will take, from how long the last ones took."""

from collections import deque


class DelayForecast:
    """The longest of the last delays (arXiv:2506.07339, algorithm 1): too long costs little, too short a jump."""

    def __init__(self, first: int = 1, *, memory: int = 10) -> None:
        """`first` is expected before anything was measured; `memory` delays are remembered."""
        self._delays = deque([first], maxlen=memory)

    @property
    def steps(self) -> int:
        """Control steps from an observation until the answer to it can be executed."""
        return max(self._delays)

    def add(self, steps: int) -> None:
        """A delay that was measured."""
        self._delays.append(steps)
