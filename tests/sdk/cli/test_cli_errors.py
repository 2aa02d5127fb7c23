"""Mistakes at the command line: each is explained with both sides or the nearest name, and without a traceback."""

import shutil
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fla_plugins.lerobot.writer import LeRobotWriter
from fla_sdk.cli import main
from fla_sdk.policy import checkpoint
from fla_sdk.training.config import from_yaml, to_yaml

Fails = Callable[..., str]


@pytest.fixture
def fails(capsys: pytest.CaptureFixture[str]) -> Fails:
    """`fails(*arguments)`: what `fla` prints when it refuses them."""

    def run(*arguments: Any) -> str:
        assert main([str(argument) for argument in arguments]) == 1
        printed = capsys.readouterr().err
        assert printed.startswith("fla: error: ")
        assert "Traceback" not in printed
        return printed

    return run


def _dataset(path: Path, *, names: tuple[str, ...], camera: str = "front") -> Path:
    """Two rows of a robot."""
    writer = LeRobotWriter(path, robot="planar2", fps=10, state_names=names, action_names=names, cameras=(camera,))
    for value in (0.0, 0.1):
        vector = np.full(len(names), value, np.float32)
        image = np.zeros((64, 64, 3), np.uint8)
        writer.add({f"images/{camera}": image, "state": vector, "task": "reach the red target"}, vector)
    writer.save_episode()
    writer.close()
    return path


def _train(data: Path, *more: Any, embodiment: str = "planar2") -> list[Any]:
    return ["train", "pi05_tiny", "--data", data, "--embodiment", embodiment, "--dry-run", *more]


# --- Names ------------------------------------------------------------------------------------------------------------


def test_unknown_recipe(fails: Fails) -> None:
    assert "unknown recipe 'pi05_tinny'; did you mean 'pi05_tiny'?" in fails("train", "pi05_tinny")


def test_unknown_embodiment(fails: Fails, arms: dict[str, Path]) -> None:
    said = fails(*_train(arms["planar2"], embodiment="planr2"))
    assert "unknown embodiment 'planr2'; did you mean 'planar2'?" in said


def test_unknown_dataset_path(fails: Fails, arms: dict[str, Path]) -> None:
    said = fails(*_train(arms["planar2"].with_name("planar2x")))
    assert "there is no dataset at " in said
    assert f"did you mean '{arms['planar2']}'" in said


def test_a_dataset_of_the_hub_without_its_scheme(fails: Fails) -> None:
    said = fails(*_train(Path("lerobot/pusht")))
    assert "there is no dataset at lerobot/pusht" in said and "is written hf://datasets/lerobot/pusht" in said


def test_a_folder_that_is_no_dataset(fails: Fails, tmp_path: Path) -> None:
    said = fails(*_train(tmp_path))
    assert f"{tmp_path} is in no known dataset format (" in said and "lerobot: LeRobot folder" in said


def test_unknown_model_variant(fails: Fails, arms: dict[str, Path]) -> None:
    said = fails(*_train(arms["planar2"], "--set", "model=pi05/tinny"))
    assert "unknown variant of model 'pi05' 'tinny'; did you mean 'tiny'?" in said


def test_unknown_regularizer_and_tracker(fails: Fails, arms: dict[str, Path]) -> None:
    said = fails(*_train(arms["planar2"], "--set", "regularizers=[{name: l2ps}]"))
    assert "unknown regularizer 'l2ps'; did you mean 'l2sp'?" in said
    said = fails(*_train(arms["planar2"], "--set", "trackers=[json]"))
    assert "unknown tracker 'json'; did you mean 'jsonl'?" in said


def test_unknown_benchmark_and_its_embodiment(fails: Fails, trained: Path, tmp_path: Path) -> None:
    assert "unknown benchmark 'planer'; did you mean 'planar'?" in fails("eval", "planer", "--checkpoint", trained)
    said = fails("eval", "planar", "--checkpoint", trained, "--embodiment", "planar4", "--out", tmp_path)
    assert "unknown embodiment of benchmark 'planar' 'planar4'; did you mean 'planar" in said
    assert "unknown benchmark 'planer'" in fails("record", "planer", "--out", tmp_path / "new")


# --- Data that does not fit -------------------------------------------------------------------------------------------


def test_a_dataset_of_another_width(fails: Fails, arms: dict[str, Path]) -> None:
    said = fails(*_train(arms["planar3"]))
    assert "the state has 3 dimensions in the dataset (joint1, joint2, joint3), 2 in the embodiment" in said


def test_a_dataset_with_other_names(fails: Fails, tmp_path: Path) -> None:
    said = fails(*_train(_dataset(tmp_path / "data", names=("elbow", "shoulder"))))
    assert "are named elbow, shoulder in the dataset, joint1, joint2 in the embodiment" in said


def test_a_dataset_with_another_camera(fails: Fails, tmp_path: Path) -> None:
    said = fails(*_train(_dataset(tmp_path / "data", names=("joint1", "joint2"), camera="side")))
    assert "camera 'front' is missing" in said
    assert "the dataset has observation.images.side" in said


# --- Checkpoints ------------------------------------------------------------------------------------------------------


