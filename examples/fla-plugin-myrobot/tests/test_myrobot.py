"""Run with `pytest` after `pip install -e ".[test]"`."""

from fla_plugin_myrobot import MYROBOT

import fla_sdk as fla
from fla_sdk.testing import check_embodiment


def test_myrobot_keeps_the_promises_of_an_embodiment() -> None:
    check_embodiment(MYROBOT)


def test_myrobot_is_known_once_installed() -> None:
    registry = fla.load_plugins(environment={"FLA_PLUGINS": "myrobot"})
    assert registry.broken == ()
    assert registry.embodiment("myrobot") == MYROBOT
    assert registry.provider("embodiment", "myrobot").distribution == "fla-plugin-myrobot"
