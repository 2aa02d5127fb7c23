"""FLA_PLUGINS, FLA_PLUGINS_BLOCK and FLA_STRICT_PLUGINS."""

from collections.abc import Callable, Mapping

import pytest

from fla_sdk.errors import PluginError, UnknownNameError
from fla_sdk.plugins import load_plugins

Install = Callable[..., str]

ROBOT = "@fla.hookimpl\ndef fla_embodiments():\n    yield robot({!r})"


def loaded(environment: Mapping[str, str]) -> set[str]:
    return {info.name for info in load_plugins(environment=environment).plugins}


def test_which_plugins_are_loaded(install: Install) -> None:
    install("one", ROBOT.format("arm1"))
    install("two", ROBOT.format("arm2"))
    everything = loaded({})
    assert {"one", "two", "aloha", "models"} <= everything
    assert loaded({"FLA_PLUGINS": ""}) == set()
    assert loaded({"FLA_PLUGINS": "one, aloha,"}) == {"one", "aloha"}
    assert loaded({"FLA_PLUGINS_BLOCK": "one"}) == everything - {"one"}
    assert loaded({"FLA_PLUGINS": "one,two", "FLA_PLUGINS_BLOCK": "two"}) == {"one"}


def test_blocked_plugins_are_not_even_imported(install: Install) -> None:
    install("harmful", "raise RuntimeError('imported')")
    assert load_plugins(environment={"FLA_PLUGINS_BLOCK": "harmful"}).broken == ()
    assert load_plugins(environment={"FLA_PLUGINS": "aloha"}).broken == ()


@pytest.mark.parametrize("variable", ["FLA_PLUGINS", "FLA_PLUGINS_BLOCK"])
def test_a_misspelt_plugin_is_an_error(install: Install, variable: str) -> None:
    install("myrobot", "")
    with pytest.raises(UnknownNameError, match="'myrobott'; did you mean 'myrobot'"):
        load_plugins(environment={variable: "myrobott"})


def test_strict_raises_at_once(install: Install) -> None:
    install("broken", "raise RuntimeError('boom')")
    assert load_plugins(environment={"FLA_STRICT_PLUGINS": "0"}).broken
    with pytest.raises(RuntimeError, match="boom"):
        load_plugins(environment={"FLA_STRICT_PLUGINS": "1"})


def test_strict_names_the_plugin_that_breaks_its_contract(install: Install) -> None:
    install("broken", "@fla.hookimpl\ndef fla_embodiments():\n    yield 7")
    with pytest.raises(PluginError, match=r"plugin 'broken' of fla-plugin-broken 1\.0: fla_embodiments yielded 7"):
        load_plugins(environment={"FLA_STRICT_PLUGINS": "1"})


def test_the_environment_is_read_when_loading(install: Install, monkeypatch: pytest.MonkeyPatch) -> None:
    install("one", ROBOT.format("arm1"))
    monkeypatch.setenv("FLA_PLUGINS", "one")
    assert [info.name for info in load_plugins().plugins] == ["one"]
