"""Recipes with one's own data and changes, from Python and from the command line."""

from pathlib import Path
from typing import Any

import pytest

import fla_sdk as fla
from fla_sdk.cli.train import configure, resolve
from fla_sdk.errors import ConfigError, UnknownNameError
from fla_sdk.plugins import Registry

REGISTRY = fla.load_plugins()


def from_command_line(*words: str) -> fla.TrainConfig:
    import argparse

    parser = argparse.ArgumentParser()
    configure(parser)
    return resolve(parser.parse_args(words), REGISTRY)


def test_changes_find_their_record() -> None:
    config = fla.recipe(
        "pi05_lora",
        data=["a", "b"],
        embodiment="so101",
        plugins=REGISTRY,
        batch_size=16,
        optimizer={"peak_lr": 1e-4},
        prompt="Hand: {task}",
        action_dim=7,
        init_resize=True,
    )
    given = REGISTRY.recipe("pi05_lora").config()
    assert [(source.data, source.embodiment, source.prompt) for source in config.sources] == [
        ("a", "so101", "Hand: {task}"),
        ("b", "so101", "Hand: {task}"),
    ]
    assert (config.batch_size, config.model_options, config.init_resize) == (16, {"action_dim": 7}, True)
    assert (config.optimizer.peak_lr, config.optimizer.b2) == (1e-4, given.optimizer.b2)
    assert (config.freeze, config.init, config.init_fresh) == (given.freeze, given.init, given.init_fresh)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"batchsize": 1}, r"neither TrainConfig, Source nor Pi0Config has 'batchsize'; did you mean 'batch_size'\?"),
        ({"horizn": 1}, r"did you mean 'horizon'\?"),
        ({"weigth": 1.0}, r"did you mean 'weight'\?"),
        ({"weight": 1.0}, "weight belongs to data"),
        ({"embodiment": "so101"}, "embodiment belongs to data"),
        ({"data": "a"}, r"which robot made the data\? give --embodiment"),
        ({"data": ["a", "b"], "embodiment": ["ur5"] * 3}, "2 times --data but 3 times --embodiment"),
    ],
)
def test_mistakes_are_explained(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        fla.recipe("pi05_lora", plugins=REGISTRY, **changes)


def test_a_recipe_that_does_not_exist() -> None:
    with pytest.raises(UnknownNameError, match="did you mean 'pi05_lora'"):
        fla.recipe("pi05_lroa", plugins=REGISTRY)


def test_weights_that_go_take_with_them_what_was_said_about_them() -> None:
    words = ["pi05_lora", "--data", "ds", "--embodiment", "so101", "--batch-size", "16"]
    assert from_command_line(*words).init_fresh == ("lora",)
    for flag in ("--init", "--init-from"):
        config = from_command_line(*words, flag, "scratch")
        assert (config.init, config.init_fresh, config.batch_size) == ("scratch", (), 16)
    gemma = fla.recipe("pi06_gemma3_lora", plugins=REGISTRY, init="scratch")
    assert (gemma.init_also, gemma.init_fresh) == ((), ())


def test_data_without_a_robot_take_the_places_of_the_recipe_s_own() -> None:
    own = REGISTRY.recipe("pi0_droid_jointpos_polaris").config()
    config = from_command_line(own_name := "pi0_droid_jointpos_polaris", "--data", "/d", "--data", "/p?split=val")
    assert config == fla.recipe(own_name, data=["/d", "/p?split=val"], plugins=REGISTRY)
    assert [source.weight for source in config.sources] == [0.9, 0.1]
    assert {source.embodiment for source in config.sources} == {"droid_jointpos"}
    assert config.sources[0].data == "/d?" + own.sources[0].data.partition("?")[2]
    assert config.sources[1].data == "/p?split=val"
    assert config.stats == own.stats
    with pytest.raises(ConfigError, match=r"has 2 datasets \(<droid 1.0.1>, .*but --data was given 1 times"):
        fla.recipe(own_name, data="/d", plugins=REGISTRY)


def test_statistics_go_with_their_robot() -> None:
    assert fla.recipe("pi05_aloha_pen_uncap", data="x", plugins=REGISTRY).stats.keys() == {"aloha"}
    assert not fla.recipe("pi05_aloha_pen_uncap", data="x", embodiment="so101", plugins=REGISTRY).stats


def test_blanks_are_named_before_anything_else_is_done(registry: Registry, tmp_path: Path) -> None:
    config = fla.recipe("pi06_comprehensive", plugins=registry, out=tmp_path / "run")
    with pytest.raises(ConfigError, match=r"7 of 7 datasets are yours to name: <droid 1\.0\.1>, <fractal.*--data DIR"):
        fla.Trainer(config, plugins=registry)
    assert not (tmp_path / "run").exists()
