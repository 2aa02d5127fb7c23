"""`fla data compact DIR`: many small files into files of the usual size."""

import argparse
import os
from pathlib import Path

from fla_sdk.cli.data.formats import add_folder, cannot, format_of
from fla_sdk.errors import ConfigError
from fla_sdk.plugins import Registry
from fla_sdk.records import Command


def configure(parser: argparse.ArgumentParser) -> None:
    add_folder(parser)
    parser.add_argument(
        "--out", type=Path, metavar="DIR", help="new folder; default: in place, the original is kept as DIR.original"
    )


def run(arguments: argparse.Namespace, registry: Registry) -> None:
    path: Path = arguments.path
    storage = format_of(registry, path)
    if storage.copy is None:
        raise cannot(storage, "compacted")
    if arguments.out is not None:
        storage.copy(path, arguments.out)
        print(f"{_files(path)} files became {_files(arguments.out)} in {arguments.out}")
        return
    path = path.absolute()
    original, compacted = path.with_name(f"{path.name}.original"), path.with_name(f"{path.name}.compacted")
    if original.exists():
        raise ConfigError(f"{original} exists; remove it, or choose a new folder with --out")
    storage.copy(path, compacted)
    os.replace(path, original)
    os.replace(compacted, path)
    print(f"{_files(original)} files became {_files(path)} in {path}; remove {original} when you no longer need it")


def _files(path: Path) -> int:
    return sum(file.is_file() for file in path.rglob("*"))


COMMAND = Command(name="compact", help="pack small files into files of the usual size", configure=configure, run=run)
