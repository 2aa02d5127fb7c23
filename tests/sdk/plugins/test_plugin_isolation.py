"""A broken plugin is named in one line with its reason, and the others work."""

from collections.abc import Callable

import pytest

from fla_sdk.errors import PluginError, UnknownNameError
from fla_sdk.plugins import Registry, load_plugins

Install = Callable[..., str]

GOOD = """
@fla.hookimpl
def fla_embodiments():
    yield robot("goodarm")
"""

BROKEN = {
    "raises at import": (
        "import not_installed_anywhere",
        "ModuleNotFoundError: No module named 'not_installed_anywhere'",
    ),
    "exits at import": ("raise SystemExit(3)", "SystemExit: 3"),
    "is no Python": ("def (", "SyntaxError"),
    "misspells a hook": (
        "@fla.hookimpl\ndef fla_embodimets():\n    yield robot('badarm')",
        "unknown hook 'fla_embodimets'; did you mean 'fla_embodiments'?",
    ),
    "takes an unknown argument": (
        "@fla.hookimpl\ndef fla_step_ended(step, stepp):\n    pass",
        "Argument(s) {'stepp'} are declared in the hookimpl but can not be found in the hookspec",
    ),
    "yields garbage": (
        "@fla.hookimpl\ndef fla_embodiments():\n    yield robot('badarm')\n    yield {'name': 'worse'}",
        "fla_embodiments yielded {'name': 'worse'}; it must yield Embodiment records",
    ),
    "returns garbage": (
        "@fla.hookimpl\ndef fla_embodiments():\n    return 7",
        "fla_embodiments returned 7; it must yield records",
    ),
    "yields another hook's record": (
        "@fla.hookimpl\ndef fla_recipes():\n    yield robot('badarm')",
        "it must yield Recipe records",
    ),
    "gives an argument a default": (
        "@fla.hookimpl\ndef fla_step_ended(step, metrics=None):\n    pass",
        "fla_step_ended gives 'metrics' a default value",
    ),
    "wraps the others": (
        "@fla.hookimpl(wrapper=True)\ndef fla_step_ended(step):\n    return (yield)",
        "fla_step_ended is a hook wrapper",
    ),
    "raises midway": (
        "@fla.hookimpl\ndef fla_embodiments():\n    yield robot('badarm')\n    raise TypeError('of the second robot')",
        "TypeError: of the second robot",
    ),
    "describes a robot that contradicts itself": (
        "@fla.hookimpl\ndef fla_embodiments():\n    yield robot('a b')",
        "embodiment 'a b': the name must be letters, digits, '_' or '-'",
    ),
    "yields a name twice": (
        "@fla.hookimpl\ndef fla_embodiments():\n    yield robot('badarm')\n    yield robot('badarm')",
        "fla_embodiments yielded embodiment 'badarm' twice",
    ),
}


@pytest.mark.parametrize(("source", "reason"), BROKEN.values(), ids=list(BROKEN))
def test_a_broken_plugin_is_named_and_the_rest_works(install: Install, source: str, reason: str) -> None:
    install("badarm", source, version="2.3")
    install("goodarm", GOOD)
    install("zlast", "@fla.hookimpl\ndef fla_embodiments():\n    yield robot('lastarm')")
    registry = load_plugins(environment={})
    (broken,) = registry.broken
    assert (broken.name, broken.distribution, broken.version) == ("badarm", "fla-plugin-badarm", "2.3")
    assert broken.error is not None
    assert reason in broken.error
    assert str(broken) == f"plugin 'badarm' of fla-plugin-badarm 2.3: {broken.error}"
    assert "\n" not in str(broken)
    assert registry.embodiment("goodarm").name == "goodarm"
    assert registry.embodiment("lastarm").name == "lastarm"
    assert registry.embodiment("aloha").name == "aloha"
    with pytest.raises(UnknownNameError, match="badarm") as caught:
        registry.embodiment("badarm")
    assert broken.error in str(caught.value), "asking for what it would provide gives the stored reason"


def test_nothing_of_a_broken_plugin_stays(install: Install) -> None:
    """Neither its first records nor its events."""
    source = """
@fla.hookimpl
def fla_train_ended(step, reason):
    raise RuntimeError("must not be called")

@fla.hookimpl
def fla_embodiments():
    yield robot("firstarm")
    raise RuntimeError("second")
"""
    install("badarm", source)
    registry = load_plugins(environment={})
    assert "firstarm" not in registry.embodiments
    registry.train_ended(step=1, reason="finished")


def test_duplicate_names_are_refused_and_name_both(install: Install) -> None:
    install("first", GOOD, version="1.5")
    install("second", GOOD, version="2.5")
    registry = load_plugins(environment={})
    (broken,) = registry.broken
    assert broken.error is not None
    for part in (
        "embodiment 'goodarm' is already provided by fla-plugin-first 1.5, and again by fla-plugin-second 2.5",
        "FLA_PLUGINS_BLOCK=first or =second",
    ):
        assert part in broken.error
    assert registry.provider("embodiment", "goodarm").distribution == "fla-plugin-first"
    chosen = load_plugins(environment={"FLA_PLUGINS_BLOCK": "first"})
    assert chosen.broken == ()
    assert chosen.provider("embodiment", "goodarm").distribution == "fla-plugin-second"


def test_entry_points_of_one_name_are_refused_and_name_both(install: Install) -> None:
    install("myrobot", GOOD, distribution="fla-plugin-myrobot")
    install("myrobot", "", distribution="fla-plugin-myrobot-fork")
    registry = load_plugins(environment={})
    (broken,) = registry.broken
    (kept,) = (info for info in registry.plugins if info.name == "myrobot" and not info.error)
    assert {kept.distribution, broken.distribution} == {"fla-plugin-myrobot", "fla-plugin-myrobot-fork"}
    assert broken.error == f"a plugin called 'myrobot' is already loaded from {kept.distribution} 1.0"


def test_unknown_names_offer_the_nearest(install: Install) -> None:
    install("goodarm", GOOD)
    with pytest.raises(UnknownNameError, match=r"embodiment 'godarm'; did you mean 'goodarm'\? \(known: .*aloha"):
        load_plugins(environment={}).embodiment("godarm")


def test_a_plugin_in_this_process_raises_at_once() -> None:
    class Plugin:
        pass

    registry = Registry()
    registry.add(Plugin(), name="mine")
    with pytest.raises(PluginError, match="plugin 'mine' of this process -: a plugin called 'mine' is already loaded"):
        registry.add(Plugin(), name="mine")
