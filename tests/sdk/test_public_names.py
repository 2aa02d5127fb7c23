"""`import fla_sdk as fla` promises exactly what it delivers, to people and to type checkers alike."""

import ast
from importlib import import_module
from importlib.metadata import version
from pathlib import Path

import pytest

import fla_sdk as fla


def _seen_by_type_checkers() -> dict[str, str]:
    """Name -> module of every import under `if TYPE_CHECKING`."""
    tree = ast.parse(Path(fla.__file__).read_text())
    block = next(n for n in tree.body if isinstance(n, ast.If) and ast.unparse(n.test) == "TYPE_CHECKING")
    return {
        alias.asname or alias.name: node.module or ""
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }


def test_type_checkers_see_the_same_names_from_the_same_modules() -> None:
    assert _seen_by_type_checkers() == fla._HOME
    assert fla.__all__ == sorted(fla._HOME)
    assert dir(fla) == fla.__all__


@pytest.mark.parametrize("name", fla.__all__)
def test_each_name_is_the_one_of_its_module(name: str) -> None:
    assert getattr(fla, name) is getattr(import_module(fla._HOME[name]), name)


def test_an_unknown_name_is_an_attribute_error() -> None:
    misspelt = "Embodyment"
    with pytest.raises(AttributeError, match="module 'fla_sdk' has no attribute 'Embodyment'"):
        getattr(fla, misspelt)


def test_the_version_is_the_distribution_s() -> None:
    assert import_module("fla_sdk").__version__ == version("fla-sdk")
