"""`fla runs [FOLDER] [NAME ...]`: what was trained, how it went, and in what runs differ."""

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fla_sdk.errors import ConfigError
from fla_sdk.plugins import Registry
from fla_sdk.records import Command

if TYPE_CHECKING:
    from fla_sdk.training.runs import PastRun


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "folder", nargs="?", type=Path, default=Path("out"), metavar="FOLDER", help="where to look (default: out)"
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="runs to compare, as they are listed")
    parser.add_argument("--html", type=Path, metavar="FILE", help="write a page with the curves on top of each other")
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(arguments: argparse.Namespace, registry: Registry) -> None:
    from fla_sdk.training.runs import choose, find

    del registry
    if arguments.html is not None and arguments.html.is_dir():
        raise ConfigError(f"{arguments.html} is a folder; name the file to write, such as {arguments.html}/runs.html")
    found = find(arguments.folder)
    if not found:
        raise ConfigError(f"there is no run in {arguments.folder} or the folders below it")
    chosen = choose(found, arguments.names)
    if arguments.html is not None:
        from fla_sdk.training.runs_page import write_runs_page

        write_runs_page(arguments.html, chosen)
    if arguments.json:
        print(_json(chosen))
        return
    print("\n".join(_lines(chosen, compared=bool(arguments.names))))
    if arguments.html is not None:
        print(f"page: {arguments.html}")


def _lines(runs: "Sequence[PastRun]", *, compared: bool) -> Iterator[str]:
    from fla_sdk.training.runs import differences
    from fla_sdk.training.runs_table import HEAD, NUMBERS, aligned, final_values, rows, shown

    yield from aligned(HEAD, list(rows(runs)), numbers=NUMBERS)
    for one in runs:
        if one.error:
            yield f"{one.name}: {one.error}"
        if one.unreadable_lines:
            yield f"{one.name}: damaged lines of metrics left out: {one.unreadable_lines}"
    if not compared:
        return
    names = [one.name for one in runs]
    if differing := differences(runs):
        yield ""
        yield from aligned(("config", *names), [(name, *map(_text, some)) for name, some in differing.items()])
    values = [(name, *map(shown, some)) for name, some in final_values(runs).items()]
    yield ""
    yield from aligned(("last values", *names), values, numbers=range(1, len(runs) + 1))


def _text(value: Any) -> str:
    return "" if value is None else str(value)


def _json(runs: "Sequence[PastRun]") -> str:
    import json

    return json.dumps(
        [
            {
                **{name: getattr(one, name) for name in ("name", "model", "robots", "state", "error", "step", "steps")},
                **{name: getattr(one, name) for name in ("steps_per_second", "started", "checkpoints")},
                **{name: getattr(one, name) for name in ("checkpoint_bytes", "unreadable_lines", "config")},
                "folder": str(one.folder),
                "last": {name: one.last(name) for name in one.metrics},
                "best": {name: one.best(name) for name in one.metrics if "loss" in name},
            }
            for one in runs
        ],
        indent=2,
    )


COMMAND = Command(name="runs", help="list training runs, or compare some", configure=configure, run=run)
