"""`fla data upload DIR URI`: publish a dataset on a hub."""

import argparse

from fla_sdk.cli.data.formats import add_folder, cannot, format_of
from fla_sdk.plugins import Registry
from fla_sdk.records import Command


def configure(parser: argparse.ArgumentParser) -> None:
    add_folder(parser)
    parser.add_argument("uri", help="hf://datasets/OWNER/NAME")
    parser.add_argument("--private", action="store_true", help="create the repository for yourself alone")


def run(arguments: argparse.Namespace, registry: Registry) -> None:
    storage = format_of(registry, arguments.path)
    if storage.upload is None:
        raise cannot(storage, "uploaded")
    print(storage.upload(arguments.path, arguments.uri, private=arguments.private))


COMMAND = Command(name="upload", help="publish a dataset on the Hugging Face Hub", configure=configure, run=run)
