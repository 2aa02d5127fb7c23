"""Every layout survives `fla data convert`."""

from pathlib import Path

import numpy as np
import pytest

import fla_sdk as fla
from fla_sdk.cli import main

from .layouts import CAMERA, LENGTHS, TASK, takes


def test_every_layout_becomes_a_lerobot_dataset(
    layout: Path, registry: fla.Registry, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert main(["data", "convert", str(layout), str(out), "--task", TASK, "--episodes", "0,2"]) == 0
    said = capsys.readouterr().out
    assert "converted 2 episodes (9 rows)" in said and f"{CAMERA}: 6 frames compared, all equal" in said
    dataset, (first, _, last) = registry.open_dataset(str(out)), takes()
    assert dataset is not None
    assert (dataset.fps, dataset.task(5)) == (50, TASK)
    assert np.diff(dataset.episode_bounds).ravel().tolist() == [LENGTHS[0], LENGTHS[2]]
    for name, written in (
        ("observation.state", [first.state, last.state]),
        ("action", [first.action, last.action]),
    ):
        np.testing.assert_array_equal(dataset.column(name), np.concatenate(written).astype(np.float32))
    frames = np.stack([dataset.frame(CAMERA, row) for row in range(len(dataset))])
    np.testing.assert_array_equal(frames, np.concatenate([first.images, last.images]))
