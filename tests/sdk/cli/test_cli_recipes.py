"""`fla recipes` explains and writes configs; `fla train --dry-run` shows what would be trained."""

from pathlib import Path

import numpy as np
import pytest
import yaml

from fla_sdk.cli import main
from fla_sdk.plugins import Registry
from fla_sdk.training.config import TrainConfig, from_yaml
from fla_sdk.training.preparation import open_dataset


def said(capsys: pytest.CaptureFixture[str], *words: str | Path) -> str:
    status = main([str(word) for word in words])
    printed = capsys.readouterr()
    assert status == (1 if "fla: error" in printed.err else 0)
    return printed.err if status else printed.out


def test_an_explanation_says_what_the_config_does(capsys: pytest.CaptureFixture[str]) -> None:
    text = said(capsys, "recipes", "pi06_cross_embodiment_aloha")
    for part in (
        "trained   everything but vision and language\n",
        "weights   gs://openpi-assets/checkpoints/pi05_base\n",
        'aloha_pen_uncap_diverse of aloha, weight 1, told "uncap the pen"\n',
        "statistics of aloha from gs://openpi-assets/checkpoints/pi05_base#trossen\n",
        "training  30,000 steps of 64 samples",
    ):
        assert f"{part}" in text
    assert "pi05_tiny --data DIR --embodiment NAME" in said(capsys, "recipes", "pi05_tiny")
    assert "lora\n# data" in said(capsys, "recipes", "pi0_lora")
    assert "then even\n" in said(capsys, "recipes", "pi05_libero")


def test_a_written_config_is_commented_and_trains(
    arms: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str], registry: Registry
) -> None:
    file = tmp_path / "configs" / "mine.yaml"
    robots = [word for name, path in arms.items() for word in ("--data", path, "--embodiment", name)]
    assert str(file) in said(capsys, "recipes", "new", "mine", "--from", "pi05_tiny", "--out", file, *robots)
    text = file.read_text()
    config, recipe = from_yaml(text), registry.recipe("pi05_tiny").config()
    assert text.count("\n# ") > 8
    assert "undecayed" in text
    assert {source.embodiment: source.data for source in config.sources} == {n: str(p) for n, p in arms.items()}
    assert config.out == Path("out/mine")
    assert (config.optimizer, config.steps, config.model) == (recipe.optimizer, recipe.steps, recipe.model)

    shown = said(capsys, "train", file, "--batch-size", "4", "--out", tmp_path / "run", "--dry-run")
    resolved = from_yaml(shown)
    assert isinstance(resolved, TrainConfig)
    assert resolved.batch_size == 4
    assert "# weights: none; all parameters begin anew\n" in shown
    assert "# memory: about " in shown
    assert "base_0_rgb         [8, 64, 64, 3] uint8, " in shown
    assert "#   Task: planar arm 2: touch the " in shown
    assert not (tmp_path / "run").exists()
    (line,) = (line for line in shown.splitlines() if line.startswith("#   joint3 "))
    low, high = float(line.split()[2]), float(line.split()[4])
    actions = open_dataset(str(arms["planar3"]), registry).column("action")[:, 2]
    assert actions.min() - 1e-3 <= low <= high <= actions.max() + 1e-3
    assert high > low
    assert -1.5 < float(line.split()[5]) < float(line.split()[7]) < 1.5
    assert line.endswith("rad")


def test_what_is_not_known_is_left_blank(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "mine.yaml"
    said(capsys, "recipes", "new", "mine", "--out", file, "--embodiment", "so101")
    (source,) = yaml.safe_load(file.read_text())["sources"]
    assert (source["data"], source["embodiment"]) == ("<your dataset>", "so101")
    assert "1 of 1 datasets are yours to name: <your dataset>" in said(capsys, "train", file, "--dry-run")
    assert "exists already" in said(capsys, "recipes", "new", "mine", "--out", file)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["new"], "what shall the run be called?"),
        (["new", "mine", "--out", "mine.json"], "by its ending, .yaml"),
        (["new", "mine", "--embodiment", "so110"], "did you mean 'so10"),
        (["new", "mine", "--from", "pi05_lorra"], "did you mean 'pi05_lora'?"),
        (["new", "mine", "--data", "here"], "which robot made the data?"),
        (["pi05_lorra"], "did you mean 'pi05_lora'?"),
    ],
)
def test_mistakes_write_nothing(
    words: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert message in said(capsys, "recipes", *words)
    assert not list(tmp_path.iterdir())


def test_the_dry_run_says_what_becomes_of_weights(
    arms: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["train", "pi05_tiny", "--data", arms["planar2"], "--embodiment", "planar2", "--dry-run"]
    text = said(capsys, *words, "--init", "gs://nobody/nothing", "--out", tmp_path / "run")
    assert "# weights: gs://nobody/nothing; fetched and checked when training begins\n" in text
    assert np.isfinite(from_yaml(text).optimizer.peak_lr)
