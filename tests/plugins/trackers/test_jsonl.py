"""`jsonl`: lines of metrics, and what becomes of those that a killed run wrote after its last checkpoint."""

import json
from pathlib import Path

import numpy as np
from PIL import Image

from fla_plugins.trackers.jsonl import JsonlRun


def test_lines_are_on_disk_at_once(tmp_path: Path) -> None:
    run = JsonlRun(tmp_path, {})
    run.log(10, {"loss": 0.5})
    assert json.loads((tmp_path / "metrics.jsonl").read_text()) == {"step": 10, "loss": 0.5}
    run.close()


def test_a_resumed_run_replaces_the_steps_it_takes_again(tmp_path: Path) -> None:
    file = tmp_path / "metrics.jsonl"
    first = JsonlRun(tmp_path, {})
    for step in (1, 2, 3, 4):
        first.log(step, {"loss": 1.0})
    first.close()
    with file.open("a") as half:
        half.write('{"step": 5, "lo')
    second = JsonlRun(tmp_path, {})
    assert len(file.read_text().splitlines()) == 5  # nothing is touched before there is something to say
    second.log(3, {"loss": 2.0})
    second.log(4, {"loss": 2.0})
    second.close()
    assert [tuple(json.loads(line).values()) for line in file.read_text().splitlines()] == [
        (1, 1.0),
        (2, 1.0),
        (3, 2.0),
        (4, 2.0),
    ]
    assert [entry.name for entry in tmp_path.iterdir()] == ["metrics.jsonl"]


def test_pictures_are_files_by_name_and_step(tmp_path: Path) -> None:
    picture = np.arange(4 * 6 * 3, dtype=np.uint8).reshape(4, 6, 3)
    run = JsonlRun(tmp_path, {})
    for step in (10, 10, 200):  # a resumed run draws some of them again
        run.image(step, "held_out/planar2", picture)
    run.close()
    files = sorted((tmp_path / "images").rglob("*.png"))
    assert [str(file.relative_to(tmp_path)) for file in files] == [
        "images/held_out/planar2/000010.png",
        "images/held_out/planar2/000200.png",
    ]
    with Image.open(files[0]) as found:
        np.testing.assert_array_equal(np.asarray(found), picture)
