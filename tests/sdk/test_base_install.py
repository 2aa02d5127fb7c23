"""`pip install fla-sdk` without extras, on Python 3.10: everything outside training works, and it stays small."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MAX_BYTES = 90 * 10**6
HEAVY_PARTS = ("data", "training", "policy", "evaluation")

_IMPORT_THE_LIGHT_PART = f"""
import importlib, pkgutil, fla_sdk
for module in pkgutil.walk_packages(fla_sdk.__path__, "fla_sdk."):
    if module.name.split(".")[1] not in {HEAVY_PARTS} and not module.name.endswith("__main__"):
        importlib.import_module(module.name)
for name in fla_sdk.__all__:
    if fla_sdk._HOME[name].split(".")[1] not in {HEAVY_PARTS}:
        getattr(fla_sdk, name)
"""

_CHECK_EVERY_ROBOT = """
import fla_sdk as fla
from fla_sdk.testing import check_embodiment
robots = fla.load_plugins().embodiments
assert len(robots) >= 5
for robot in robots.values():
    check_embodiment(robot)
"""

_MISSPELL_A_CONFIG = """
from fla_sdk.config import structure
from fla_sdk.errors import ConfigError
from fla_sdk.training.config import TrainConfig
try:
    structure({"model": "pi05/tiny", "steps": "many", "optimizer": {"peak_lr": []}}, TrainConfig)
except ConfigError as error:
    assert "steps" in str(error) and "peak_lr" in str(error), error
else:
    raise AssertionError("no error")
"""


def _python310() -> str:
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    for candidate in (shutil.which("python3.10"), *sorted(pyenv.glob("3.10.*/bin/python"), reverse=True)):
        if candidate is not None:
            found = subprocess.run([candidate, "-c", "import ensurepip"], capture_output=True, check=False, timeout=300)
            if found.returncode == 0:
                return str(candidate)
    pytest.skip("no Python 3.10 on the path or under pyenv; install one with `pyenv install 3.10`")


def _run(*command: str | Path, limit_s: float = 300) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=limit_s, cwd="/")
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def _size(folder: Path) -> int:
    """Bytes of the files in `folder`, bytecode left out."""
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file() and file.suffix != ".pyc")


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_base_package_is_small_and_works_on_python_310(tmp_path: Path) -> None:
    _run(_python310(), "-m", "venv", tmp_path / "robot", limit_s=300)
    python = tmp_path / "robot/bin/python"
    site_packages = next((tmp_path / "robot/lib").glob("python*/site-packages"))
    before = _size(site_packages)
    _run(sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "-w", tmp_path, ROOT, limit_s=300)
    _run(python, "-m", "pip", "install", "--quiet", next(tmp_path.glob("fla_sdk-*.whl")), limit_s=600)
    assert _size(site_packages) - before < MAX_BYTES

    for code in (_IMPORT_THE_LIGHT_PART, _CHECK_EVERY_ROBOT, _MISSPELL_A_CONFIG):
        _run(python, "-W", "error", "-c", code)

    fla = tmp_path / "robot/bin/fla"
    listed = json.loads(_run(fla, "plugins", "--json"))
    assert not [plugin for plugin in listed if plugin["error"]]
    assert "open_fraction" in _run(fla, "embodiments", "aloha")
    assert "pi05" in _run(fla, "models")
