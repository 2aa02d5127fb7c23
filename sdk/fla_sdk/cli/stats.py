"""`fla stats DATA ... --embodiment NAME`: statistics of states and actions, as training would use them."""

import argparse
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from fla_sdk.errors import ConfigError
from fla_sdk.plugins import Registry
from fla_sdk.records import Command

if TYPE_CHECKING:
    from fla_sdk.data.demonstrations import Demonstrations
    from fla_sdk.data.partial_stats import PartialStats, Row

COLUMNS = ("min", "q01", "mean", "std", "q99", "max")


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("data", nargs="+", metavar="DATA", help="dataset, or a file of --part; several are pooled")
    parser.add_argument("--embodiment", metavar="NAME", help="robot that made the datasets")
    parser.add_argument("--episodes", default="", metavar="LIST", help="of each dataset, such as 0:40,45; default all")
    parser.add_argument("--hold-out", type=float, default=0.0, metavar="SHARE", help="of the episodes, left out")
    parser.add_argument("--skip-idle", action="store_true", help="leave out moments at which the robot stands still")
    parser.add_argument("--skip-damaged", action="store_true", help="leave damaged episodes out, and list them")
    chunk = parser.add_mutually_exclusive_group()
    chunk.add_argument("--horizon", type=int, metavar="N", help="actions of a chunk")
    chunk.add_argument("--model", metavar="FAMILY/VARIANT", help="take the horizon of this model")
    parser.add_argument("--out", type=Path, metavar="FILE", help="write norm_stats.json, which openpi reads too")
    parser.add_argument("--part", type=Path, metavar="FILE", help="write what can be pooled with that of other data")
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(arguments: argparse.Namespace, registry: Registry) -> None:
    from functools import reduce
    from operator import add

    from fla_sdk.data.partial_stats import PartialStats

    for file in (arguments.out, arguments.part):
        if file is not None:
            if file.is_dir():
                raise ConfigError(f"{file} is a folder; name the file to write, such as {file / 'norm_stats.json'}")
            file.parent.mkdir(parents=True, exist_ok=True)
    kept = [Path(name) for name in arguments.data if name.endswith(".json") and Path(name).is_file()]
    parts = [PartialStats.load(file) for file in kept]
    datasets = [name for name in arguments.data if Path(name) not in kept]
    bound = _bound(arguments, datasets, registry)
    if bound:
        parts.append(_collect(bound, silent=arguments.json))
    _refuse_repeated(parts)
    found = reduce(add, parts)
    if arguments.part is not None:
        arguments.part.write_text(found.to_json())
    if arguments.out is not None:
        arguments.out.write_text(found.norm_stats().to_json())
    print(_json(found) if arguments.json else "\n".join(_table(found)))


def _bound(arguments: argparse.Namespace, datasets: list[str], registry: Registry) -> "list[Demonstrations]":
    """The demonstrations, opened and checked."""
    from fla_sdk.data.quarantine import Quarantine
    from fla_sdk.training.config import Source
    from fla_sdk.training.preparation import bind, open_dataset, resolve_model

    if not datasets:
        return []
    if arguments.embodiment is None:
        raise ConfigError("which robot made the data? give --embodiment NAME (see `fla embodiments`)")
    embodiment = registry.embodiment(arguments.embodiment)
    horizon = arguments.horizon
    if arguments.model is not None:
        if arguments.model.count("/") != 1:
            raise ConfigError(f"--model is {arguments.model!r}, must be FAMILY/VARIANT such as pi05/base")
        family, config = resolve_model(arguments.model, {}, registry)
        horizon = family.spec(config).horizon
    if horizon is None or horizon < 1:
        raise ConfigError("statistics of actions are over chunks: give --horizon N, or --model FAMILY/VARIANT")
    budget = sys.maxsize if arguments.skip_damaged else 0
    quarantine = Quarantine(budget, tell=lambda line: print(line, file=sys.stderr))
    return [
        bind(
            Source(
                data=name,
                embodiment=embodiment.name,
                episodes=arguments.episodes,
                hold_out=arguments.hold_out,
                skip_idle=arguments.skip_idle,
            ),
            open_dataset(name, registry),
            embodiment,
            horizon=horizon,
            quarantine=quarantine,
        )[0]
        for name in datasets
    ]


def _collect(bound: "list[Demonstrations]", *, silent: bool) -> "PartialStats":
    from fla_sdk.data.statistics import collect
    from fla_sdk.terminal import progress

    if silent:
        return collect(bound)
    with progress("statistics", sum(map(len, bound))) as advance:
        return collect(bound, advance=lambda rows: advance(by=rows))


def _refuse_repeated(parts: "list[PartialStats]") -> None:
    seen = [fingerprint for part in parts for fingerprint in part.parts]
    if repeated := len(seen) - len(set(seen)):
        raise ConfigError(
            f"{repeated} of the {len(seen)} datasets and partial results hold the same data as another, "
            "which would count twice; leave them out"
        )


def _table(found: "PartialStats") -> Iterable[str]:
    basis = found.basis
    mode = f"{basis.embodiment}, {basis.control_mode}"
    yield f"{mode}: {found.count:,} samples, chunks of {basis.horizon}, fingerprint {found.fingerprint}"
    rows = list(found.rows())
    names = max(len(row.name) for row in rows)
    units = max(len(row.unit) for row in rows)
    for kind, about in (("state", basis.state), ("actions", basis.actions)):
        yield ""
        yield f"{kind:{names + units + 2}}" + "".join(f"{column:>11}" for column in COLUMNS)
        for row, dimension in zip((row for row in rows if row.kind == kind), about, strict=True):
            notes = ["relative to the state"] * dimension.relative + [row.note] * bool(row.note)
            yield f"{row.name:{names}}  {row.unit:{units}}{_numbers(row)}  {'; '.join(notes)}".rstrip()


def _numbers(row: "Row") -> str:
    return "".join(f"{getattr(row, column):11.4g}" for column in COLUMNS)


def _json(found: "PartialStats") -> str:
    import json

    import attrs

    from fla_sdk.config import unstructure

    about = {"basis": unstructure(found.basis), "count": found.count, "fingerprint": found.fingerprint}
    return json.dumps({**about, "dimensions": [attrs.asdict(row) for row in found.rows()]}, indent=2)


COMMAND = Command(name="stats", help="show, pool and write statistics of datasets", configure=configure, run=run)
