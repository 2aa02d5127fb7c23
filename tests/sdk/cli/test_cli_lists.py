"""`fla plugins`, `embodiments`, `models` and `recipes`; and `fla` itself with a broken plugin."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from fla_sdk.cli import main
from fla_sdk.training.config import from_yaml


def _printed(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert main(arguments) == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    return captured.out


def test_plugins(capsys: pytest.CaptureFixture[str]) -> None:
    text = _printed(capsys, "plugins")
    assert "planar_benchmark  (fla-sdk " in text
    infos = {info["name"]: info for info in json.loads(_printed(capsys, "plugins", "--json"))}
    assert "regularizer l2sp" in infos["continual"]["provides"]
    assert infos["continual"]["hooks"] == ["fla_commands", "fla_regularizers"]
    assert not [info for info in infos.values() if info["error"]]


def test_embodiments(capsys: pytest.CaptureFixture[str]) -> None:
    assert {"planar2", "planar3", "aloha", "libero", "droid"} <= {
        line.split()[0] for line in _printed(capsys, "embodiments").splitlines()
    }
    text = _printed(capsys, "embodiments", "planar2")
    for part in ("provided by  plugin 'planar' of fla-sdk", "10 Hz, joint_position", "joint1, joint2", "rad ("):
        assert part in text
    assert "to base_0_rgb" in text
    assert "predicted relative to the state" in _printed(capsys, "embodiments", "aloha")


def test_recipes_print_configs_that_can_be_read_again(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    listed = [line.split()[0] for line in _printed(capsys, "recipes").splitlines()]
    assert "pi05_tiny" in listed
    for name in listed:
        assert from_yaml(_printed(capsys, "recipes", name)).model.count("/") == 1


def test_models(capsys: pytest.CaptureFixture[str]) -> None:
    assert {"pi0", "pi05"} <= {line.split()[0] for line in _printed(capsys, "models").splitlines()}
    # The sizes of the published weights.
    assert "pi05/base: 3,353,433,872 parameters" in _printed(capsys, "models", "pi05")
    assert "pi0/base: 3,238,048,528 parameters" in _printed(capsys, "models", "pi0")


def test_one_model(capsys: pytest.CaptureFixture[str]) -> None:
    lines = _printed(capsys, "models", "pi05/base_lora").splitlines()
    (row,) = (line.split() for line in lines if line.startswith("  all "))
    assert row == ["all", "3,403,421,456", "6.807", "GB", "13.614", "GB"]
    assert "    gs://openpi-assets/checkpoints/pi05_base  (--init-fresh lora)" in lines
    assert any("pi05_droid  (--init-fresh lora; horizon=15)" in line for line in lines)
    assert any("pt_224.npz  (--init-fresh action_expert --init-fresh lora --init-fresh proj" in line for line in lines)
    assert "  no published weights are known to fit" in _printed(capsys, "models", "pi05/tiny").splitlines()
    assert main(["models", "pi05/bass"]) == 1
    assert "unknown variant of model 'pi05' 'bass'; did you mean 'base" in capsys.readouterr().err


def test_no_command_prints_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    text = _printed(capsys)
    assert all(command in text for command in ("train", "serve", "eval", "record", "plugins"))


@pytest.mark.parametrize("words", [["flyy"], ["train"], ["eval", "planar"]])
def test_wrong_usage(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(words)
    assert caught.value.code == 2
    assert "usage: fla" in capsys.readouterr().err


def test_a_broken_plugin_is_one_line_and_the_rest_works(tmp_path: Path) -> None:
    (tmp_path / "wobbly.py").write_text("raise RuntimeError('no driver for this arm')\n")
    info = tmp_path / "wobbly-2.1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: wobbly\nVersion: 2.1\n")
    (info / "entry_points.txt").write_text("[fla.plugins]\nwobbly = wobbly\n")
    environment = os.environ | {"PYTHONPATH": str(tmp_path)}
    command = [sys.executable, "-m", "fla_sdk.cli", "embodiments"]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    assert "planar2" in done.stdout
    (line,) = done.stderr.splitlines()
    assert line == "fla: warning: plugin 'wobbly' of wobbly 2.1: RuntimeError: no driver for this arm"
