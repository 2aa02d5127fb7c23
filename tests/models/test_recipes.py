"""Every recipe names models, robots and parameter groups that there are."""

import json
from typing import Any

import pytest

import fla_sdk as fla
from fla_sdk.policy import parameters
from fla_sdk.training.preparation import resolve_model

REGISTRY = fla.load_plugins()
RECIPES = {name: recipe.config() for name, recipe in REGISTRY.recipes.items()}
MODELS = {(one.model, json.dumps(one.model_options)): one for one in RECIPES.values()}


@pytest.fixture(scope="module")
def groups() -> dict[tuple[str, str], set[str]]:
    """Of each model: its parameter groups."""
    found: dict[tuple[str, str], set[str]] = {}
    for key, one in MODELS.items():
        family, config = resolve_model(one.model, one.model_options, REGISTRY)
        found[key] = {family.group(path) for path in parameters.abstract(family, config)[1]}
    return found


@pytest.mark.parametrize("name", sorted(RECIPES))
def test_groups_and_robots_exist(name: str, groups: dict[tuple[str, str], Any]) -> None:
    config = RECIPES[name]
    own = groups[config.model, json.dumps(config.model_options)]
    assert set(config.freeze) < own
    assert {group for group in config.init_fresh if "/" not in group} <= own
    assert ("lora" in own) == ("lora" in config.init_fresh)
    assert {source.embodiment for source in config.sources} <= REGISTRY.embodiments.keys()
    assert config.stats.keys() <= {source.embodiment for source in config.sources}
    assert config.optimizer.warmup_steps < config.steps or config.steps <= 1000
