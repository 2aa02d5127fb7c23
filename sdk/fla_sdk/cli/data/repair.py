"""`fla data repair DIR`: make a damaged dataset readable without losing what is whole."""

import argparse

from fla_sdk.cli.data.formats import add_folder, cannot, format_of
from fla_sdk.cli.options import parse_options
from fla_sdk.errors import ConfigError
from fla_sdk.plugins import Registry
from fla_sdk.records import Command


def configure(parser: argparse.ArgumentParser) -> None:
    add_folder(parser)
    parser.add_argument("--dry-run", action="store_true", help="say what would be done, change nothing")
    parser.add_argument(
        "--task", action="append", default=[], metavar="NUMBER=TEXT", help="a task's text that is lost; may be repeated"
    )


def run(arguments: argparse.Namespace, registry: Registry) -> None:
    storage = format_of(registry, arguments.path)
    if storage.repair is None:
        raise cannot(storage, "repaired")
    given = parse_options(arguments.task, flag="--task")
    if wrong := [number for number in given if not number.isdecimal()]:
        raise ConfigError(f"--task {wrong[0]!r}: give the task's number, as in --task '3=pick up the cup'")
    tasks = {int(number): str(text) for number, text in given.items()}
    lines = storage.repair(arguments.path, dry_run=arguments.dry_run, tasks=tasks)
    for line in lines:
        print(line)
    if not lines:
        print(f"{arguments.path} is sound")
    elif arguments.dry_run:
        print("nothing was changed")


COMMAND = Command(name="repair", help="make a damaged dataset readable again", configure=configure, run=run)
