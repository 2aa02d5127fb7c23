"""`tensorboard`: event files, as TensorBoard itself reads them."""

import io
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from fla_plugins.trackers.tensorboard import TensorboardRun

accumulator: Any = pytest.importorskip(
    "tensorboard.backend.event_processing.event_accumulator", reason='pip install "fla-sdk[track]"'
)

_32_BITS = st.floats(width=32)


def _read(folder: Path) -> Any:
    read = accumulator.EventAccumulator(str(folder / "tensorboard"))
    read.Reload()
    return read


@settings(max_examples=25)
@given(
    reports=st.lists(st.dictionaries(st.text(min_size=1, max_size=20), _32_BITS, min_size=1), min_size=1, max_size=5),
    stride=st.integers(1, 10**9),
)
def test_what_was_logged_is_read(
    tmp_path_factory: pytest.TempPathFactory, reports: list[dict[str, float]], stride: int
) -> None:
    folder = tmp_path_factory.mktemp("run")
    run = TensorboardRun(folder, {})
    for number, report in enumerate(reports):
        run.log(number * stride, report)
    read = _read(folder)  # before it is closed: everything is on disk at once
    run.close()
    names = {name for report in reports for name in report}
    assert set(read.Tags()["scalars"]) == names
    for name in names:
        logged = [(number * stride, report[name]) for number, report in enumerate(reports) if name in report]
        found = [(event.step, event.value) for event in read.Scalars(name)]
        assert [step for step, _ in found] == [step for step, _ in logged]
        for (_, got), (_, expected) in zip(found, logged, strict=True):
            assert got == expected or (math.isnan(got) and math.isnan(expected))


def test_pictures(tmp_path: Path) -> None:
    picture = np.arange(200 * 7 * 3, dtype=np.uint32).reshape(200, 7, 3).astype(np.uint8)
    run = TensorboardRun(tmp_path, {})
    run.image(0, "samples/planar2", picture)
    run.close()
    (event,) = _read(tmp_path).Images("samples/planar2")
    assert (event.step, event.height, event.width) == (0, 200, 7)
    with Image.open(io.BytesIO(event.encoded_image_string)) as found:
        np.testing.assert_array_equal(np.asarray(found), picture)


def test_a_resumed_run_replaces_the_steps_it_takes_again(tmp_path: Path) -> None:
    for steps, loss in ((range(1, 6), 1.0), (range(4, 8), 2.0)):
        run = TensorboardRun(tmp_path, {})
        for step in steps:
            run.log(step, {"loss": loss})
        run.close()
    found = [(event.step, event.value) for event in _read(tmp_path).Scalars("loss")]
    assert found == [(1, 1), (2, 1), (3, 1), (4, 2), (5, 2), (6, 2), (7, 2)]


def test_a_run_that_says_nothing_leaves_nothing(tmp_path: Path) -> None:
    TensorboardRun(tmp_path, {}).close()
    assert list(tmp_path.iterdir()) == []
