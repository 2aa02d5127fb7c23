"""`fla continual` on two arms, from the command line to the table."""

import json
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import pytest

import fla_sdk as fla
from fla_sdk.cli import main
from fla_sdk.policy import checkpoint
from fla_sdk.training.config import to_yaml


def _arguments(small: fla.TrainConfig, arms: dict[str, Path], folder: Path, *more: str) -> list[str]:
    recipe = folder / "small.yaml"
    recipe.write_text(to_yaml(attrs.evolve(small, sources=())))
    tasks = [f"--task={name}={path}:{name}" for name, path in arms.items()]
    fixed = ["--steps=2", "--seeds=1", "--samples=2", "--episodes=1", "--hold-out=0.25"]
    return ["continual", *tasks, f"--recipe={recipe}", f"--out={folder / 'out'}", *fixed, *more]


@pytest.mark.slow
def test_two_arms(
    small: fla.TrainConfig, arms: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = _arguments(small, arms, tmp_path, "--method=ewc", "--replay=0.5", "--benchmark=planar")
    assert main(words) == 0
    said = capsys.readouterr().out
    out = tmp_path / "out"
    first, second = (out / "seed0" / name / "checkpoints" / "2" for name in ("1_planar2", "2_planar3"))

    # The second stage starts from the first, holds what mattered there, and sees both tasks.
    trained = checkpoint.read_manifest(second).train
    assert trained["init"] == str(first)
    assert [penalty["name"] for penalty in trained["regularizers"]] == ["ewc"]
    assert [(s["embodiment"], s["weight"]) for s in trained["sources"]] == [("planar3", 0.5), ("planar2", 0.5)]
    importance = checkpoint.read_importance(first / "importance" / "ewc.safetensors")
    assert importance.keys() == checkpoint.read_params(first).keys()
    assert not (second / "importance" / "ewc.safetensors").exists()

    # Its checkpoint drives both arms, with the statistics of their first stages.
    assert set(checkpoint.read_manifest(second).embodiments) == {"planar2", "planar3"}
    before, after = (checkpoint.read_stats(one, "planar2") for one in (first, second))
    np.testing.assert_array_equal(before.actions.mean, after.actions.mean)

    results: dict[str, Any] = json.loads((out / "results.json").read_text())
    one, two = results["seeds"][0]
    assert set(one["planar2"]) == {"loss", "success"}
    assert set(one["planar3"]) == {"loss"}  # an arm that the first policy does not know
    assert set(two["planar2"]) == set(two["planar3"]) == {"loss", "success"}
    assert results["loss"]["backward"]["mean"] == pytest.approx(two["planar2"]["loss"] - one["planar2"]["loss"])
    assert results["loss"]["forward"]["mean"] == pytest.approx((one["planar2"]["loss"] + two["planar3"]["loss"]) / 2)
    for heading in ("loss of each task after each stage", "success of each task after each stage"):
        assert heading in said

    # Again: nothing is trained or measured, and another plan is refused.
    written = (second / "fla.json").stat().st_mtime_ns
    assert main(words) == 0
    assert (second / "fla.json").stat().st_mtime_ns == written
    capsys.readouterr()
    assert main([*words, "--strength=2"]) == 1
    assert "holds another sequence (strength: 1.0 there, 2.0 now); choose another --out" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--task=blue"], "--task 'blue' must be NAME=DATA[:EMBODIMENT]"),
        (["--task=blue=hf://datasets/a/b"], "which robot made the data?"),
        (["--benchmark=planar4=planar"], "unknown task 'planar4'; did you mean 'planar"),
        (["--option=planar4.asked=red"], "unknown task 'planar4'; did you mean 'planar"),
        (["--benchmark=planer"], "did you mean 'planar'"),
        (["--benchmark=planar", '--option=planar2.asked=["rad"]'], "colour of a planar target 'rad'"),
        (["--method=lora-per-task", "--set=init=nowhere"], "nowhere cannot be read: the path does not exist"),
    ],
)
def test_bad_input(
    small: fla.TrainConfig,
    arms: dict[str, Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    more: list[str],
    said: str,
) -> None:
    assert main(_arguments(small, arms, tmp_path, *more)) == 1
    assert said in capsys.readouterr().err
