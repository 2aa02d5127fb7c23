"""`fla fisher CHECKPOINT`: how much each parameter matters to what a checkpoint has learned."""

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import fla_sdk as fla
from fla_sdk.errors import ConfigError


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("checkpoint", type=Path, help="checkpoint, or a run's folder")
    parser.add_argument(
        "--data", action="append", required=True, metavar="DIR", help="what it learned; repeat for a mixture"
    )
    parser.add_argument(
        "--embodiment", action="append", required=True, metavar="NAME", help="robot of each --data, or one for all"
    )
    parser.add_argument(
        "--kind",
        choices=("ewc", "mas"),
        default="ewc",
        help="ewc: Fisher information (default); mas: sensitivity of the output",
    )
    parser.add_argument("--samples", type=int, default=1000, help="default 1000; one backward pass each")
    parser.add_argument("--seed", type=int, default=0, help="of noise and times")
    parser.add_argument("--previous", type=Path, metavar="FILE", help="importances of earlier tasks, to be added to")
    parser.add_argument(
        "--gamma", type=float, default=1.0, help="what is left of --previous: 1 adds up (default), 0 forgets"
    )
    parser.add_argument("--out", type=Path, help="default: importance/KIND.safetensors in the checkpoint")


def run(arguments: argparse.Namespace, registry: fla.Registry) -> None:
    from fla_plugins.continual.importance import measure, write
    from fla_plugins.continual.trained import open_trained

    robots: list[str] = arguments.embodiment * (len(arguments.data) if len(arguments.embodiment) == 1 else 1)
    if len(robots) != len(arguments.data):
        raise ConfigError(f"{len(arguments.data)} times --data but {len(robots)} times --embodiment; give one for each")
    sources = [fla.Source(data=data, embodiment=name) for data, name in zip(arguments.data, robots, strict=True)]
    trained = open_trained(arguments.checkpoint, registry)
    out: Path = arguments.out or trained.folder / "importance" / f"{arguments.kind}.safetensors"
    found = measure(
        trained,
        sources,
        registry,
        kind=arguments.kind,
        samples=arguments.samples,
        seed=arguments.seed,
        previous=arguments.previous,
        gamma=arguments.gamma,
    )
    write(out, found)
    print(_table(found, trained.group))
    print(out)


def _table(found: Mapping[str, Any], groups: Mapping[str, str]) -> str:
    """Mean and largest importance of each group: what a strength is chosen by."""
    lines = [f"{'':14}{'parameters':>12}{'mean':>12}{'largest':>12}"]
    for group in sorted({groups[path] for path in found}):
        leaves = [leaf for path, leaf in found.items() if groups[path] == group]
        size = sum(leaf.size for leaf in leaves)
        mean, most = sum(float(leaf.sum()) for leaf in leaves) / size, max(float(leaf.max()) for leaf in leaves)
        lines.append(f"{group:14}{size:12,}{mean:12.2e}{most:12.2e}")
    return "\n".join(lines)


COMMAND = fla.Command(
    name="fisher",
    help="measure which parameters matter to what was learned, for ewc and mas",
    configure=configure,
    run=run,
)
