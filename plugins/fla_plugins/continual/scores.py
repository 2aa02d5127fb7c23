"""What a sequence of tasks left behind: LIBERO's measures (Liu et al., arXiv:2306.03310) of a matrix stage x task.

`matrix[k][j]` is how good task `j` is after stage `k`: a success rate, or minus a loss. LIBERO averages what a stage
reaches over its epochs; here it is what it has reached at its end.
"""

from collections.abc import Sequence

import attrs
import numpy as np


@attrs.frozen(kw_only=True)
class Scores:
    """In the unit of the matrix."""

    forward: float
    """Forward transfer: the mean of tasks right after they were learned."""

    backward: float | None
    """Negative backward transfer: what tasks lost since, averaged over later stages; below 0 they gained. None for a
    single task."""

    area: float
    """Area under the curve: the mean of tasks from when they were learned to the end."""

    final: float
    """The mean of all tasks at the end."""


def scores(matrix: Sequence[Sequence[float]]) -> Scores:
    values = np.asarray(matrix, np.float64)
    count = len(values)
    learned = np.diag(values)
    lost = [learned[j] - values[j + 1 :, j].mean() for j in range(count - 1)]
    return Scores(
        forward=float(learned.mean()),
        backward=float(np.mean(lost)) if lost else None,
        area=float(np.mean([values[j:, j].mean() for j in range(count)])),
        final=float(values[-1].mean()),
    )
