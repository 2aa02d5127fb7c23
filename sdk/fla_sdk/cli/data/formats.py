"""Which dataset format a command on a folder, or on a name of a hub, belongs to."""

import argparse
from pathlib import Path

from fla_sdk.errors import ConfigError
from fla_sdk.plugins import Registry
from fla_sdk.records import DatasetFormat


def format_of(registry: Registry, path: Path) -> DatasetFormat:
    """The format that recognises the folder, damaged or not. Raises `ConfigError`."""
    if not path.is_dir():
        raise ConfigError(f"no folder at {path}; give the folder of a dataset")
    for storage in registry.datasets.values():
        if storage.recognises(path):
            return storage
    known = ", ".join(registry.datasets) or "none"
    raise ConfigError(f"{path} is in no format that this can be done with (formats: {known})")


def cannot(storage: DatasetFormat, verb: str) -> ConfigError:
    return ConfigError(f"datasets in format {storage.name!r} cannot be {verb}; convert them with `fla data convert`")


def add_folder(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("path", type=Path, metavar="DIR", help="folder of the dataset")
