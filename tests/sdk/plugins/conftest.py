"""Plugins as they are installed: a module and its dist-info in a folder on `sys.path`."""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

HEADER = """\
import fla_sdk as fla


def robot(name):
    joint = fla.joints("joint")
    return fla.Embodiment(name=name, state=fla.Space(joint), action=fla.Space(joint), cameras=(), control_hz=10)


"""

Install = Callable[..., str]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    """`install(name, source)` installs `fla-plugin-<name>` 1.0, whose module is `HEADER + source`."""
    before = set(sys.modules)
    monkeypatch.syspath_prepend(str(tmp_path))

    def write(name: str, source: str, *, distribution: str | None = None, version: str = "1.0") -> str:
        distribution = distribution or f"fla-plugin-{name}"
        module = distribution.replace("-", "_") + "_module"
        (tmp_path / f"{module}.py").write_text(HEADER + source)
        info = tmp_path / f"{distribution.replace('-', '_')}-{version}.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: {version}\n")
        (info / "entry_points.txt").write_text(f"[fla.plugins]\n{name} = {module}\n")
        return distribution

    yield write
    for module in set(sys.modules) - before:
        if module.startswith("fla_plugin_"):
            del sys.modules[module]