def test_missing_statistics(fails: Fails, trained: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(checkpoint.find(trained), tmp_path / "40")
    shutil.rmtree(copy / "assets" / "planar2")
    assert "no statistics at" in fails("serve", copy, "--port", 0)


def test_a_checkpoint_made_for_another_model(
    fails: Fails, trained: Path, arms: dict[str, Path], tmp_path: Path
) -> None:
    said = fails(
        "train",
        "pi05_tiny",
        "--data",
        arms["planar2"],
        "--embodiment",
        "planar2",
        "--init",
        trained,
        "--steps",
        1,
        "--out",
        tmp_path / "run",
    )
    assert "(pi05/tiny) does not fit pi05/tiny:" in said
    assert ", pi05/tiny has " in said


def test_a_missing_checkpoint(fails: Fails, tmp_path: Path) -> None:
    assert "there is no checkpoint at" in fails("serve", tmp_path / "nowhere")


def test_a_port_in_use(fails: Fails, arms: dict[str, Path]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        said = fails("serve", arms["planar2"], "--port", port)
    assert f"port {port} on 127.0.0.1 is already in use" in said
    assert "--port" in said


def test_listening_to_the_world_needs_a_token(
    fails: Fails, arms: dict[str, Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("FLA_TOKEN", raising=False)
    assert "--allow-public" in fails("serve", arms["planar2"], "--host", "0.0.0.0", "--port", 0)
    assert "cannot be read: No such file" in fails("serve", arms["planar2"], "--token-file", tmp_path / "none")


# --- Options ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("assignment", "reason"),
    [
        ("stepz=3", "no field 'stepz'; did you mean 'steps'?"),
        ("optimizer.peak_lrr=1e-4", "no field 'peak_lrr'; did you mean 'peak_lr'?"),
        ("optimiser.peak_lr=1e-4", "'optimiser' has no fields"),
        ("model_options.horizn=4", "no field 'horizn'; did you mean 'horizon'?"),
        ("steps=many", "expected int, got 'many'"),
        ("steps", "must be FIELD=VALUE"),
        ("steps=[1", "the value is not YAML"),
        ("batch_size=0", "batch_size is 0, must be at least 1"),
        ("loss_dims=some", "must be 'own' or 'all'"),
    ],
)
def test_assignments_that_make_no_sense(fails: Fails, arms: dict[str, Path], assignment: str, reason: str) -> None:
    assert reason in fails(*_train(arms["planar2"], "--set", assignment))


def test_numbers_are_read_as_numbers(arms: dict[str, Path], capsys: pytest.CaptureFixture[str]) -> None:
    arguments = _train(arms["planar2"], "--set", "optimizer.peak_lr=1e-4", "--set", "ema_decay=null", "--steps", 7)
    assert main(list(map(str, arguments))) == 0
    printed = capsys.readouterr().out.splitlines()
    assert {"  peak_lr: 0.0001", "ema_decay: null", "steps: 7"} <= set(printed)


def test_exponents_are_numbers_in_config_files() -> None:
    """YAML 1.1 would read 1e-4 as text."""
    text = "model: pi05/tiny\noptimizer: {peak_lr: 1e-4, eps: 2.E-9, end_lr: 0.5e-5}\n"
    config = from_yaml(text)
    assert (config.optimizer.peak_lr, config.optimizer.eps, config.optimizer.end_lr) == (1e-4, 2e-9, 5e-6)
    assert from_yaml(to_yaml(config)) == config


def test_sources_and_their_flags_must_match(fails: Fails, arms: dict[str, Path]) -> None:
    data = ["train", "pi05_tiny", "--dry-run", *(word for path in arms.values() for word in ("--data", path))]
    assert "which robot made the data?" in fails(*data)
    three = [word for name in ("planar2", "planar3", "aloha") for word in ("--embodiment", name)]
    assert "2 times --data but 3 times --embodiment" in fails(*data, *three)
    said = fails(*data, "--embodiment", "planar2", "--embodiment", "planar3", "--weight", "1")
    assert "2 times --data but 1 times --weight" in said
    assert "belong to --data" in fails("train", "pi05_tiny", "--embodiment", "planar2")
    assert "no data to train on" in fails("train", "pi05_tiny")


def test_config_files(fails: Fails, tmp_path: Path) -> None:
    assert "there is no config file" in fails("train", tmp_path / "none.yaml")
    (tmp_path / "bad.yaml").write_text("model: [")
    assert "bad.yaml is not YAML" in fails("train", tmp_path / "bad.yaml")
    (tmp_path / "text.yaml").write_text("model: pi05/tiny\noptimizer: {peak_lr: fast}\n")
    assert "optimizer.peak_lr: expected float, got 'fast'" in fails("train", tmp_path / "text.yaml")
    (tmp_path / "typo.yaml").write_text("model: pi05/tiny\nbatchsize: 4\n")
    assert "no field 'batchsize'; did you mean 'batch_size'?" in fails("train", tmp_path / "typo.yaml")


def test_recording_into_a_full_folder(fails: Fails, arms: dict[str, Path]) -> None:
    said = fails("record", "planar", "--episodes", 1, "--out", arms["planar2"])
    assert "exists and is not an empty folder" in said


def test_benchmark_options(fails: Fails, tmp_path: Path) -> None:
    assert "must be NAME=VALUE" in fails("record", "planar", "--out", tmp_path / "new", "--option", "image_size")
