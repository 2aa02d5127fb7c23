"""Progress of long work: a bar in a terminal, a line now and then in a log file; how long and how large."""

import sys
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager


@contextmanager
def progress(description: str, total: int, *, every_s: float = 10.0) -> Generator[Callable[..., None], None, None]:
    """A function to call after each of `total` units of work, with an optional note: `advance("3 of 4 solved")`; or
    after several, `advance(by=5)`.

    Uses rich where it is installed and standard output is a terminal; otherwise prints a line every `every_s` seconds
    and one at the end.
    """
    if sys.stdout.isatty():
        try:
            from rich.progress import (
                BarColumn,
                MofNCompleteColumn,
                Progress,
                TextColumn,
                TimeElapsedColumn,
                TimeRemainingColumn,
            )
        except ImportError:
            pass
        else:
            columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
            left = (TextColumn("left"), TimeRemainingColumn(), TextColumn("{task.fields[note]}"))
            with Progress(*columns, *left) as bar:
                task = bar.add_task(description, total=total, note="")

                def update(note: str = "", *, by: int = 1) -> None:
                    bar.update(task, advance=by, note=note)

                yield update
            return
    begun = said = time.monotonic()
    done = 0

    def advance(note: str = "", *, by: int = 1) -> None:
        nonlocal done, said
        done += by
        now = time.monotonic()
        if done == total or now - said >= every_s:
            said = now
            left = (now - begun) / done * (total - done)
            print(f"{description}: {done}/{total}  {now - begun:.0f} s, {left:.0f} s left  {note}".rstrip(), flush=True)

    yield advance


def duration(seconds: float) -> str:
    """`40 s`, `3 min`, `2.5 h`."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"


def size(count: float) -> str:
    """Bytes as `40 kB`, `3.2 MB`, `250 GB`."""
    for unit, factor in (("GB", 1e9), ("MB", 1e6)):
        if count >= factor:
            return f"{count / factor:.3g} {unit}"
    return f"{count / 1e3:.0f} kB"
