"""`fla plan`."""

import json

import pytest

from fla_sdk.cli import main

TINY = ("plan", "pi05_tiny", "--embodiment", "planar2", "--batch-size", "16")


def test_fits_or_not_is_the_exit_status(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*TINY, "--gpu", "H100"]) == 0
    text = capsys.readouterr().out
    assert "pi05/tiny, batch 16, on h100 (80 GB): per device" in text
    assert "samples/s" in text
    assert main([*TINY, "--memory", "0.01GB"]) == 3
    text = capsys.readouterr().out
    assert "does not fit" in text
    assert "--set ema_decay=null" in text
    assert "samples/s" not in text


def test_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*TINY, "--memory", "0.2GB", "--devices", "4", "--fsdp-devices", "2", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    memory = found["memory"]
    assert found["total"] == sum(memory.values())
    assert found["largest_batch"] % 4 == 0
    assert memory["optimizer"] == pytest.approx(2 * memory["trained"], rel=1e-4)


def test_bad_input(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*TINY, "--gpu", "h10"]) == 1
    assert "did you mean 'h100'" in capsys.readouterr().err
    assert main([*TINY, "--gpu", "h100", "--devices", "3"]) == 1
    assert "take 15" in capsys.readouterr().err
