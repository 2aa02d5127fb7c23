"""`fla recipes [NAME]`: named training configs, or one of them as YAML."""

import argparse

from fla_sdk.plugins import Registry
from fla_sdk.records import Command


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", nargs="?", help="recipe to print; all are listed without it")


def run(arguments: argparse.Namespace, registry: Registry) -> None:
    if arguments.name is None:
        for name, recipe in registry.recipes.items():
            print(f"{name:24} {recipe.description}")
        return
    from fla_sdk.training.config import to_yaml

    recipe = registry.recipe(arguments.name)
    print(f"# {recipe.description}")
    print(to_yaml(recipe.config()), end="")


COMMAND = Command(name="recipes", help="list training recipes, or print one", configure=configure, run=run)
