"""`wandb`: runs without a network, as files that `wandb sync` sends later."""

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(find_spec("wandb") is None, reason='pip install "fla-sdk[track]"')

_TWICE = """
import sys, time
from pathlib import Path
import numpy as np
from fla_plugins.trackers.wandb import WandbRun, check

check()
folder = Path(sys.argv[1])
for steps in ((1, 2), (2, 3)):
    run = WandbRun(folder, {"optimizer": {"peak_lr": 0.000123}})
    for step in steps:
        run.log(step, {"loss": 0.5 + step / 1024})
    run.image(steps[-1], "held_out/planar2", np.zeros((4, 6, 3), np.uint8))
    run.close()
    time.sleep(1.1)  # the library names folders by the second
"""
_LOGGED_IN = """
import os
from fla_plugins.trackers.wandb import check

try:
    check()
except Exception as error:
    print(type(error).__name__, error)
os.environ["WANDB_API_KEY"] = "0" * 40
check()
print("logged in")
"""
_LIMIT_S = 300


def _python(code: str, *arguments: str, home: Path, **variables: str) -> "subprocess.CompletedProcess[str]":
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("WANDB_", "NETRC"))}
    environment = {**kept, "HOME": str(home), "WANDB_ERROR_REPORTING": "false", **variables}
    return subprocess.run(
        [sys.executable, "-c", code, *arguments],
        env=environment,
        capture_output=True,
        text=True,
        timeout=_LIMIT_S,
        check=False,
    )


def test_an_offline_run_is_written_and_goes_on_under_its_id(tmp_path: Path) -> None:
    folder = tmp_path / "my_run"
    variables = {"WANDB_MODE": "offline", "WANDB_PROJECT": "arms", "WANDB_TAGS": "first,second"}
    done = _python(_TWICE, str(folder), home=tmp_path, **variables)
    assert done.returncode == 0, done.stderr
    number = (folder / "wandb" / "run_id.txt").read_text()
    files = sorted((folder / "wandb").glob(f"offline-run-*/run-{number}.wandb"))
    assert len(files) == len(list((folder / "wandb").glob("offline-run-*/*.wandb")))
    written = b"".join(file.read_bytes() for file in files)
    for part in (b"0.5009765625", b"0.501953125", b"0.5029296875", b"0.000123", b"my_run", b"arms", b"second"):
        assert part in written, part
    assert len(files) == 2
    assert all(b"0.501953125" in file.read_bytes() for file in files)  # a step that is taken again is there again
    assert list((folder / "wandb").glob("offline-run-*/files/media/images/held_out/planar2_*.png"))


def test_nobody_logged_in_is_refused_before_training(tmp_path: Path) -> None:
    done = _python(_LOGGED_IN, home=tmp_path)
    assert done.returncode == 0, done.stderr
    refused, accepted = done.stdout.splitlines()
    assert refused.startswith("ConfigError tracker wandb has no API key: run `wandb login`")
    assert accepted == "logged in"
