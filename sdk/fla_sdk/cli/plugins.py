"""`fla plugins`: what is installed, what it provides, and what is broken and why."""

import argparse
import json

import attrs

from fla_sdk.plugins import Registry
from fla_sdk.records import Command


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print one JSON list")


def run(arguments: argparse.Namespace, registry: Registry) -> int:
    """Prints one block per plugin; exit status 1 when one is broken."""
    if arguments.json:
        print(json.dumps([attrs.asdict(info) for info in registry.plugins], indent=2))
        return 1 if registry.broken else 0
    for info in registry.plugins:
        print(f"{info.name}  ({info.distribution} {info.version})")
        if info.error:
            print(f"  broken: {info.error}")
        else:
            print(f"  provides {', '.join(info.provides) or 'no records'}")
            print(f"  hooks    {', '.join(info.hooks) or 'none'}")
    return 1 if registry.broken else 0


COMMAND = Command(name="plugins", help="list installed plugins", configure=configure, run=run)
