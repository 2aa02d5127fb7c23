"""A stranger's plugin from `pip install` to `pip uninstall`, in an environment of its own."""

import json
import os
import shutil
import site
import subprocess
import sys
import sysconfig
from collections.abc import Callable
from pathlib import Path

import pytest

from fla_sdk.normalization import NormStats

EXAMPLE = Path(__file__).parents[2] / "examples" / "fla-plugin-myrobot"

RECORD = """
import sys
from pathlib import Path

import fla_sdk as fla
from fla_sdk.testing import random_vectors

registry = fla.load_plugins()
robot = registry.embodiment("myrobot")
writer = registry.dataset_format("lerobot").create(
    Path(sys.argv[1]),
    robot=robot.name,
    fps=robot.control_hz,
    state_names=robot.state.names,
    action_names=robot.action.names,
    cameras=tuple(camera.name for camera in robot.cameras),
)
for episode in range(2):
    for row, action in enumerate(random_vectors(robot.action, 6, seed=episode)):
        writer.add(robot.example_observation(seed=10 * episode + row), action)
    writer.save_episode()
writer.close()
"""

Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """`run("pip", "install", ...)` in a fresh environment that sees what this one has installed."""
    home = tmp_path / "venv"
    subprocess.run([sys.executable, "-m", "venv", str(home)], check=True)
    python = home / "bin" / "python"
    # fla-sdk and JAX are borrowed rather than installed again: half a gigabyte, and there may be no network.
    packages = [sysconfig.get_path("purelib", vars={"base": str(home)}), *site.getsitepackages()]
    borrowed = "".join(f"import site; site.addsitedir({path!r})\n" for path in packages[1:])
    (Path(packages[0]) / "borrowed.pth").write_text(borrowed)
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("FLA_", "PYTHON", "VIRTUAL_ENV"))}
    environment |= {"JAX_PLATFORMS": "cpu", "PIP_DISABLE_PIP_VERSION_CHECK": "1"}

    def call(*arguments: str | Path, module: bool = True, fails: bool = False) -> "subprocess.CompletedProcess[str]":
        command = [str(python), *(["-m"] if module else []), *map(str, arguments)]
        done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=environment, check=False)
        assert (done.returncode != 0) == fails, f"{command}\n{done.stdout}\n{done.stderr}"
        return done

    return call


@pytest.mark.slow
def test_a_strangers_plugin_is_installed_used_and_removed(run: Run, tmp_path: Path) -> None:
    # A copy, because building leaves traces in the source tree.
    source = tmp_path / "fla-plugin-myrobot"
    shutil.copytree(EXAMPLE, source, ignore=shutil.ignore_patterns("build", "*.egg-info", "__pycache__"))
    offline = ("--no-deps", "--no-index", "--no-build-isolation")
    assert "unknown embodiment 'myrobot'" in run("fla_sdk.cli", "embodiments", "myrobot", fails=True).stderr
    run("pip", "install", *offline, source)

    plugins = {one["name"]: one for one in json.loads(run("fla_sdk.cli", "plugins", "--json").stdout)}
    mine = plugins["myrobot"]
    assert (mine["distribution"], mine["version"]) == ("fla-plugin-myrobot", "1.0.0")
    assert mine["provides"] == ["embodiment myrobot"]
    assert mine["error"] is None

    described = run("fla_sdk.cli", "embodiments", "myrobot").stdout
    for part in ("plugin 'myrobot' of fla-plugin-myrobot 1.0.0", "wrist_3", "open_fraction", "overview", "30 Hz"):
        assert part in described

    assert "2 passed" in run("pytest", "-p", "no:cacheprovider", source / "tests").stdout

    data, out = tmp_path / "data", tmp_path / "run"
    run("-c", RECORD, data, module=False)
    command = ("train", "pi05_tiny", "--data", data, "--embodiment", "myrobot", "--out", out)
    run("fla_sdk.cli", *command, "--steps", "2", "--batch-size", "2")
    (manifest,) = out.rglob("2/fla.json")
    trained = json.loads(manifest.read_text())
    assert list(trained["embodiments"]) == ["myrobot"]
    assert "fla-plugin-myrobot 1.0.0" in trained["plugins"]
    stats = NormStats.load(manifest.parent / "assets" / "myrobot" / "norm_stats.json")
    assert (stats.state.width, stats.actions.width, stats.count) == (7, 7, 12)

    run("pip", "uninstall", "--yes", "fla-plugin-myrobot")
    assert "myrobot" not in run("fla_sdk.cli", "embodiments").stdout
    assert "unknown embodiment 'myrobot'" in run("fla_sdk.cli", "embodiments", "myrobot", fails=True).stderr
