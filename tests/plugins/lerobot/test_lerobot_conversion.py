"""LeRobot's own datasets survive `fla data convert`: from the older layout, and from video to images."""

from pathlib import Path

import numpy as np
import pytest

from fla_plugins.lerobot.reader import LeRobotDataset
from fla_sdk.cli import main

from .conftest import Record
from .test_lerobot_v2 import as_v2


@pytest.mark.parametrize("video", [False, True])
def test_the_older_layout_becomes_the_newer(record: Record, tmp_path: Path, video: bool) -> None:
    old = LeRobotDataset(as_v2(record((3, 5, 4), video=video), tmp_path / "v2"))
    assert main(["data", "convert", str(old.path), str(tmp_path / "v3"), "--images"]) == 0
    new = LeRobotDataset(tmp_path / "v3")
    assert new.fingerprint == old.fingerprint and new.robot == old.robot
    for name in ("observation.images.front", "observation.images.wrist"):
        for row in (0, 4, 11):
            np.testing.assert_array_equal(new.frame(name, row), old.frame(name, row))
