"""The documents say what is so: links, file tree, commands, hooks and examples."""

import argparse
import ast
import inspect
import re
import shlex
import subprocess
from importlib import import_module
from pathlib import Path
from types import ModuleType

import pytest

import fla_sdk as fla
from fla_sdk import hookspecs
from fla_sdk.cli import _parser
from fla_sdk.plugins import Registry
from fla_sdk.testing import check_embodiment

ROOT = Path(__file__).parents[1]
DOCUMENTS = sorted(
    path
    for path in (*ROOT.glob("*.md"), *ROOT.glob("*/*.md"), *ROOT.glob("examples/*/*.md"))
    if not path.relative_to(ROOT).parts[0].startswith((".", "out"))
)
HOOKS = sorted(name for name in vars(hookspecs) if name.startswith("fla_"))

_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks(path: Path, language: str) -> list[str]:
    """Fenced blocks of a document."""
    return [text for kind, text in _FENCE.findall(path.read_text()) if kind == language]


def module(source: str, name: str) -> ModuleType:
    """A module made of `source`."""
    made = ModuleType(name)
    exec(compile(source, name, "exec"), made.__dict__)
    return made


def shown(path: Path) -> str:
    return str(path.relative_to(ROOT))


# --- Every document ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", DOCUMENTS, ids=shown)
def test_links_lead_somewhere(path: Path) -> None:
    prose = _FENCE.sub("", path.read_text())
    targets = [target.split("#")[0] for target in re.findall(r"\]\(([^)\s]+)\)", prose) if "://" not in target]
    assert not [target for target in targets if target and not (path.parent / target).exists()]


@pytest.mark.parametrize("path", DOCUMENTS, ids=shown)
def test_names_of_the_package_exist(path: Path) -> None:
    unknown: list[str] = []
    for source in blocks(path, "python"):
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "fla":
                unknown += [node.attr] * (node.attr not in fla.__all__)
            if isinstance(node, ast.ImportFrom) and str(node.module).split(".")[0] in (
                "fla_sdk",
                "fla_plugins",
                "fla_models",
            ):
                home = import_module(str(node.module))
                unknown += [f"{node.module}.{alias.name}" for alias in node.names if not hasattr(home, alias.name)]
    inline = re.findall(r"`fla\.(\w+)", _FENCE.sub("", path.read_text()))
    assert not unknown + [name for name in inline if name not in fla.__all__ and name != "plugins"]


@pytest.mark.parametrize("path", DOCUMENTS, ids=shown)
def test_commands_are_understood(path: Path, registry: Registry) -> None:
    parser = _parser(registry)
    parser.exit_on_error = False
    for line in "".join(blocks(path, "sh")).splitlines():
        words = shlex.split(line, comments=True)
        if words[:1] == ["make"]:
            goals = [word for word in words[1:] if "=" not in word]
            subprocess.run(["make", "--dry-run", *goals], cwd=ROOT, check=True, capture_output=True, timeout=60)
        if words[:1] == ["fla"]:
            assert isinstance(parser.parse_args(words[1:]), argparse.Namespace), line


@pytest.fixture(scope="module")
def registry() -> Registry:
    return fla.load_plugins()


# --- README -----------------------------------------------------------------------------------------------------------


def test_the_robot_of_the_readme_keeps_every_promise() -> None:
    source = next(block for block in blocks(ROOT / "README.md", "python") if "fla_embodiments" in block)
    assert len(source.splitlines()) <= 22
    loaded = Registry()
    info = loaded.add(module(source, "fla_plugin_my_arm"), name="my_arm")
    assert info.provides == ("embodiment my_arm",)
    robot = loaded.embodiment("my_arm")
    check_embodiment(robot)
    assert robot.action.width == 6


