"""Rows of a dataset as the checks see them, and what its numbers mean."""

import attrs
import numpy as np
from numpy.typing import NDArray

from fla_sdk.space import Field

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

STILL = 1e-3
"""Changes up to this, in the numbers' own unit, are noise."""

GRIPPER_UNITS = ("open_fraction", "closed_fraction", "open_command", "close_command")


@attrs.frozen(kw_only=True)
class Dimension:
    """One number of the states or of the actions."""

    index: int
    name: str
    field: Field | None = None
    """What the embodiment says about it; None without an embodiment."""

    @property
    def unit(self) -> str:
        """A key of `UNITS`; empty when unknown."""
        return self.field.unit if self.field else ""

    @property
    def is_gripper(self) -> bool:
        return self.unit in GRIPPER_UNITS or "grip" in self.name.lower()


@attrs.frozen(kw_only=True, eq=False)
class Block:
    """Consecutive rows of whole episodes."""

    state: Floats
    """`[n, S]`; `S` is 0 where the dataset has no state that is known."""

    action: Floats
    """`[n, A]`"""

    episode: NDArray[np.int64]
    """`[n]`"""

    frame: NDArray[np.int64]
    """`[n]`, rows since the episode began."""

    def __len__(self) -> int:
        return len(self.episode)

    def pairs(self, lag: int = 1) -> Bools:
        """`[n - lag]`, or none: whether row `i` and row `i + lag` belong to the same episode."""
        return self.episode[lag:] == self.episode[: max(len(self) - lag, 0)]

    def steps(self, values: Floats) -> Floats:
        """`[n - 1, W]`: from each row to the next, 0 where an episode ends between them."""
        return np.diff(values, axis=0) * self.pairs()[:, None]


@attrs.frozen(kw_only=True)
class Span:
    """What one dimension does in the whole dataset."""

    kind: str
    """`state` or `action`."""

    dimension: Dimension
    low: float
    high: float
    q01: float
    q99: float
    lowest: tuple[int, int]
    """Episode and frame of `low`."""

    highest: tuple[int, int]

    @property
    def coverage(self) -> float | None:
        """Part of the limits' width that lies between `q01` and `q99`; None without limits."""
        limits = self.dimension.field.limits if self.dimension.field else None
        return None if limits is None else (self.q99 - self.q01) / (limits[1] - limits[0])
