"""Training with a frame cache: from where the frames come, what a resumed run does, and what a device would take."""

import itertools
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import attrs
import numpy as np
import pytest

from fla_sdk.data import frame_rates
from fla_sdk.data.frame_cache import CachedFrames
from fla_sdk.policy import checkpoint
from fla_sdk.training import demand
from fla_sdk.training.frames import cache_frames
from fla_sdk.training.preparation import prepare


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("FLA_DATA_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def test_exact_frames_change_nothing(small_run: Callable[..., Any], registry: Any, tmp_path: Path, home: Path) -> None:
    """With plain bytes, the cached run sees what the other one sees."""
    config = small_run(tmp_path / "run", frame_cache="always", frame_quality=None)
    plain = prepare(config, registry)
    decided, cached = cache_frames(config, plain, newest=None)
    assert decided == config and list(home.glob("frames/*/shard-*"))
    for before, after in zip(plain.parts, cached.parts, strict=True):
        assert isinstance(after.demonstrations.dataset, CachedFrames)
        assert not isinstance(before.demonstrations.dataset, CachedFrames), "the first preparation is as it was"
        for index in (0, len(before.demonstrations) - 1):
            a, b = (part.codec.encode_example(part.demonstrations[index]) for part in (before, after))
            assert a.inputs.images.keys() == b.inputs.images.keys() != set()
            for slot in a.inputs.images:
                np.testing.assert_array_equal(a.inputs.images[slot], b.inputs.images[slot])
            np.testing.assert_array_equal(a.actions, b.actions)


def test_a_short_run_decodes_and_a_resumed_one_keeps_to_the_choice(
    small_run: Callable[..., Any],
    trained: Path,
    registry: Any,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(frame_rates, "time", SimpleNamespace(monotonic=itertools.count(step=1e-3).__next__))
    config, newest = small_run(trained, frame_cache="auto"), trained / "checkpoints" / "40"
    assert checkpoint.read_manifest(newest).train["frame_cache"] == "never"
    prepared = prepare(config, registry)
    assert cache_frames(config, prepared, newest=None)[0].frame_cache == "never"
    assert "frame cache: none, decoding takes 0 s of this run" in capsys.readouterr().out
    cache_frames(attrs.evolve(config, frame_cache="always"), prepared, newest=None)
    assert cache_frames(config, prepared, newest=None)[0].frame_cache == "always", "now there is one to use"
    assert cache_frames(config, prepared, newest=newest)[0].frame_cache == "never"


def test_a_device_is_asked_for_less_by_a_larger_model(registry: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demand, "matrix_rate", lambda: 1e12)
    family = registry.model("pi05")
    tiny = demand.samples_per_second(family, family.variants["tiny"])
    base = demand.samples_per_second(family, family.variants["base"])
    frozen = demand.samples_per_second(family, family.variants["base"], freeze=("vision", "language"))
    assert tiny > 100 * base and base < frozen <= 3 * base


def test_the_published_model_takes_dozens_of_samples_per_second_of_an_h100(
    registry: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(demand, "matrix_rate", lambda: 7e14)
    family = registry.model("pi05")
    assert 10 < demand.samples_per_second(family, family.variants["base"]) < 100


@pytest.mark.parametrize("seconds", [4.5, 0.5, 0.0])
def test_the_matrix_rate_is_of_at_least_one_product(seconds: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a clock that advances by a second whenever somebody looks at it."""
    monkeypatch.setattr(demand, "time", SimpleNamespace(monotonic=itertools.count().__next__))
    assert demand.matrix_rate(seconds=seconds) == 2 * 1024**3