def test_the_tree_of_the_readme_is_the_tree() -> None:
    tree = next(block for block in blocks(ROOT / "README.md", "") if "pyproject.toml" in block)
    listed: set[str] = set()
    folder = ""
    for line in tree.splitlines():
        name, _, what = line.strip().partition(" ")
        assert what.strip(), f"{name} has no description"
        if not line.startswith(" "):
            folder = name
        listed.add(name if folder == name else f"{folder}{name}")
    assert not [path for path in listed if not (ROOT / path).exists()]
    parts = {
        f"sdk/fla_sdk/{entry.name}{'/' * entry.is_dir()}"
        for entry in (ROOT / "sdk/fla_sdk").iterdir()
        if entry.name not in ("__init__.py", "__pycache__", "py.typed")
    }
    assert parts <= listed


@pytest.mark.slow
def test_the_training_of_the_readme_trains(registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from fla_sdk.evaluation.recording import record

    source = next(block for block in blocks(ROOT / "README.md", "python") if "fla.Trainer" in block)
    for number in ("steps=1500", "batch_size=64"):
        assert number in source
        source = source.replace(number, number.split("=")[0] + "=2")
    monkeypatch.chdir(tmp_path)
    for name in ("planar2", "planar3"):
        record(registry, benchmark="planar", embodiment=name, episodes=2, out=tmp_path / "data" / name)
    trained = module(source, "training")
    assert trained.result.step == 2
    assert set(trained.policy.codecs) == {"planar2", "planar3"}
    answer = trained.policy.infer(registry.embodiment("planar3").example_observation() | {"embodiment": "planar3"})
    assert answer["actions"].shape == (trained.policy.spec.horizon, 3)


# --- Hooks ------------------------------------------------------------------------------------------------------------


def sections() -> dict[str, str]:
    """Heading -> text of each section of docs/hooks.md."""
    parts = re.split(r"^## (.*)$", (ROOT / "docs/hooks.md").read_text(), flags=re.MULTILINE)[1:]
    return dict(zip(parts[::2], parts[1::2], strict=True))


def test_every_hook_has_one_section_under_its_signature() -> None:
    signatures = [f"{name}({', '.join(inspect.signature(getattr(hookspecs, name)).parameters)})" for name in HOOKS]
    assert sorted(sections()) == signatures


@pytest.mark.parametrize("hook", HOOKS)
def test_the_section_explains_each_argument_and_its_example_loads(hook: str) -> None:
    heading, text = next((heading, text) for heading, text in sections().items() if heading.startswith(f"{hook}("))
    for parameter in inspect.signature(getattr(hookspecs, hook)).parameters:
        assert f"\n- `{parameter}`: " in text, heading
    sources = re.findall(r"^```python\n(.*?)^```$", text, flags=re.MULTILINE | re.DOTALL)
    assert len(sources) == 1
    made = module(sources[0], "fla_plugin_example")
    objects = [made, *(one for one in vars(made).values() if hasattr(type(one), hook))]
    loaded = Registry()
    info = loaded.add(objects[-1], name="example")
    assert hook in info.hooks
    for name in (name for kind, name in (entry.rsplit(" ", 1) for entry in info.provides) if kind == "embodiment"):
        check_embodiment(loaded.embodiment(name))


def test_the_model_of_the_hooks_page_learns_and_answers() -> None:
    import jax
    import numpy as np

    from fla_sdk.model import Batch, ModelInput

    text = next(text for heading, text in sections().items() if heading.startswith("fla_models"))
    loaded = Registry()
    loaded.add(module(re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)[0], "example"), name="example")
    family = loaded.model("state_mlp")
    config = family.variants["small"]
    spec = family.spec(config)
    model = family.build(config, 0)
    state = np.ones((2, spec.action_dim), np.float32)
    inputs = ModelInput({}, {}, state, np.zeros((2, 4), np.int32), np.ones((2, 4), np.bool_))
    actions = np.zeros((2, spec.horizon, spec.action_dim), np.float32)
    own = np.arange(spec.action_dim) < 3
    batch = Batch(inputs, actions, np.stack([own, own]), np.ones((2, spec.horizon), np.bool_))
    losses = model.loss(jax.random.key(0), batch).steps
    sampled = model.sample(jax.random.key(0), inputs)
    assert sampled.shape == actions.shape
    np.testing.assert_allclose(losses, np.square(np.asarray(sampled)[..., :3]).mean(axis=-1), rtol=1e-5)
