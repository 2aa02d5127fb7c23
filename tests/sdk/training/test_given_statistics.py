"""Statistics that a run is given: found by name, held to the robot, recorded, and told where the data contradict."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import pytest

import fla_sdk as fla
from fla_sdk.cli import main
from fla_sdk.data.demonstrations import Demonstrations
from fla_sdk.data.partial_stats import PartialStats
from fla_sdk.data.statistics import collect
from fla_sdk.errors import CheckpointError, ConfigError, FlaError, StatsError, UnknownNameError
from fla_sdk.normalization import NormStats, Stats
from fla_sdk.testing import MemoryDataset
from fla_sdk.training import given_statistics
from fla_sdk.training.config import from_yaml, to_yaml
from fla_sdk.training.preparation import prepare

from ..policy.storage_server import serve

ARM = fla.Embodiment(
    name="arm",
    state=fla.Space(fla.joints("shoulder", "elbow")),
    action=fla.Space(fla.joints("shoulder", "elbow", predict="relative")),
    cameras=(),
    control_hz=10,
)


def stats(width: int = 2, *, scale: float = 1.0, quantiles: bool = True) -> NormStats:
    rows = scale * np.random.default_rng(0).uniform(-1, 1, (500, width))
    one = Stats.of(rows) if quantiles else Stats(mean=rows.mean(0), std=rows.std(0))
    return NormStats(state=one, actions=one)


def assets(folder: Path, *names: str, given: NormStats | None = None) -> Path:
    """A checkpoint's folder as openpi publishes it, without its parameters."""
    for number, name in enumerate(names):
        (folder / "assets" / name).mkdir(parents=True)
        one = given or stats(scale=1 + number)
        (folder / "assets" / name / "norm_stats.json").write_text(one.to_json())
    return folder


def load(place: object, *, normalization: str = "quantile") -> NormStats:
    return given_statistics.load(str(place), ARM, normalization=normalization)


def found(*, scale: float = 1.0, offset: float = 0.0) -> PartialStats:
    rows = offset + scale * np.random.default_rng(1).uniform(-1, 1, (400, 2))
    data = MemoryDataset({"state": rows, "actions": rows[::-1]}, lengths=(400,), fps=10)
    return collect([Demonstrations(data, ARM, horizon=2)])


# --- Found ------------------------------------------------------------------------------------------------------------


def test_found_by_name(tmp_path: Path) -> None:
    several = assets(tmp_path / "several", "arm", "lab/other")
    np.testing.assert_array_equal(load(several).state.q99, stats().state.q99)
    np.testing.assert_array_equal(load(f"{several}#lab/other").state.q99, stats(scale=2).state.q99)
    only = assets(tmp_path / "only", "trossen")
    for place in (only, only / "assets", only / "assets" / "trossen", only / "assets" / "trossen" / "norm_stats.json"):
        assert load(place).method == f"taken from {place}"


@pytest.mark.parametrize(
    ("place", "error", "message"),
    [
        ("two", ConfigError, r"which statistics are those of 'arm'\? add #NAME \(droid, trossen\)"),
        ("two#drodi", UnknownNameError, "did you mean 'droid'"),
        ("tow", CheckpointError, "did you mean .*two"),
        ("empty", StatsError, "there is no norm_stats.json in"),
        ("ftp://models/base", CheckpointError, "ftp:// is not known"),
    ],
)
def test_what_is_not_there_is_named(tmp_path: Path, place: str, error: type[FlaError], message: str) -> None:
    assets(tmp_path / "two", "droid", "trossen")
    (tmp_path / "empty").mkdir()
    with pytest.raises(error, match=message):
        load(place if "://" in place else tmp_path / place)


