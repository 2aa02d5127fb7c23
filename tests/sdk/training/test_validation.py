"""What is held out is measured the same way each time, in each joint's unit; and the best checkpoint stays."""

import json
from collections.abc import Callable
from typing import Any

import attrs
import numpy as np
import pytest

from fla_sdk.policy import checkpoint, parameters
from fla_sdk.training.config import TrainConfig
from fla_sdk.training.preparation import Preparation, prepare
from fla_sdk.training.trainer import Trainer
from fla_sdk.training.validation import Validation


def _holding_out(config: TrainConfig) -> TrainConfig:
    return attrs.evolve(config, sources=[attrs.evolve(source, hold_out=0.34) for source in config.sources])


@pytest.fixture(scope="module")
def config(small_run: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> TrainConfig:
    out = tmp_path_factory.mktemp("validation") / "run"
    return _holding_out(small_run(out, steps=9, save_every=3, keep_last=1, keep_period=6, validate_batches=2))


@pytest.fixture(scope="module")
def prepared(config: TrainConfig, registry: Any) -> Preparation:
    return prepare(config, registry)


def test_nothing_that_is_held_out_is_trained_on(prepared: Preparation) -> None:
    assert len(prepared.parts) == len(prepared.held_out) == 2
    for part, held in zip(prepared.parts, prepared.held_out, strict=True):
        trained, kept = set(part.demonstrations.episodes.tolist()), set(held.demonstrations.episodes.tolist())
        assert not trained & kept
        assert trained | kept == {0, 1, 2}
        assert held.codec is part.codec


def test_the_same_parameters_give_the_same_numbers(config: TrainConfig, prepared: Preparation) -> None:
    graph, flat = parameters.initialise(lambda: prepared.family.build(prepared.model_config, 0))
    first, second = (Validation(prepared.held_out, config, graph).measure(flat) for _ in range(2))
    assert first == second
    changed = {path: leaf * 1.1 for path, leaf in flat.items()}
    assert Validation(prepared.held_out, config, graph).measure(changed)["held_out/loss"] != first["held_out/loss"]


def test_errors_are_those_of_decoded_chunks(config: TrainConfig, prepared: Preparation) -> None:
    """Half of the mean over both robots' samples; an arm that is told to do what it does has none."""
    graph, flat = parameters.initialise(lambda: prepared.family.build(prepared.model_config, 0))
    validation = Validation(prepared.held_out, config, graph)
    report = validation.measure(flat)
    for part in prepared.held_out:
        robot = part.demonstrations.embodiment
        chunks = validation.chunks[robot.name]
        expected = np.concatenate([np.abs(chunk.predicted - chunk.shown) for chunk in chunks]).mean(axis=0)
        found = [report[f"held_out/error/{robot.name}/{name}"] for name in robot.action.names]
        np.testing.assert_allclose(found, expected)
        shown = np.concatenate([chunk.shown for chunk in chunks])
        assert {tuple(row) for row in shown.tolist()} <= {tuple(row) for row in part.demonstrations.actions.tolist()}


def test_the_best_checkpoint_and_periodic_ones_stay(config: TrainConfig, registry: Any) -> None:
    Trainer(config, plugins=registry).fit()
    lines = [json.loads(line) for line in (config.out / "metrics.jsonl").read_text().splitlines()]
    losses = {line["step"]: line["held_out/loss"] for line in lines if "held_out/loss" in line}
    assert list(losses) == [3, 6, 9]
    pictures = {
        str(file.relative_to(config.out / "images" / "held_out")) for file in config.out.rglob("held_out/*/*.png")
    }
    assert pictures == {f"{robot}/{step:06}.png" for robot in ("planar2", "planar3") for step in losses}
    best = min(losses, key=lambda step: losses[step])
    folder = config.out / "checkpoints"
    assert checkpoint.best(folder) == best
    assert checkpoint.steps(folder) == sorted({best, 6, 9})
