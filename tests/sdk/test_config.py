"""Configs: nothing is coerced, what is wrong is named with its place, YAML gives the same record back."""

import math
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

import fla_sdk as fla
from fla_sdk.config import override, structure, unstructure
from fla_sdk.errors import ConfigError
from fla_sdk.training.config import Optimizer, Penalty, Source, TrainConfig, from_yaml, to_yaml

BASE = TrainConfig(
    model="pi05/tiny",
    model_options={"horizon": 20},
    sources=(Source(data="a", embodiment="planar2"), Source(data="b", embodiment="planar3", weight=0.5)),
    freeze=("vision",),
    regularizers=(Penalty(name="l2sp", strength=0.1),),
    ema_decay=None,
    out=Path("out/here"),
)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"stepps": 7}, "TrainConfig has no field 'stepps'; did you mean 'steps'"),
        ({"optimizer": {"peak_lrr": 1.0}}, "Optimizer has no field 'peak_lrr'; did you mean 'peak_lr'"),
        ({"steps": "7"}, "steps: expected int, got '7'"),
        ({"steps": 7.0}, "steps: expected int, got 7.0"),
        ({"steps": True}, "steps: expected int, got True"),
        ({"model": 7}, "model: expected str, got 7"),
        ({"out": 7}, "out: expected .*, got 7"),
        ({"freeze": "vision"}, "freeze: expected a list, got 'vision'"),
        ({"freeze": ["vision", 7]}, "freeze.*expected str, got 7"),
        ({"trackers": "jsonl"}, "trackers: expected a list, got 'jsonl'"),
        ({"sources": {"data": "a"}}, "sources: expected a list"),
        ({"sources": [{"data": "a", "embodiment": "b", "weight": "1"}]}, "sources.*weight: expected float, got '1'"),
        ({"sources": [{"data": "a"}]}, "sources.*embodiment"),
        ({"optimizer": {"peak_lr": "1e-4"}}, "optimizer.peak_lr: expected float, got '1e-4'"),
        ({"optimizer": 7}, "optimizer: expected the fields of Optimizer, got 7"),
        ({"ema_decay": "no"}, "ema_decay.*'no'"),
        ({"ema_decay": 1.0}, r"ema_decay is 1.0, must be in \[0, 1\) or null"),
        ({"batch_size": 0}, "batch_size is 0, must be at least 1"),
        ({"model": "pi05"}, "model is 'pi05', must be FAMILY/VARIANT"),
        ({"loss_dims": "some"}, "loss_dims is 'some', must be 'own' or 'all'"),
    ],
)
def test_what_is_wrong_is_named_with_its_place(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=f"mine.yaml: .*{message}"):
        structure({"model": "pi05/tiny", **changes}, TrainConfig, where="mine.yaml")


def test_all_mistakes_are_told_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        structure({"model": "pi05/tiny", "steps": "7", "seed": "8"}, TrainConfig)
    assert "steps: " in str(caught.value) and "seed: " in str(caught.value)


def test_a_missing_field_is_named() -> None:
    with pytest.raises(ConfigError, match="model"):
        structure({"steps": 7}, TrainConfig)


def test_integers_are_good_floats() -> None:
    rate = structure({"peak_lr": 1}, Optimizer).peak_lr
    assert rate == 1.0 and isinstance(rate, float)


def test_yaml_round_trip_of_every_recipe() -> None:
    recipes = fla.load_plugins(environment={}).recipes
    assert recipes
    for config in (BASE, *(recipe.config() for recipe in recipes.values())):
        assert from_yaml(to_yaml(config)) == config


@given(
    steps=st.integers(0, 10**6),
    peak=st.floats(1e-8, 1, allow_nan=False),
    decay=st.none() | st.floats(0, 0.9999),
    names=st.lists(st.text(max_size=8), max_size=3),
    weight=st.floats(1e-6, 1e6),
)
def test_yaml_round_trip(steps: int, peak: float, decay: float | None, names: list[str], weight: float) -> None:
    config = TrainConfig(
        model="pi05/tiny",
        steps=steps,
        optimizer=Optimizer(peak_lr=peak),
        ema_decay=decay,
        sources=tuple(Source(data=name, embodiment=name, weight=weight) for name in names),
    )
    assert from_yaml(to_yaml(config)) == config


@pytest.mark.parametrize("text", ["", "7", "- a", "steps: [", "a: b: c"])
def test_text_that_is_no_config(text: str) -> None:
    with pytest.raises(ConfigError, match=r"mine\.yaml"):
        from_yaml(text, where="mine.yaml")


def test_plain_values_are_plain() -> None:
    tree = unstructure(BASE)
    assert yaml.safe_load(yaml.safe_dump(tree)) == tree
    assert tree["out"] == "out/here"
    assert tree["sources"][1].items() >= {"data": "b", "embodiment": "planar3", "weight": 0.5}.items()


def test_override_by_path_and_by_tree() -> None:
    changed = override(BASE, {"optimizer.peak_lr": 1e-3, "steps": 5, "model_options.width": 8, "ema_decay": 0.5})
    assert (changed.optimizer.peak_lr, changed.steps, changed.ema_decay) == (1e-3, 5, 0.5)
    assert changed.model_options == {"horizon": 20, "width": 8}
    assert math.isclose(changed.optimizer.b2, BASE.optimizer.b2)
    nested = override(BASE, {"optimizer": {"peak_lr": 1e-3}})
    assert nested.optimizer == override(BASE, {"optimizer.peak_lr": 1e-3}).optimizer
    assert override(BASE, {}) == BASE


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"optimiser.peak_lr": 1.0}, r"'optimiser.peak_lr': 'optimiser' has no fields \(known here: .*optimizer"),
        ({"optimizer.peaklr": 1.0}, "no field 'peaklr'; did you mean 'peak_lr'"),
        ({"steps.more": 1}, "'steps' has no fields"),
        ({"steps": "7"}, "expected int, got '7'"),
        ({"optimizer.warmup_steps": 10**6}, r"warmup_steps \(1000000\) must be below decay_steps \(30000\)"),
    ],
)
def test_wrong_overrides_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=f"--set: .*{message}"):
        override(BASE, changes, where="--set")


def test_options_of_something_else_keep_their_dots() -> None:
    from fla_models.configs import variants
    from fla_sdk.training.config import TrainConfig

    changes = {"model_options.language.lora_attention": {"rank": 8, "alpha": 8}, "model_options.horizon": 20}
    config = override(TrainConfig(model="pi05/base_lora"), changes)
    model = override(variants(pi05=True)["base_lora"], config.model_options)
    assert model.language.lora_attention is not None and model.language.lora_attention.rank == 8
    assert model.horizon == 20
