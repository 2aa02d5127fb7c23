"""Which part may import which. Imports are read from the source, so that those inside functions count too."""

import ast
from collections.abc import Iterator
from pathlib import Path

import attrs
import pytest

ROOT = Path(__file__).parents[2]
SDK = ROOT / "sdk" / "fla_sdk"
ROOTS = {"fla_sdk": "sdk", "fla_models": "models", "fla_embodiments": "embodiments", "fla_plugins": "plugins"}

FLOORS = (
    {"errors"},
    {"config", "environment", "hookspecs", "model", "normalization", "sample", "space", "transforms"},
    {"home", "schema", "terminal", "wire"},
    {"client", "embodiment", "prompts", "records"},
    {"codec", "plugins"},
    {"data", "policy"},
    {"serving"},
    {"evaluation", "testing"},
    {"training"},
    {"cli"},
)
"""Parts of `fla_sdk`, lowest first. A part may import itself and what lies below it."""

MAY_USE_HEAVY = {"data", "training", "policy", "evaluation"}
HEAVY = {
    *("jax", "flax", "optax", "orbax", "grain", "tensorstore", "pyarrow", "av", "mujoco", "dm_control", "gymnasium"),
    *("torch", "lerobot", "matplotlib", "rich", "sentencepiece", "safetensors", "scipy", "yaml"),
    *("h5py", "huggingface_hub", "tokenizers", "wandb"),
}


@attrs.frozen
class Import:
    module: str
    line: int
    lazy: bool
    """Inside a function."""


def imports(file: Path) -> list[Import]:
    """What `file` imports when it runs; what only a type checker sees is left out."""
    return list(_imports(ast.parse(file.read_text()), lazy=False))


def _imports(node: ast.AST, *, lazy: bool) -> Iterator[Import]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING":
            yield from _imports(ast.Module(child.orelse, []), lazy=lazy)
            continue
        if isinstance(child, ast.Import):
            yield from (Import(alias.name, child.lineno, lazy) for alias in child.names)
        elif isinstance(child, ast.ImportFrom):
            assert child.level == 0, f"line {child.lineno}: write absolute imports"
            yield from (Import(f"{child.module}.{alias.name}", child.lineno, lazy) for alias in child.names)
        inside = isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda))
        yield from _imports(child, lazy=lazy or inside)


def _files(package: str) -> list[Path]:
    return sorted((ROOT / ROOTS[package] / package).rglob("*.py"))


def _part(file: Path) -> str:
    """First-level name below `fla_sdk`."""
    return file.relative_to(SDK).parts[0].removesuffix(".py")


def _shown(file: Path, found: Import) -> str:
    return f"{file.relative_to(ROOT)}:{found.line} imports {found.module}"


def test_every_part_has_a_floor() -> None:
    parts = {_part(file) for file in _files("fla_sdk")} - {"__init__"}
    placed = set[str]().union(*FLOORS)
    assert parts == placed
    assert sum(map(len, FLOORS)) == len(placed)


def test_the_architecture_page_shows_the_same_floors() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text()
    drawn = page.split("An arrow points down:\n\n```\n")[1].split("```")[0]
    assert [set(line.split()) for line in drawn.splitlines()] == list(reversed(FLOORS))


def test_arrows_point_down() -> None:
    floor = {part: number for number, parts in enumerate(FLOORS) for part in parts}
    wrong = [
        _shown(file, found)
        for file in _files("fla_sdk")
        if (part := _part(file)) != "__init__"
        for found in imports(file)
        if found.module.startswith("fla_sdk.")
        and (other := found.module.split(".")[1]) != part
        and floor.get(other, 0) >= floor[part]
    ]
    assert not wrong


@pytest.mark.parametrize(
    ("package", "allowed"),
    [
        ("fla_sdk", {"fla_sdk"}),
        ("fla_models", {"fla_sdk", "fla_models"}),
        ("fla_embodiments", {"fla_sdk", "fla_embodiments"}),
        ("fla_plugins", {"fla_sdk", "fla_plugins"}),
    ],
)
def test_roots_meet_through_the_sdk_alone(package: str, allowed: set[str]) -> None:
    files = _files(package)
    assert files
    wrong = [
        _shown(file, found)
        for file in files
        for found in imports(file)
        if (top := found.module.split(".")[0]) in ROOTS and top not in allowed
    ]
    assert not wrong


def test_the_light_part_imports_nothing_heavy_at_the_top() -> None:
    wrong = [
        _shown(file, found)
        for file in _files("fla_sdk")
        if _part(file) not in MAY_USE_HEAVY
        for found in imports(file)
        if not found.lazy and found.module.split(".")[0] in HEAVY
    ]
    assert not wrong


def test_a_heavy_import_is_seen(tmp_path: Path) -> None:
    source = tmp_path / "module.py"
    source.write_text(
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import torch\nelse:\n    import av\n"
        "try:\n    import jax.numpy\nexcept ImportError:\n    pass\ndef f():\n    from flax import nnx\n"
    )
    assert imports(source) == [
        Import("typing.TYPE_CHECKING", 1, False),
        Import("av", 5, False),
        Import("jax.numpy", 7, False),
        Import("flax.nnx", 11, True),
    ]
