"""The page of `fla runs --html`: what the runs are, in what they differ, and their curves on top of each other."""

import html
import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from statistics import fmean

from fla_sdk.data.report import page
from fla_sdk.training.runs import Curve, PastRun, differences, is_detail
from fla_sdk.training.runs_table import HEAD, NUMBERS, final_values, rows, shown

COLOURS = ("#3b82f6", "#f97316", "#16a34a", "#a855f7", "#dc2626", "#0891b2", "#ca8a04", "#db2777")
"""Told from each other on white and on black."""

POINTS = 250
"""Of the longest curve; where there are more, they are averaged."""

WIDTH, LEFT, TOP, BOTTOM = 500, 56, 20, 160
"""Pixels of a panel, and where its axes stand."""

MAIN = ("loss", "held_out/loss", "grad_norm", "learning_rate", "steps_per_second", "data_wait")


def write_runs_page(path: Path, runs: Sequence[PastRun]) -> Path:
    """Write the page and return its path."""
    sections = [page.table(HEAD, list(rows(runs)), numbers=NUMBERS), *_remarks(runs), *_charts(runs)]
    if differing := differences(runs):
        sections += [page.heading("Differences"), page.table(("", *_names(runs)), _differences(differing))]
    values = [(name, *map(shown, some)) for name, some in final_values(runs).items()]
    numbers = range(1, len(runs) + 1)
    sections += [page.heading("Last values"), page.table(("", *_names(runs)), values, numbers=numbers)]
    return page.write(path, "Training runs", sections)


def _names(runs: Sequence[PastRun]) -> list[str]:
    return [run.name for run in runs]


def _differences(differing: Mapping[str, Sequence[object]]) -> list[tuple[str, ...]]:
    return [(name, *("" if value is None else str(value) for value in values)) for name, values in differing.items()]


def _remarks(runs: Sequence[PastRun]) -> Iterator[str]:
    for run in runs:
        if run.error:
            yield page.paragraph(page.marked(f"{run.name}: {run.error}", "error"))
        if run.unreadable_lines:
            yield page.paragraph(
                page.marked(f"{run.name}: damaged lines of metrics left out: {run.unreadable_lines}", "warning")
            )


def _charts(runs: Sequence[PastRun]) -> Iterator[str]:
    found = [name for name in dict.fromkeys(name for run in runs for name in run.metrics) if not is_detail(name)]
    losses = [name for name in found if name.startswith(("loss/", "held_out/loss/"))]
    charted = [name for name in (*MAIN[:2], *losses, *MAIN[2:]) if any(run.curve(name).steps for run in runs)]
    if not charted:
        return
    yield page.heading("Curves")
    swatches = (f'<span style="color:{_colour(i)}">&#9632;</span> {html.escape(r.name)}' for i, r in enumerate(runs))
    yield page.paragraph(page.Markup(" &nbsp; ".join(swatches)))
    panels = "".join(_panel(name, [run.curve(name) for run in runs]) for name in charted)
    yield page.figure(f'<div class="panels">{panels}</div>', "Over optimizer steps; losses on a logarithmic scale.")


def _panel(name: str, curves: Sequence[Curve]) -> str:
    """One metric of all runs as SVG, with the extremes on its axes."""
    last = max(step for curve in curves for step in curve.steps)
    curves = [_thinned(curve, every=last / POINTS) for curve in curves]
    values = [value for curve in curves for value in curve.values]
    scale = math.log if "loss" in name and min(values) > 0 else float
    low, high = scale(min(values)), scale(max(values))

    def at(step: float, value: float) -> str:
        """A point; a level line runs through the middle."""
        height = (scale(value) - low) / (high - low) if high > low else 0.5
        return f"{LEFT + step / max(last, 1) * (WIDTH - LEFT - 6):.1f},{BOTTOM - height * (BOTTOM - TOP):.1f}"

    lines: list[str] = []
    for number, curve in enumerate(curves):
        points = [at(*point) for point in zip(curve.steps, curve.values, strict=True)]
        look = f"stroke:{_colour(number)};stroke-linecap:round;stroke-width:{1.5 if len(points) > 1 else 5}"
        lines.append(f'<polyline style="{look}" points="{" ".join(points * 2 if len(points) == 1 else points)}"/>')
    words = (
        (LEFT, 11, "start", name),
        (LEFT - 4, TOP + 4, "end", f"{max(values):.3g}"),
        (LEFT - 4, BOTTOM + 4, "end", f"{min(values):.3g}"),
        (LEFT, BOTTOM + 14, "start", "0"),
        (WIDTH - 6, BOTTOM + 14, "end", f"{last:.0f}"),
    )
    text = "".join(f'<text x="{x}" y="{y}" text-anchor="{end}">{html.escape(w)}</text>' for x, y, end, w in words)
    frame = f'<polyline style="stroke:var(--line)" points="{LEFT},{TOP} {LEFT},{BOTTOM} {WIDTH - 6},{BOTTOM}"/>'
    size = f'viewBox="0 0 {WIDTH} {BOTTOM + 20}" style="width:{WIDTH}px"'
    return f'<svg {size} role="img">{frame}{"".join(lines)}{text}</svg>'


def _thinned(curve: Curve, *, every: float) -> Curve:
    """One point for so many steps: means over them."""
    points = zip(curve.steps, curve.values, strict=True)
    bins = [list(some) for _, some in groupby(points, key=lambda point: point[0] // every if every else 0)]
    steps, values = (tuple(fmean(point[i] for point in some) for some in bins) for i in (0, 1))
    return Curve(steps=steps, values=values)


def _colour(number: int) -> str:
    return COLOURS[number % len(COLOURS)]
