"""`fla data check` and `fla data show` on recorded files."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from fla_sdk.cli import main


@pytest.fixture
def changed(arms: dict[str, Path], tmp_path: Path) -> Any:
    """`changed(fps=12)`: a copy of planar2's recording with other words in its description."""

    def copy(**words: Any) -> str:
        folder = tmp_path / "changed"
        shutil.copytree(arms["planar2"], folder)
        info = folder / "meta" / "info.json"
        info.write_text(json.dumps(json.loads(info.read_text()) | words))
        return str(folder)

    return copy


def test_a_clean_dataset_passes(arms: dict[str, Path], capsys: pytest.CaptureFixture[str]) -> None:
    data = str(arms["planar2"])
    assert main(["data", "check", data, "--embodiment", "planar2", "--strict", "--reference", data]) == 0
    assert capsys.readouterr().out.endswith(f"{data}: nothing found\n")


def test_an_error_fails_and_is_explained(
    arms: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data, out = str(arms["planar3"]), tmp_path / "report"
    files = ["--json", str(out / "check.json"), "--html", str(out / "check.html")]
    assert main(["data", "check", data, "--embodiment", "planar3", "--against", data, *files]) == 1
    said = capsys.readouterr().out
    assert f"error: leakage: episode 0\n    seen      3 of 3 episodes are also in {data}" in said
    assert said.endswith(f"{out / 'check.html'}\n")
    tree = json.loads((out / "check.json").read_text())
    assert {key: tree[key] for key in ("version", "dataset", "embodiment", "episodes", "counts")} == {
        "version": 1,
        "dataset": data,
        "embodiment": "planar3",
        "episodes": 3,
        "counts": {"error": 1, "warning": 0, "note": 0},
    }
    (finding,) = tree["findings"]
    assert finding.keys() == {"check", "severity", "seen", "expected", "advice", "name", "episode", "frame"}
    assert [(n["kind"], n["name"]) for n in tree["numbers"][:4]] == [
        *(("state", f"joint{i}") for i in (1, 2, 3)),
        ("action", "joint1"),
    ]
    assert tree["numbers"][0].keys() == {"kind", "name", "unit", "low", "q01", "q99", "high", "coverage"}


def test_warnings_fail_only_when_strict(changed: Any) -> None:
    data = changed(fps=12)
    assert main(["data", "check", data, "--embodiment", "planar2"]) == 0
    assert main(["data", "check", data, "--embodiment", "planar2", "--strict"]) == 1


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (["check", "DATA", "--reference", "none.png"], "--reference none.png cannot be read as a picture"),
        (["check", "DATA", "--embodiment", "planar22"], "unknown embodiment 'planar22'; did you mean 'planar2'?"),
        (
            ["check", "DATA", "--embodiment", "planar3"],
            "the state has 2 dimensions in the dataset, 3 in the embodiment",
        ),
        (["check", "DATA", "--frames", "-1"], "frames is -1"),
        (["show", "DATA", "--episode", "3"], "has episodes 0 to 2"),
        (["show", "DATA", "--rerun", "x.mp4"], "end in .rrd"),
    ],
)
def test_bad_input_is_refused(
    arms: dict[str, Path], capsys: pytest.CaptureFixture[str], command: list[str], message: str
) -> None:
    assert main(["data", *(str(arms["planar2"]) if word == "DATA" else word for word in command)]) == 1
    said = capsys.readouterr()
    assert message in said.err
    assert said.out == ""


def test_showing_a_dataset(arms: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = tmp_path / "page.html"
    assert main(["data", "show", str(arms["planar2"]), "--embodiment", "planar2", "--html", str(page)]) == 0
    said = capsys.readouterr().out
    for line in ("format      lerobot", "robot       planar2", "episodes    3, of ", "joint1, joint2 in rad (radians)"):
        assert line in said
    assert "observation.images.front" in page.read_text()


def test_an_episode_for_the_rerun_viewer(arms: dict[str, Path], tmp_path: Path) -> None:
    file = tmp_path / "new" / "episode.rrd"
    assert main(["data", "show", str(arms["planar2"]), "--episode", "1", "--rerun", str(file)]) == 0
    printed = subprocess.run(
        [sys.executable, "-m", "rerun", "rrd", "print", "-vv", str(file)],
        capture_output=True,
        text=True,
        check=True,
        timeout=300,
    ).stdout
    for entity in ("/state/joint1", "/action/joint2", "/cameras/front", "/task"):
        assert entity in printed, printed
