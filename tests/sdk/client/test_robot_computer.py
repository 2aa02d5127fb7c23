"""The client on a robot's computer: Python 3.10, numpy, msgpack, websockets, and nothing else."""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[3]

_DRIVE = """
import asyncio, sys
import numpy as np
from fla_sdk.client import (
    AsynchronousExecutor, AsyncPolicyClient, ChunkExecutor, PolicyClient, Runtime, SafetyFilter, TemporalEnsemble
)
state = np.array([1.0, 2.0, 3.0], np.float32)
with PolicyClient(sys.argv[1], embodiment="arm") as policy:
    executor = ChunkExecutor(policy, replan=2)
    actions = [executor.act(lambda: {"state": state, "prompt": "go"}) for _ in range(4)]
    assert np.array_equal(actions, [state, 2 * state, state, 2 * state]), actions
    try:
        policy.infer({})
    except Exception as error:
        assert "the state is missing" in str(error), error
    else:
        raise AssertionError("no error")

class Arm:
    def reset(self): pass
    def observe(self): return {"state": state, "prompt": "go"}
    def act(self, action): pass

def enough(step):
    if step.number >= 20 and moving.counts.chunks > 1:
        runtime.stop()

with PolicyClient(sys.argv[1], embodiment="arm") as policy, AsynchronousExecutor(policy, lost_after_s=60) as moving:
    safety = SafetyFilter(policy.robot, velocity={"rad": 2.0}, jerk={"rad": 100.0}, position={"rad": (-3, 3)})
    runtime = Runtime(Arm(), moving, rate_hz=50, safety=safety, on_step=[enough])
    assert runtime.run_episode(limit_s=60).end == "stopped"
with PolicyClient(sys.argv[1], embodiment="arm") as policy:
    assert TemporalEnsemble(policy).act(Arm().observe)[0] == 1

async def ask():
    async with AsyncPolicyClient(sys.argv[1], embodiment="arm") as policy:
        assert await policy.ping() > 0
        return await policy.infer({"state": state, "prompt": "go"})

assert asyncio.run(ask())["actions"].shape == (3, 3)
import fla_sdk
print(sys.version_info[:2], fla_sdk.__file__)
"""


def test_the_client_loads_nothing_heavy() -> None:
    code = (
        "import sys; from fla_sdk.client import AsynchronousExecutor, PolicyClient, Runtime, SafetyFilter; "
        "print(sorted({'jax', 'flax', 'attr', 'attrs', 'cattrs', 'pluggy', 'PIL'} & set(sys.modules)))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=300)
    assert result.stdout.strip() == "[]"


def _python310() -> str | None:
    """A Python 3.10 that runs, from the path or from pyenv."""
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    for candidate in (shutil.which("python3.10"), *sorted(pyenv.glob("3.10.*/bin/python"), reverse=True)):
        if candidate is not None:
            found = subprocess.run([candidate, "-c", "import ensurepip"], capture_output=True, check=False, timeout=300)
            if found.returncode == 0:
                return str(candidate)
    return None


def _run(*command: Any, limit_s: float, cwd: Path | None = None) -> str:
    result = subprocess.run(command, capture_output=True, text=True, check=False, timeout=limit_s, cwd=cwd)
    assert result.returncode == 0, result.stderr
    return result.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The distribution as users get it."""
    folder = tmp_path_factory.mktemp("wheel")
    _run(sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "-w", folder, ROOT, limit_s=300)
    return next(folder.glob("fla_sdk-*.whl"))


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("websockets", ["websockets", "websockets==13.0"])
def test_python_310_with_three_packages(server: Any, wheel: Path, tmp_path: Path, websockets: str) -> None:
    python = _python310()
    if python is None:
        pytest.skip("no Python 3.10 on the path or under pyenv; install one with `pyenv install 3.10`")
    venv = tmp_path / "robot"
    _run(python, "-m", "venv", venv, limit_s=300)
    pip = (venv / "bin/python", "-m", "pip", "--quiet", "--disable-pip-version-check")
    _run(*pip, "install", "numpy", "msgpack", websockets, limit_s=600)
    _run(*pip, "install", "--no-deps", wheel, limit_s=300)
    installed = {line.split("==")[0].split(" @")[0].lower() for line in _run(*pip, "freeze", limit_s=60).splitlines()}
    assert installed == {"fla-sdk", "msgpack", "numpy", "websockets"}
    printed = _run(venv / "bin/python", "-W", "error", "-c", _DRIVE, server.url, limit_s=300, cwd=tmp_path)
    assert printed.startswith("(3, 10)")
    assert str(venv) in printed
