"""Runs as rows of text, for a terminal and for a page."""

from collections.abc import Iterator, Sequence
from datetime import datetime

from fla_sdk.terminal import size
from fla_sdk.training.runs import PastRun, is_detail

HEAD = (
    *("run", "model", "robots", "state", "step", "loss", "best loss"),
    *("held out", "best held out", "steps/s", "started", "checkpoints"),
)

NUMBERS = (4, 5, 6, 7, 8, 9)
"""Columns that are aligned to the right."""


def rows(runs: Sequence[PastRun]) -> Iterator[tuple[str, ...]]:
    """One per run, in the order of `HEAD`."""
    for run in runs:
        losses = [value for name in ("loss", "held_out/loss") for value in (run.last(name), run.best(name))]
        count = len(run.checkpoints)
        yield (
            run.name,
            run.model,
            ", ".join(run.robots),
            run.state,
            f"{run.step}/{run.steps or '?'}",
            *map(shown, losses),
            shown(run.steps_per_second),
            "" if run.started is None else f"{datetime.fromtimestamp(run.started):%Y-%m-%d %H:%M}",
            f"{count}, {size(run.checkpoint_bytes)}" if count else "",
        )


def final_values(runs: Sequence[PastRun]) -> dict[str, list[float | None]]:
    """Metric -> last value in each run; those of single parameter groups and dimensions are left out."""
    names = dict.fromkeys(name for run in runs for name in run.metrics if not is_detail(name))
    return {name: [run.last(name) for run in runs] for name in names}


def shown(value: float | None) -> str:
    """Four digits; nothing for None."""
    return "" if value is None else f"{value:.4g}"


def aligned(head: Sequence[str], body: Sequence[Sequence[str]], *, numbers: Sequence[int] = ()) -> Iterator[str]:
    """Lines with columns under each other; those in `numbers` to the right."""
    table = [head, *body]
    widths = [max(len(row[column]) for row in table) for column in range(len(head))]
    for row in table:
        cells = (
            f"{cell:>{w}}" if i in numbers else f"{cell:{w}}"
            for i, (cell, w) in enumerate(zip(row, widths, strict=True))
        )
        yield "  ".join(cells).rstrip()
