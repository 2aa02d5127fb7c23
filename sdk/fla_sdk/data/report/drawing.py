"""Curves and histograms of states and actions, as small SVG panels that take their colours from the page."""

import html
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from fla_sdk.data.checks.block import Block, Dimension, Floats, Span
from fla_sdk.data.checks.subject import Subject

WIDTH, HEIGHT, TOP, LEFT, BOTTOM = 320, 96, 16, 44, 12
"""Of a panel and of its margins, in pixels."""

POINTS = 300
"""Points of one curve; rows between them are left out."""

BINS = 40


def curves(subject: Subject, block: Block) -> str:
    """One episode: for each joint its state and its action; then what is only one of the two."""
    partner = {s.index: a for a, s in subject.pairs}
    rows = np.unique(np.linspace(0, len(block) - 1, min(POINTS, len(block))).round().astype(np.int64))
    panels: list[str] = []
    for s in subject.state:
        a = partner.get(s.index)
        lines = [("state", rows, block.state[rows, s.index])]
        lines += [("action", rows, block.action[rows, a.index])] if a else []
        panels.append(_panel(_title(s), lines))
    panels += [
        _panel(_title(a), [("action", rows, block.action[rows, a.index])])
        for a in subject.action
        if a not in partner.values()
    ]
    return _panels(panels)


def around(dimension: Dimension, values: Floats, frame: int, *, reach: int = 60) -> str:
    """One dimension `[n]` of an episode around a frame, with the frame and the limits near by marked."""
    begin, end = max(frame - reach, 0), min(frame + reach + 1, len(values))
    shown = values[begin:end]
    slack = float(np.ptp(shown))
    limits = (dimension.field.limits if dimension.field else None) or ()
    near = [limit for limit in limits if shown.min() - slack <= limit <= shown.max() + slack]
    return _panels([_panel(_title(dimension), [("state", np.arange(begin, end), shown)], marks=[frame], levels=near)])


def histograms(values: Floats, spans: Sequence[Span]) -> str:
    """How often each value of `[n, W]` occurs, with the 1st and 99th percentile."""
    panels: list[str] = []
    for span in spans:
        counts, edges = np.histogram(values[:, span.dimension.index], BINS)
        steps = np.repeat(edges, 2), np.concatenate([[0], np.repeat(counts, 2), [0]]).astype(np.float64)
        panels.append(_panel(_title(span.dimension), [("state", *steps)], marks=[span.q01, span.q99]))
    return _panels(panels)


def _title(dimension: Dimension) -> str:
    return f"{dimension.name} ({dimension.unit})" if dimension.unit else dimension.name


def _panels(panels: Sequence[str]) -> str:
    return f'<div class="panels">{"".join(panels)}</div>'


def _panel(
    title: str,
    lines: Sequence[tuple[str, NDArray[np.floating] | NDArray[np.int64], Floats]],
    *,
    marks: Sequence[float] = (),
    levels: Sequence[float] = (),
) -> str:
    """Curves (a class of the page, x, y) with their extremes; `marks` are upright lines, `levels` level ones."""
    xs = np.concatenate([x.astype(np.float64) for _, x, _ in lines] + [np.asarray(marks, np.float64)])
    ys = np.concatenate([y for _, _, y in lines] + [np.asarray(levels, np.float64)])
    (left, right), (low, high) = (_extent(values) for values in (xs, ys))

    def at(x: Floats, y: Floats) -> str:
        across = LEFT + (x - left) / (right - left) * (WIDTH - LEFT - 4)
        down = HEIGHT - BOTTOM - (y - low) / (high - low) * (HEIGHT - BOTTOM - TOP - 4)
        return " ".join(f"{a:.1f},{d:.1f}" for a, d in zip(across.tolist(), down.tolist(), strict=True))

    def line(kind: str, x: Sequence[float], y: Sequence[float]) -> str:
        return f'<polyline class="{kind}" points="{at(np.asarray(x, np.float64), np.asarray(y, np.float64))}"/>'

    drawn = [line("mark", (mark, mark), (low, high)) for mark in marks]
    drawn += [line("level", (left, right), (level, level)) for level in levels]
    drawn += [f'<polyline class="{kind}" points="{at(x.astype(np.float64), y)}"/>' for kind, x, y in lines]
    words = (
        (LEFT, 11, "start", title),
        (LEFT - 4, TOP + 10, "end", f"{high:.3g}"),
        (LEFT - 4, HEIGHT - BOTTOM, "end", f"{low:.3g}"),
        (LEFT, HEIGHT - 1, "start", f"{left:.4g}"),
        (WIDTH - 4, HEIGHT - 1, "end", f"{right:.4g}"),
    )
    text = "".join(f'<text x="{x}" y="{y}" text-anchor="{end}">{html.escape(w)}</text>' for x, y, end, w in words)
    return f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img">{"".join(drawn)}{text}</svg>'


def _extent(values: Floats) -> tuple[float, float]:
    low, high = float(values.min()), float(values.max())
    return (low, high) if high - low > 1e-9 else (low - 0.5, high + 0.5)
