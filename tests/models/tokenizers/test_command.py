"""`fla tokenizer` on a recorded dataset, and its measurement on a robot with relative actions."""

import json
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

import fla_sdk as fla
from fla_models.tokenizers import FastTokenizer, command
from fla_sdk.cli import main
from fla_sdk.codec import Codec
from fla_sdk.data import statistics
from fla_sdk.data.demonstrations import Demonstrations
from fla_sdk.errors import DataError
from fla_sdk.model import ModelSpec
from fla_sdk.plugins import Registry, load_plugins
from fla_sdk.testing import CharacterTokenizer, MemoryDataset

REGISTRY: Registry = load_plugins(environment={})


@pytest.fixture(scope="module")
def swings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twenty episodes of a two-jointed arm that swings, on disk."""
    path = tmp_path_factory.mktemp("data") / "swings"
    robot = REGISTRY.embodiment("planar2")
    create = REGISTRY.dataset_format("lerobot").create
    assert create is not None
    names = {"state_names": robot.state.names, "action_names": robot.action.names}
    writer = create(path, robot=robot.name, fps=robot.control_hz, cameras=("front",), **names)
    rng = np.random.default_rng(0)
    for _ in range(20):
        swing = np.sin(np.linspace(0, 4, 12)[:, None] + rng.random(2)).astype(np.float32)
        for now, target in pairwise(swing):
            image = np.zeros((8, 8, 3), np.uint8)
            writer.add({"state": now, "images/front": image, "task": "swing"}, target)
        writer.save_episode()
    writer.close()
    return path


def test_fit_and_show(swings: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "fast"
    options = ["--horizon", "6", "--vocab-size", "300", "--scale", "20"]
    assert (
        main(["tokenizer", "fit", "--data", str(swings), "--embodiment", "planar2", "--out", str(out), *options]) == 0
    )
    printed = capsys.readouterr().out
    assert "fitted on 198 chunks, measured on 22 of other episodes" in printed  # 20 episodes of 11 moments
    mean, most = (float(x) for x in printed.split("tokens per chunk: ")[1].split(" at most")[0].split(" on average, "))
    assert 1 <= mean <= most <= 12
    assert "at most, for 12 values" in printed
    lines = {line.split()[0]: line.split()[1:] for line in printed.splitlines() if line.startswith("  joint")}
    assert {name: line[-1] for name, line in lines.items()} == {"joint1": "rad", "joint2": "rad"}
    for line in lines.values():
        # Half a step in each of 6 coefficients, in a range of -1 to 1.
        assert 0 < float(line[0]) <= float(line[1]) <= 0.5 / 20 * np.sqrt(6)
    described = printed.splitlines()[0]
    assert "scale 20" in described and described.endswith("fitted on chunks of 6 steps of 2 values")
    assert main(["tokenizer", "show", str(out)]) == 0
    assert capsys.readouterr().out.strip() == described
    assert json.loads((out / "processor_config.json").read_text())["scale"] == 20
    assert FastTokenizer.load(out).encode(np.zeros((6, 2)))


def test_what_is_refused(swings: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = ["tokenizer", "fit", "--data", str(swings), "--embodiment", "planar2"]
    assert main([*given, "--out", str(swings)]) == 1
    assert f"{swings} exists already; give the name of a new folder" in capsys.readouterr().err
    assert main([*given, "--out", str(tmp_path / "a"), "--horizon", "0"]) == 1
    assert "--horizon must be at least 1, not 0" in capsys.readouterr().err
    assert main([*given, "--out", str(tmp_path / "a"), "--vocab-size", "9"]) == 1
    assert "a vocab_size of 9 has no room for the 256 bytes" in capsys.readouterr().err
    assert not (tmp_path / "a").exists()
    assert main(["tokenizer", "show", str(tmp_path)]) == 1
    assert "holds no FAST tokenizer" in capsys.readouterr().err


@pytest.mark.parametrize("lengths", [[500], [40, 40, 40], [9] * 12])
def test_too_little_data_is_refused(lengths: list[int]) -> None:
    """Of a single episode nothing is left to fit on when it is kept to measure on."""
    robot = REGISTRY.embodiment("planar2")
    demonstrations = Demonstrations(MemoryDataset.of(robot, lengths=lengths), robot, horizon=4)
    with pytest.raises(DataError, match="chunks to fit on are too few"):
        command.split(demonstrations)


def test_no_episode_is_fitted_on_and_measured() -> None:
    robot = REGISTRY.embodiment("planar2")
    data = MemoryDataset.of(robot, lengths=[13] * 25)
    fitting, others = command.split(Demonstrations(data, robot, horizon=4))
    assert set(others // 13) == {9, 19}
    assert set(fitting // 13) == set(range(25)) - {9, 19}


def test_errors_are_in_the_units_of_a_robot_with_relative_actions() -> None:
    """ALOHA's joints are predicted relative to the state and its grippers converted."""
    robot: fla.Embodiment = REGISTRY.embodiment("aloha")
    demonstrations = Demonstrations(MemoryDataset.of(robot, lengths=[24]), robot, horizon=5)
    spec = ModelSpec(image_slots=("base_0_rgb", "left_wrist_0_rgb", "right_wrist_0_rgb"), horizon=5)
    stats = statistics.compute([demonstrations])
    codec = Codec(embodiment=robot, spec=spec, stats=stats, tokenizer=CharacterTokenizer())
    rows = np.arange(20)
    windows = [demonstrations.window(row)[0] for row in range(20)]
    chunks = [
        codec.encode_actions(demonstrations.actions[window], demonstrations.states[row])[:, : robot.action.width]
        for row, window in zip(rows, windows, strict=True)
    ]
    tokenizer = FastTokenizer.fit(chunks, scale=1000, vocab_size=256)
    measured = command.measure(tokenizer, demonstrations, codec, rows)
    assert measured.values == 5 * 14
    assert measured.tokens.shape == (20,) and measured.tokens.min() >= 70
    assert measured.errors.shape == (20, 5, 14)
    assert measured.names == robot.action.names and measured.units[0] == "rad"
    span = np.subtract(stats.actions.q99, stats.actions.q01)  # type: ignore[arg-type]
    assert (measured.errors.max(axis=(0, 1)) <= 0.5 / 1000 * np.sqrt(5) * span).all()
    assert measured.errors.max() > 0
