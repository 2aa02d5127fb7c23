"""`fla ping` against a server that it fits, one that it does not, and one of openpi's kind."""

import json
import threading
from typing import Any

import attrs
import pytest
from websockets.sync.server import ServerConnection, serve

from fla_sdk import wire
from fla_sdk.cli import main
from fla_sdk.cli.ping import COMMAND
from fla_sdk.plugins import Registry
from fla_sdk.space import Space, gripper, joints


def _run(registry: Any, url: str, *options: str) -> int:
    import argparse

    parser = argparse.ArgumentParser()
    COMMAND.configure(parser)
    arguments = parser.parse_args([url, "--count", "3", "--connect-timeout", "120", *options])
    return int(COMMAND.run(arguments, registry) or 0)


class _Registry:
    """One with the golden server's arm, or something else of that name."""

    def __init__(self, **embodiments: Any) -> None:
        self.embodiments = embodiments


@pytest.fixture
def arm() -> Any:
    import importlib.util
    from pathlib import Path

    path = Path(__file__).parents[1] / "serving" / "golden_server.py"
    spec = importlib.util.spec_from_file_location("golden_server", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.ARM


def test_a_robot_that_fits(server: Any, arm: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert _run(_Registry(arm=arm), server.url, "--embodiment", "arm") == 0
    printed = capsys.readouterr().out
    assert "transport    min " in printed
    assert "3 actions of 3" in printed
    assert "arm, as described here and as the server knows it" in printed
    assert "compatible: schema" in printed


def test_a_robot_that_means_something_else(server: Any, arm: Any, capsys: pytest.CaptureFixture[str]) -> None:
    degrees = attrs.evolve(arm, action=Space(joints("shoulder", "elbow", unit="deg"), gripper()))
    assert _run(_Registry(arm=degrees), server.url, "--json") == 1
    report = json.loads(capsys.readouterr().out)
    assert report["compatible"] is False
    assert "action shoulder, unit: the server expects rad; the robot here has deg" in report["differences"]
    assert (report["here"]["action"][0]["unit"], report["there"]["action"][0]["unit"]) == ("deg", "rad")
    assert report["infer"] is None
    assert set(report["transport_ms"]) == {"min", "median", "p99"}


def test_a_robot_that_only_one_side_knows(server: Any, arm: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert _run(_Registry(), server.url) == 0
    assert "cannot tell: no plugin here describes 'arm'" in capsys.readouterr().out
    other = attrs.evolve(arm, name="other")
    assert _run(_Registry(other=other), server.url, "--embodiment", "other") == 1
    assert "NOT compatible: the server does not know 'other'; it serves arm" in capsys.readouterr().out


def test_a_policy_that_refuses_the_example(registry: Registry, capsys: pytest.CaptureFixture[str]) -> None:
    """A server of openpi's kind, which says nothing about robots."""

    def handle(robot: ServerConnection) -> None:
        robot.send(wire.pack({}))
        for _ in robot:
            robot.send("KeyError: 'observation/exterior_image_1_left'")

    with serve(handle, "127.0.0.1", 0, compression=None) as openpi:
        thread = threading.Thread(target=openpi.serve_forever)
        thread.start()
        host, port = openpi.socket.getsockname()
        assert _run(registry, f"ws://{host}:{port}", "--embodiment", "planar2") == 1
        openpi.shutdown()
        thread.join(30)
    printed = capsys.readouterr().out
    assert "not one of FLA's" in printed
    assert "an example observation of planar2: the policy server at" in printed


def test_wrong_use_is_explained(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["ping", "127.0.0.1:1", "--connect-timeout", "0.2"]) == 1
    assert "no policy server at ws://127.0.0.1:1" in capsys.readouterr().err
    assert main(["ping", "127.0.0.1:1", "--count", "0"]) == 1
    assert "--count is 0" in capsys.readouterr().err
