"""Events reach every plugin, choices stop at the first answer, and every hook has its typed method."""

import inspect
import typing
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import fla_sdk as fla
from fla_sdk import hookspecs
from fla_sdk.errors import DataError, PluginError
from fla_sdk.plugins import REGISTRATIONS, Registry

HOOKS = {name: getattr(hookspecs, name) for name in dir(hookspecs) if hasattr(getattr(hookspecs, name), "fla_spec")}
EVENTS = ("fla_train_started", "fla_step_ended", "fla_checkpoint_saved", "fla_train_ended", "fla_policy_called")
CHOICES = ("fla_open_dataset", "fla_open_checkpoint")


class Listener:
    """Notes the ends of trainings."""

    def __init__(self, calls: list[str], name: str, error: Exception | None = None) -> None:
        self.calls, self.name, self.error = calls, name, error

    @fla.hookimpl
    def fla_train_ended(self, reason: str) -> None:
        self.calls.append(f"{self.name} {reason}")
        if self.error:
            raise self.error


def test_events_reach_every_plugin() -> None:
    calls: list[str] = []
    registry = Registry()
    for name in ("one", "two", "three"):
        registry.add(Listener(calls, name), name=name)
    registry.train_ended(step=7, reason="finished")
    assert sorted(calls) == ["one finished", "three finished", "two finished"]


@pytest.mark.parametrize(
    ("error", "reason"),
    [(ValueError("no space\nleft"), "ValueError: no space left"), (DataError("damaged"), "damaged")],
)
def test_a_failing_event_names_its_plugin(error: Exception, reason: str) -> None:
    calls: list[str] = []
    registry = Registry()
    registry.add(Listener(calls, "good"), name="good")
    registry.add(Listener(calls, "bad", error), name="bad")
    with pytest.raises(PluginError) as caught:
        registry.train_ended(step=7, reason="failed")
    assert str(caught.value) == f"plugin 'bad' failed in fla_train_ended: {reason}"
    assert caught.value.__cause__ is error


class Opener:
    """Answers one URI."""

    def __init__(self, uri: str, answer: Any) -> None:
        self.uri, self.answer, self.asked = uri, answer, 0

    @fla.hookimpl
    def fla_open_dataset(self, uri: str) -> Any:
        self.asked += 1
        return self.answer if uri == self.uri else None


def test_choices_stop_at_the_first_answer() -> None:
    registry = Registry()
    never, second, first = Opener("mine:1", "never"), Opener("mine:1", "second"), Opener("mine:2", "first")
    for name, plugin in (("never", never), ("second", second), ("first", first)):
        registry.add(plugin, name=name)
    assert registry.open_dataset("mine:1") == "second"
    assert (first.asked, second.asked, never.asked) == (1, 1, 0)
    assert registry.open_dataset("somebody's") is None
    assert registry.open_checkpoint(Path("anywhere")) is None


def test_every_hook_belongs_to_a_family() -> None:
    assert set(HOOKS) == {*REGISTRATIONS, *EVENTS, *CHOICES}
    assert {name for name, hook in HOOKS.items() if hook.fla_spec["firstresult"]} == set(CHOICES)
    for name, hook in HOOKS.items():
        assert inspect.getdoc(hook), f"{name} has no contract"


@pytest.mark.parametrize("hook", REGISTRATIONS)
def test_every_registration_has_a_typed_property_and_lookup(hook: str) -> None:
    kind, record = REGISTRATIONS[hook]
    listing = getattr(Registry, hook.removeprefix("fla_"))
    assert isinstance(listing, property)
    assert typing.get_type_hints(listing.fget, _names())["return"] == dict[str, record]
    assert listing.fget is not None
    assert listing.fget(Registry()) == {}
    with pytest.raises(fla.FlaError, match=f"unknown {kind} 'nothing'"):
        Registry().provider(kind, "nothing")


@pytest.mark.parametrize("hook", [*EVENTS, *CHOICES])
def test_every_event_and_choice_has_a_method_with_its_arguments(hook: str) -> None:
    method: Callable[..., Any] = getattr(Registry, hook.removeprefix("fla_"))
    wanted = inspect.signature(HOOKS[hook])
    offered = inspect.signature(method)
    given = {name: p for name, p in wanted.parameters.items() if name != "registry"}  # which is what is being asked
    assert list(given) == list(offered.parameters)[1:]
    for name, parameter in given.items():
        assert parameter.annotation == offered.parameters[name].annotation, f"{hook} {name}"
    assert str(wanted.return_annotation) == str(offered.return_annotation)


def _names() -> dict[str, Any]:
    from fla_sdk import records

    return {**vars(records), "Embodiment": fla.Embodiment}
