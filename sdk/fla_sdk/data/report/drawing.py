"""Curves and histograms of states and actions."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from fla_sdk.data.checks.block import Block, Dimension, Floats, Span
from fla_sdk.data.checks.subject import Subject
from fla_sdk.data.report.page import ACCENT, BAD, INK, axes, svg

POINTS = 300
"""Points of one curve; rows between them are left out."""

COLUMNS = 4


def curves(subject: Subject, block: Block) -> str:
    """One episode: for each joint its state and its action; then what is only one of the two."""
    partner = {s.index: a for a, s in subject.pairs}
    pairs: list[tuple[Dimension | None, Dimension | None]] = [(s, partner.get(s.index)) for s in subject.state]
    pairs += [(None, a) for a in subject.action if a not in partner.values()]
    if not pairs:
        return ""
    drawn, cells = axes(-(-len(pairs) // 2), 2, height=1.25, sharex=True)
    rows = np.unique(np.linspace(0, len(block) - 1, min(POINTS, len(block))).round().astype(int))
    for axis, (state, action) in zip(cells, pairs, strict=False):
        for dimension, values, colour in ((state, block.state, INK), (action, block.action, ACCENT)):
            if dimension is not None:
                axis.plot(rows, values[rows, dimension.index], color=colour, linewidth=1.0)
        _label(axis, state or action)
    for axis in cells[len(pairs) :]:
        axis.set_visible(False)
    return svg(drawn)


def around(dimension: Dimension, values: Floats, frame: int, *, reach: int = 60) -> str:
    """One dimension `[n]` of an episode around a frame, with the frame and the limits marked."""
    begin, end = max(frame - reach, 0), min(frame + reach + 1, len(values))
    drawn, (axis,) = axes(1, 1, height=1.6)
    axis.plot(np.arange(begin, end), values[begin:end], color=INK, linewidth=1.0)
    axis.axvline(frame, color=BAD, linewidth=0.8)
    low, high = float(values[begin:end].min()), float(values[begin:end].max())
    for limit in (dimension.field.limits if dimension.field else None) or ():
        if low - (high - low) <= limit <= high + (high - low):
            axis.axhline(limit, color=BAD, linewidth=0.8, linestyle="--")
    _label(axis, dimension)
    return svg(drawn)


def histograms(values: Floats, spans: Sequence[Span]) -> str:
    """How often each value of `[n, W]` occurs, with the 1st and 99th percentile."""
    drawn, cells = axes(-(-len(spans) // COLUMNS), COLUMNS, height=1.4)
    for axis, span in zip(cells, spans, strict=False):
        axis.hist(values[:, span.dimension.index], bins=50, histtype="stepfilled", color=INK, alpha=0.5)
        for quantile in (span.q01, span.q99):
            axis.axvline(quantile, color=ACCENT, linewidth=1.0)
        axis.set_yticks([])
        _label(axis, span.dimension)
    for axis in cells[len(spans) :]:
        axis.set_visible(False)
    return svg(drawn)


def _label(axis: Any, dimension: Dimension | None) -> None:
    if dimension is not None:
        unit = f" ({dimension.unit})" if dimension.unit else ""
        axis.set_title(f"{dimension.name}{unit}", fontsize=8, color=INK, loc="left", pad=2)
