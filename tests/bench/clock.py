"""Times of several computations on a machine that is busy with other things too."""

import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax


class Cost(NamedTuple):
    """Seconds of one run."""

    wall: float
    cpu: float
    """Of all threads of this process; says the same as `wall` where others take part of the processor."""


def interleaved(cases: Mapping[str, Callable[[], Any]], *, rounds: int) -> dict[str, Cost]:
    """Median cost of each case, `A B C A B C ...`, so that a busy moment hits all alike. The first round is dropped."""
    costs: dict[str, list[Cost]] = {name: [] for name in cases}
    for turn in range(rounds + 1):
        for name, run in cases.items():
            wall, cpu = time.perf_counter(), time.process_time()
            jax.block_until_ready(run())
            if turn:
                costs[name].append(Cost(time.perf_counter() - wall, time.process_time() - cpu))
    return {name: Cost(*map(statistics.median, zip(*found, strict=True))) for name, found in costs.items()}


def show(costs: Mapping[str, Cost], *, against: str, notes: Mapping[str, str] | None = None) -> None:
    """Print each case, and how many times longer than `against` it takes."""
    base = costs[against]
    for name, (wall, cpu) in costs.items():
        ratios = f"{wall * 1e3:8.1f} ms  x {wall / base.wall:5.3f}   {cpu * 1e3:8.1f} ms  x {cpu / base.cpu:5.3f}"
        print(f"  {name:20} {ratios}   {(notes or {}).get(name, '')}".rstrip(), flush=True)
