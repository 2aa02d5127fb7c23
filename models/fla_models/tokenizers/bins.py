"""`BinTokenizer`: a code per value, of its place among equal bins; it needs no file and no data."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from fla_sdk.errors import ActionTokenError

Floats = NDArray[np.floating]


class BinTokenizer:
    """Codes of action chunks, one per value, step by step; as in RT-2 and OpenVLA (arXiv:2406.09246).

    -1 to 1 in equal bins: values are at most `1 / bins` off, and what lies outside comes back at the border. Made for
    quantile normalization, where that is one value in fifty.
    """

    def __init__(self, *, bins: int = 256) -> None:
        self.vocab_size = bins

    def encode(self, chunk: Floats) -> list[int]:
        """`[T, A]` normalized -> `T * A` codes, 0 to `bins - 1`."""
        bins = np.floor((np.asarray(chunk, np.float64) + 1) / 2 * self.vocab_size)
        return np.clip(bins, 0, self.vocab_size - 1).astype(int).ravel().tolist()

    def decode(self, codes: Sequence[int], *, horizon: int, width: int) -> Floats:
        """The middle of each bin, `[horizon, width]`. Raises `ActionTokenError` when their number is another."""
        if len(codes) != horizon * width:
            raise ActionTokenError(
                f"{len(codes)} action codes, a chunk of {horizon} steps of {width} values has {horizon * width}"
            )
        return ((np.array(codes, np.float64) + 0.5) / self.vocab_size * 2 - 1).reshape(horizon, width)
