"""A run goes on and writes checkpoints, while its robots are served."""

import shutil
import signal
import time
import urllib.request
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import attrs
import numpy as np
import pytest

from fla_sdk.client import PolicyClient
from fla_sdk.embodiment import Embodiment
from fla_sdk.errors import ConfigError
from fla_sdk.serving.reload import check_replacement
from fla_sdk.serving.served_policy import ServedPolicy
from fla_sdk.space import Space, joints

LIMIT_S = 300


def _metric(server: Any, name: str) -> int:
    with urllib.request.urlopen(server.url.replace("ws", "http") + "/metrics", timeout=LIMIT_S) as response:
        lines = response.read().decode().splitlines()
    return next((int(line.rsplit(" ", 1)[1]) for line in lines if line.startswith(name + " ")), 0)


def _wait_for(what: Callable[[], bool]) -> None:
    until_s = time.monotonic() + LIMIT_S
    while not what():
        assert time.monotonic() < until_s
        time.sleep(0.05)


def test_newer_checkpoints_are_served_and_broken_ones_are_not(
    trained: Path, tmp_path: Path, fla_serve: Callable[..., Any], registry: Any
) -> None:
    run = tmp_path / "run"
    shutil.copytree(trained, run)
    newer = shutil.move(run / "checkpoints" / "40", tmp_path / "40")
    server = fla_serve(run, "--watch")
    observation = registry.embodiment("planar2").example_observation()
    done, failed = (f'fla_reloads_total{{result="{result}"}}' for result in ("done", "failed"))
    with PolicyClient(server.url, embodiment="planar2") as robot:
        before = robot.infer(observation)["actions"]
        shutil.move(newer, run / "checkpoints" / "40")
        _wait_for(lambda: _metric(server, done) == 1)
        after = robot.infer(observation)["actions"]
        assert np.abs(after - before).max() > 0.01
        (tmp_path / "60").mkdir()
        (tmp_path / "60" / "fla.json").write_text("{")
        shutil.move(tmp_path / "60", run / "checkpoints" / "60")
        _wait_for(lambda: _metric(server, failed) == 1)
        assert robot.infer(observation)["actions"].shape == after.shape
        shutil.rmtree(run / "checkpoints" / "60")
        assert (_metric(server, done), _metric(server, "fla_connections_total")) == (1, 1)
    assert "fla.json is damaged" in server.stderr()
    assert server.stop() == 0


def test_a_hangup_loads_once_more(fla_serve: Callable[..., Any], registry: Any) -> None:
    server = fla_serve("scripted:hold", "--embodiment", "planar2")
    with PolicyClient(server.url, embodiment="planar2") as robot:
        server.process.send_signal(signal.SIGHUP)
        _wait_for(lambda: _metric(server, 'fla_reloads_total{result="done"}') == 1)
        robot.infer(registry.embodiment("planar2").example_observation())
        assert _metric(server, "fla_connections_total") == 1
    assert server.stop() == 0
    assert server.stderr() == ""


ARM = Embodiment(name="arm", state=Space(joints("a", "b")), action=Space(joints("a", "b")), cameras=(), control_hz=10)


def _served(**said: Any) -> ServedPolicy:
    class Policy:
        metadata: Mapping[str, Any] = MappingProxyType({})

        def infer(self, observation: Any) -> dict[str, Any]:
            return {}

    for name, value in ({"embodiments": {"arm": ARM}, "default_embodiment": "arm", "horizon": 5} | said).items():
        setattr(Policy, name, value)
    return ServedPolicy.of(Policy())


def test_what_robots_were_told_stays_true() -> None:
    old = _served()
    check_replacement(old, _served())
    check_replacement(old, _served(embodiments={"arm": ARM, "other": attrs.evolve(ARM, name="other")}))
    with pytest.raises(ConfigError, match="its horizon is 6, robots were told 5"):
        check_replacement(old, _served(horizon=6))
    with pytest.raises(ConfigError, match="does not drive arm"):
        check_replacement(old, _served(embodiments={"leg": attrs.evolve(ARM, name="leg")}, default_embodiment="leg"))
    swapped = attrs.evolve(ARM, state=Space(joints("b", "a")))
    with pytest.raises(ConfigError, match=r"its arm is another robot: .*state"):
        check_replacement(old, _served(embodiments={"arm": swapped}))