def test_only_the_statistics_of_a_checkpoint_are_fetched(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("FLA_DATA_HOME", str(tmp_path))
    with serve() as storage:
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", storage.url)
        text = stats().to_json().encode()
        storage.objects = {"base/params/d/huge": b"0", "base/assets/droid/norm_stats.json": text}
        for place in ("gs://models/base#droid", "gs://models/base", "gs://models/base/assets/droid/norm_stats.json"):
            np.testing.assert_array_equal(load(place).state.q01, stats().state.q01)
        assert not any("huge" in path for path, _ in storage.asked)


def test_other_robots_and_missing_percentiles_are_refused(tmp_path: Path) -> None:
    narrow = assets(tmp_path / "narrow", "arm", given=stats(1))
    with pytest.raises(
        StatsError, match=r"statistics of state have 1 dimensions, embodiment 'arm' has 2 \(shoulder, elbow\)"
    ):
        load(narrow)
    assert load(assets(tmp_path / "padded", "arm", given=stats(32))).state.width == 32
    plain = assets(tmp_path / "plain", "arm", given=stats(quantiles=False))
    assert load(plain, normalization="zscore").state.q01 is None
    with pytest.raises(StatsError, match="statistics of state have no percentiles"):
        load(plain)


# --- Compared ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("quantiles", [True, False])
def test_degrees_are_noticed(quantiles: bool) -> None:
    given = stats(quantiles=quantiles)
    assert not given_statistics.disagreements(stats(scale=2, quantiles=quantiles), found())
    lines = given_statistics.disagreements(given, found(scale=np.rad2deg(1)))
    assert len(lines) == 4
    assert lines[0].startswith("state 'shoulder' is -55.4 to 55.4 rad in the data, -")


def test_an_offset_is_noticed_where_it_is() -> None:
    """A zero position that was set anew moves states, and leaves relative actions as they were."""
    lines = given_statistics.disagreements(stats(scale=2), found(offset=10))
    assert [line.split(" is ")[0] for line in lines] == ["state 'shoulder'", "state 'elbow'"]


def test_more_dimensions_than_the_robot_has_are_left_alone() -> None:
    assert not given_statistics.disagreements(stats(32, scale=2), found())


# --- Used -------------------------------------------------------------------------------------------------------------


def test_a_run_uses_and_records_them(
    small_run: Callable[..., Any], registry: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = assets(tmp_path / "given", "planar2", given=stats(scale=0.01))
    config = small_run(tmp_path / "run", stats={"planar2": f"{given}#planar2"})
    assert from_yaml(to_yaml(config)) == config
    prepared = prepare(config, registry)
    ours, own = prepared.stats["planar2"], prepare(small_run(tmp_path / "run"), registry).stats
    np.testing.assert_array_equal(ours.state.q99, stats(scale=0.01).state.q99)
    assert prepared.codecs["planar2"].stats is ours
    assert json.loads(ours.to_json())["method"] == f"taken from {given}#planar2"
    assert prepared.stats["planar3"].to_json() == own["planar3"].to_json()
    assert ours.fingerprint != own["planar2"].fingerprint
    assert ours.fingerprint == prepare(config, registry).stats["planar2"].fingerprint
    (remark,) = prepared.remarks
    assert "embodiment 'planar2': the data reach more than 2 times as far as the statistics taken from" in remark
    assert "state 'joint1' is " in remark

    (tmp_path / "run.yaml").write_text(to_yaml(attrs.evolve(config, stats={})))
    assert main(["train", str(tmp_path / "run.yaml"), "--stats", f"planar2={given}", "--dry-run"]) == 0
    printed = capsys.readouterr()
    assert from_yaml(printed.out).stats == {"planar2": str(given)}
    assert [line.split(":")[:2] for line in printed.err.splitlines()] == [["fla", " warning"]]


def test_statistics_of_a_robot_that_is_not_trained_are_refused(
    small_run: Callable[..., Any], registry: Any, tmp_path: Path
) -> None:
    with pytest.raises(UnknownNameError, match=r"embodiment of the sources.* 'planar9'; did you mean 'planar"):
        prepare(small_run(tmp_path / "run", stats={"planar9": "x"}), registry)
