"""RLDS survives `fla data convert`."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import fla_sdk as fla
from fla_sdk.cli import main


def test_it_becomes_a_lerobot_dataset(
    toy: Callable[..., list[Path]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, out = str(toy()[0].parent), str(tmp_path / "out")
    assert main(["data", "convert", source + "?fps=10", out]) == 1
    assert "--leave-out observation/depth" in capsys.readouterr().err
    assert main(["data", "convert", source + "?fps=10", out, "--leave-out", "observation/depth"]) == 0
    registry = fla.load_plugins()
    original, copy = registry.open_dataset(source + "?fps=10"), registry.open_dataset(out)
    assert original is not None and copy is not None
    assert copy.episode_bounds.tolist() == original.episode_bounds.tolist()
    np.testing.assert_array_equal(copy.column("action"), original.column("action"))
    np.testing.assert_array_equal(copy.frame("observation.image", 7), original.frame("observation/image", 7))
    assert [copy.task(row) for row in range(len(copy))] == [original.task(row) for row in range(len(copy))]
