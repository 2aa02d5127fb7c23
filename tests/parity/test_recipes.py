"""Recipes that have openpi's names have openpi's hyperparameters."""

from typing import Any

import attrs
import pytest

import fla_sdk as fla
from fla_models import parameters
from fla_models.configs import GEMMA_2B, GEMMA_300M, GEMMA_DUMMY, GemmaConfig, LoraConfig
from fla_models.recipes import openpi
from fla_sdk.training.preparation import resolve_model

REGISTRY = fla.load_plugins(environment={})
NAMES = sorted(recipe.name for recipe in openpi.recipes())

SERVED = "openpi serves checkpoints with it and does not train it; so does `fla serve`"
BROKEN = "in openpi it raises TypeError when its data are made"
WITHOUT = {
    "pi0_aloha": SERVED,
    "pi05_aloha": SERVED,
    "pi0_aloha_towel": SERVED,
    "pi0_aloha_tupperware": SERVED,
    "pi0_droid": SERVED,
    "pi0_fast_droid": SERVED,
    "paligemma_binning_droid_jointpos": SERVED,
    "debug_restore": "`debug` with --init",
    "paligemma_binning_droid": BROKEN,
    "paligemma_fast_droid": BROKEN,
    "paligemma_fast_specialist_droid": BROKEN,
    "paligemma_vq_droid": BROKEN,
    "paligemma_diffusion_droid": BROKEN,
}
"""openpi's configs that have no recipe, and why."""


def with_adapters(config: GemmaConfig, rank: int) -> GemmaConfig:
    lora = LoraConfig(rank=rank, alpha=float(rank))
    return attrs.evolve(config, lora_attention=lora, lora_mlp=lora)


EXPERTS = {
    "gemma_2b": GEMMA_2B,
    "gemma_2b_lora": with_adapters(GEMMA_2B, 16),
    "gemma_300m": GEMMA_300M,
    "gemma_300m_lora": with_adapters(GEMMA_300M, 32),
    "dummy": GEMMA_DUMMY,
}


@pytest.fixture
def recorded(golden: Any, request: pytest.FixtureRequest) -> Any:
    return golden.json("train_configs")[request.param]


each = pytest.mark.parametrize(("recorded", "name"), [(name, name) for name in NAMES], indirect=["recorded"])


def test_every_config_has_a_recipe_or_a_reason_not_to(golden: Any) -> None:
    assert set(golden.json("train_configs")) <= {*NAMES, *WITHOUT}
    assert not WITHOUT.keys() & REGISTRY.recipes.keys()


@each
def test_models(recorded: Any, name: str) -> None:
    config = REGISTRY.recipe(name).config()
    family, model = resolve_model(config.model, config.model_options, REGISTRY)
    theirs = recorded["model"]
    assert family.name == recorded["model_type"]
    # Pi0-FAST pads nothing to its width, which only has to hold LIBERO's state of 8 beside its actions of 7.
    assert model.action_dim == (8 if name.startswith("pi0_fast_libero") else theirs["action_dim"])
    assert model.horizon == theirs["action_horizon"]
    assert (model.max_tokens, model.dtype) == (theirs["max_token_len"], theirs["dtype"])
    assert model.language == EXPERTS[theirs["paligemma_variant"]]
    if family.name == "pi0_fast":
        assert theirs["fast_model_tokenizer"] is None
        assert model.action_tokenizer == "physical-intelligence/fast"
    else:
        assert model.expert == EXPERTS[theirs["action_expert_variant"]]
        assert family.spec(model).prompt_style == ("pi05" if theirs["discrete_state_input"] else "pi0")
    assert set(config.freeze) == (parameters.frozen_by_lora(model) if recorded["has_freeze_filter"] else set())
    assert config.loss_dims == "all"


@each
def test_training(recorded: Any, name: str, golden: Any) -> None:
    config = REGISTRY.recipe(name).config()
    assert config.optimizer == golden.optimizer(recorded["lr_schedule"][1], recorded["optimizer"][1])
    for ours, theirs in (
        ("ema_decay", "ema_decay"),
        ("batch_size", "batch_size"),
        ("steps", "num_train_steps"),
        ("save_every", "save_interval"),
        ("keep_period", "keep_period"),
        ("seed", "seed"),
        ("fsdp_devices", "fsdp_devices"),
    ):
        assert getattr(config, ours) == recorded[theirs], ours
    if name == "pi05_droid":  # served by openpi; trained by us, from what is served
        assert recorded["params_path"] is None
        assert config.init.endswith("/pi05_droid")
    else:
        assert config.init == (recorded["params_path"] or "scratch").removesuffix("/params")


@each
def test_data(recorded: Any, name: str) -> None:
    recipe, theirs = REGISTRY.recipe(name), recorded["data"]
    config = recipe.config()
    if recorded["data_factory"] == "FakeDataConfig":
        assert not config.sources
        return
    robots = {source.embodiment for source in config.sources}
    assert len(robots) == 1
    robot = REGISTRY.embodiment(robots.pop())
    assert {source.prompt for source in config.sources} == {theirs.get("default_prompt") or "{task}"}
    if recorded["data_factory"] in ("LeRobotLiberoDataConfig", "LeRobotAlohaDataConfig"):
        assert [source.data for source in config.sources] == [f"hf://datasets/{theirs['repo_id']}"]
    else:
        assert all(source.blank for source in config.sources)
    if (assets := theirs["assets_dir"]) is not None:
        place = f"{assets.rstrip('/').removesuffix('/assets')}#{theirs['asset_id']}"
        assert config.stats == {robot.name: place}
    elif name != "pi05_droid":
        assert not config.stats
    # What no description of a robot says is said in words.
    assert ("extra_delta_transform" in recipe.notes) == theirs.get("extra_delta_transform", False)
    relative = next(field.predict for field in robot.action) == "relative"
    if (wanted := theirs.get("use_delta_joint_actions")) is not None:
        assert relative == wanted
        assert (robot.conversion is None) == ("base model's" in recipe.notes)
    assert ("exterior" in recipe.notes) == (recorded["data_factory"] == "RLDSDroidDataConfig")
