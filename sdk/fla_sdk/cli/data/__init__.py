"""`fla data COMMAND`: look at, check, convert and mend datasets; one module per command."""

import argparse

from fla_sdk.cli.data import cache, check, collect, compact, convert, download, repair, show, split, upload
from fla_sdk.plugins import Registry
from fla_sdk.records import Command

COMMANDS: tuple[Command, ...] = (
    cache.COMMAND,
    check.COMMAND,
    collect.COMMAND,
    compact.COMMAND,
    convert.COMMAND,
    download.COMMAND,
    repair.COMMAND,
    show.COMMAND,
    split.COMMAND,
    upload.COMMAND,
)


def configure(parser: argparse.ArgumentParser) -> None:
    subcommands = parser.add_subparsers(metavar="COMMAND", required=True)
    for command in COMMANDS:
        one = subcommands.add_parser(command.name, help=command.help, description=command.help, allow_abbrev=False)
        command.configure(one)
        one.set_defaults(run_data=command.run)


def run(arguments: argparse.Namespace, registry: Registry) -> int | None:
    return arguments.run_data(arguments, registry)


COMMAND = Command(name="data", help="look at, check, convert and mend datasets", configure=configure, run=run)
