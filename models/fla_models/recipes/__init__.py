"""Named training configs: for each family, of openpi's names, and of the Pi0.6 kind; a table in each module."""

from collections.abc import Iterator

import fla_sdk as fla
from fla_models.recipes import families, openpi, pi06


@fla.hookimpl
def fla_recipes() -> Iterator[fla.Recipe]:
    yield from families.recipes()
    yield from openpi.recipes()
    yield from pi06.recipes()
