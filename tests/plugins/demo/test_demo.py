"""The demo as a newcomer runs it, and what its policy relies on."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import attrs
import pytest
from PIL import Image

import fla_sdk as fla
from fla_sdk.cli import main
from fla_sdk.evaluation.benchmark import Evaluation, evaluate
from fla_sdk.evaluation.server_process import server_process

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]
EMBODIMENTS = ("planar2", "planar3")


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("demo") / "out"
    command = [sys.executable, "-m", "fla_sdk.cli", "demo", "--out", str(out)]
    environment = os.environ | {"JAX_DISABLE_MOST_OPTIMIZATIONS": "0"}  # this one runs for minutes
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return out


@pytest.fixture(scope="module")
def server(demo: Path) -> Iterator[str]:
    with server_process(demo / "run") as url:
        yield url


def test_one_policy_drives_both_arms(demo: Path) -> None:
    results = json.loads((demo / "results.json").read_text())["embodiments"]
    assert set(results) == set(EMBODIMENTS)
    for name in EMBODIMENTS:
        trained, untrained = results[name]["trained"], results[name]["untrained"]
        assert trained["episodes"] == untrained["episodes"] == 100
        assert trained["low"] <= trained["rate"] <= trained["high"]
        assert trained["rate"] >= 0.8, f"{name}: {trained}"
        assert untrained["rate"] < 0.1, f"{name}: {untrained}"


def test_the_report_shows_all_of_it(demo: Path) -> None:
    page = (demo / "report.html").read_text()
    for expected in ("Success", "Learning curve", "Rollouts", "Prediction against truth", *EMBODIMENTS):
        assert expected in page
    assert page.count("<svg") == 3  # learning curve and one open-loop figure per arm
    assert page.count("data:image/png") >= 2 * 4 * 2
    assert "http-equiv" not in page and 'src="http' not in page
    animations = sorted((demo / "rollouts").glob("*.gif"))
    assert len(animations) == 8
    with Image.open(animations[0]) as animation:
        assert getattr(animation, "n_frames", 1) > 1


@pytest.mark.parametrize("ablation", ["blank", "swap"])
@pytest.mark.parametrize("name", EMBODIMENTS)
def test_without_sight_or_the_right_words_it_fails(demo: Path, server: str, name: str, ablation: str) -> None:
    """Blanked images, or an instruction with another colour: success on the original target falls to chance."""
    plan = Evaluation(benchmark="planar", embodiment=name, url=server, episodes=60)
    registry = fla.load_plugins()
    deprived = evaluate(attrs.evolve(plan, options={"ablation": ablation}), registry).success
    trained = json.loads((demo / "results.json").read_text())["embodiments"][name]["trained"]
    assert deprived.rate <= 0.2, f"{name} without {ablation}: {deprived}"
    assert deprived.high < trained["low"]


def test_the_demo_empties_only_what_is_its_own(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    assert main(["demo", "--out", str(tmp_path)]) == 1
    assert "choose another --out" in capsys.readouterr().err
    assert (tmp_path / "thesis.tex").read_text() == "years of work"
