"""`fla data download URI`: a dataset of a hub as a folder on this machine."""

import argparse
from pathlib import Path

from fla_sdk.errors import ConfigError
from fla_sdk.plugins import Registry
from fla_sdk.records import Command


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("uri", help="hf://datasets/OWNER/NAME[@REVISION]")
    parser.add_argument("--out", type=Path, metavar="DIR", help="new folder; default: the cache, where training looks")
    parser.add_argument("--format", default="lerobot", help="dataset format (default lerobot)")


def run(arguments: argparse.Namespace, registry: Registry) -> None:
    storage = registry.dataset_format(arguments.format)
    if storage.download is None:
        raise ConfigError(f"datasets in format {storage.name!r} cannot be downloaded")
    print(storage.download(arguments.uri, arguments.out))


COMMAND = Command(name="download", help="fetch a dataset from the Hugging Face Hub", configure=configure, run=run)
