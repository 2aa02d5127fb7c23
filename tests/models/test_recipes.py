"""Every recipe names models, robots and parameter groups that there are, and that go together."""

import json
from fnmatch import fnmatchcase

import pytest

import fla_sdk as fla
from fla_sdk.codec import check_fit
from fla_sdk.policy import parameters
from fla_sdk.training.preparation import resolve_model

REGISTRY = fla.load_plugins()
RECIPES = {name: recipe.config() for name, recipe in REGISTRY.recipes.items()}
MODELS = {(one.model, json.dumps(one.model_options)): one for one in RECIPES.values()}
Groups = dict[tuple[str, str], dict[str, str]]


@pytest.fixture(scope="module")
def groups() -> Groups:
    """Of each model: its parameters and their groups."""
    found: Groups = {}
    for key, one in MODELS.items():
        family, config = resolve_model(one.model, one.model_options, REGISTRY)
        found[key] = {path: family.group(path) for path in parameters.abstract(family, config)[1]}
    return found


@pytest.mark.parametrize("name", sorted(RECIPES))
def test_groups_exist_and_nothing_that_begins_anew_is_frozen(name: str, groups: Groups) -> None:
    config = RECIPES[name]
    own = groups[config.model, json.dumps(config.model_options)]
    assert set(config.freeze) < set(own.values())
    assert ("lora" in own.values()) == ("lora" in config.init_fresh)
    for fresh in config.init_fresh:
        begun = {group for path, group in own.items() if group == fresh or fnmatchcase(path, fresh)}
        assert begun
        assert not begun & set(config.freeze)


@pytest.mark.parametrize("name", sorted(name for name, config in RECIPES.items() if config.sources))
def test_robots_fit_the_model(name: str) -> None:
    config = RECIPES[name]
    family, model = resolve_model(config.model, config.model_options, REGISTRY)
    for source in config.sources:
        check_fit(REGISTRY.embodiment(source.embodiment), family.spec(model))
    assert config.stats.keys() <= {source.embodiment for source in config.sources}
