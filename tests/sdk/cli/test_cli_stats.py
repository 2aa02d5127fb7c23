"""`fla stats`: a table, files that training and openpi read, and results that are pooled."""

import json
from pathlib import Path
from typing import Any

import pytest

from fla_sdk.cli import main
from fla_sdk.normalization import NormStats
from fla_sdk.training.preparation import prepare

HORIZON = ("--embodiment", "planar2", "--horizon", "4")


def printed(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    assert main(["stats", *map(str, arguments)]) == 0
    return capsys.readouterr().out


def refused(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    assert main(["stats", *map(str, arguments)]) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    return captured.err


def test_the_table_has_every_dimension(arms: dict[str, Path], capsys: pytest.CaptureFixture[str]) -> None:
    text = printed(capsys, arms["planar2"], *HORIZON)
    assert "planar2, joint_position: " in text
    rows = [line.split() for line in text.splitlines() if line.startswith("joint")]
    assert [row[:2] for row in rows] == [["joint1", "rad"], ["joint2", "rad"]] * 2
    for row in rows:
        low, q01, mean, _, q99, high = map(float, row[2:])
        assert low <= q01 <= mean <= q99 <= high
    shown = json.loads(printed(capsys, arms["planar2"], *HORIZON, "--json"))
    assert [one["name"] for one in shown["dimensions"]] == ["joint1", "joint2"] * 2
    assert shown["basis"]["horizon"] == 4


def test_what_it_writes_is_what_training_computes(
    arms: dict[str, Path], small_run: Any, registry: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = small_run(tmp_path / "run")
    horizon = prepare(config, registry).spec.horizon
    file = tmp_path / "new" / "norm_stats.json"
    printed(capsys, arms["planar2"], "--embodiment", "planar2", "--horizon", horizon, "--out", file)
    assert NormStats.load(file).to_json() == prepare(config, registry).stats["planar2"].to_json()


def test_parts_make_the_whole(arms: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Episodes in two parts, perhaps on two machines, pooled without the data."""
    printed(capsys, arms["planar2"], *HORIZON, "--out", tmp_path / "whole.json")
    files = [tmp_path / "a.json", tmp_path / "b.json"]
    for file, episodes in zip(files, ("0:1", "1:3"), strict=True):
        printed(capsys, arms["planar2"], *HORIZON, "--episodes", episodes, "--part", file)
    printed(capsys, *files, "--out", tmp_path / "pooled.json", "--part", tmp_path / "all.json")
    whole, pooled = (NormStats.load(tmp_path / f"{name}.json") for name in ("whole", "pooled"))
    assert whole.count == pooled.count
    for kind in ("state", "actions"):
        for name in ("min", "q01", "q99", "max"):
            assert getattr(getattr(whole, kind), name).tolist() == getattr(getattr(pooled, kind), name).tolist()
        assert getattr(pooled, kind).mean.tolist() == pytest.approx(getattr(whole, kind).mean.tolist(), abs=1e-15)
        assert getattr(pooled, kind).std.tolist() == pytest.approx(getattr(whole, kind).std.tolist(), rel=1e-13)
    assert "fla: error: 1 of the 3 datasets and partial results hold the same data" in refused(
        capsys, tmp_path / "all.json", files[0]
    )
    assert "does not hold statistics that can be pooled" in refused(capsys, tmp_path / "whole.json")


def test_robots_are_not_mixed(arms: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    printed(capsys, arms["planar2"], *HORIZON, "--part", tmp_path / "a.json")
    error = refused(capsys, tmp_path / "a.json", arms["planar3"], "--embodiment", "planar3", "--horizon", "4", "--json")
    assert "embodiment: 'planar2' and 'planar3'" in error


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--horizon", "4"], "which robot made the data? give --embodiment NAME"),
        (["--embodiment", "planar2"], "give --horizon N, or --model FAMILY/VARIANT"),
        (["--embodiment", "planar2", "--horizon", "0"], "give --horizon N"),
        (["--embodiment", "planar2", "--model", "pi05"], "must be FAMILY/VARIANT"),
        (["--embodiment", "planar2", "--model", "pi05/tinny"], "did you mean 'tiny'"),
        (["--embodiment", "planar", "--horizon", "4"], "did you mean 'planar"),
        ([*HORIZON, "--out", "."], "is a folder; name the file to write"),
        ([*HORIZON, "--episodes", "9"], "there is no episode 9"),
        (["nowhere", *HORIZON], "there is no dataset at nowhere"),
    ],
)
def test_wrong_usage_is_explained(
    arms: dict[str, Path], capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    assert message in refused(capsys, arms["planar2"], *arguments)


def test_the_horizon_of_a_model(arms: dict[str, Path], registry: Any, capsys: pytest.CaptureFixture[str]) -> None:
    family = registry.model("pi05")
    text = printed(capsys, arms["planar2"], "--embodiment", "planar2", "--model", "pi05/tiny")
    assert f"chunks of {family.spec(family.variants['tiny']).horizon}," in text
