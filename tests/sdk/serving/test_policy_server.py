"""The server process as robots and operators meet it."""

import signal
import socket
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from fla_sdk import wire
from fla_sdk.client import PolicyClient
from fla_sdk.errors import ConfigError
from fla_sdk.serving.server import PolicyServer

STATE = np.array([0.5, -1.0, 0.25], np.float32)
CHUNK = np.stack([STATE, 2 * STATE, 3 * STATE])


def _dial(url: str, **headers: str) -> ClientConnection:
    """A connection as openpi's client opens it."""
    return connect(url, compression=None, max_size=None, additional_headers=headers)


def _binary(frame: str | bytes) -> bytes:
    assert isinstance(frame, bytes)
    return frame


def _ask(robot: ClientConnection, **entries: Any) -> Any:
    """One request as openpi's client makes it: a text frame is an error."""
    robot.send(wire.pack(entries))
    reply = robot.recv(120)
    if isinstance(reply, str):
        raise RuntimeError(reply)
    return wire.unpack(reply)


def test_the_greeting_tells_what_the_numbers_mean(server: Any) -> None:
    with _dial(server.url) as robot:
        greeting = wire.unpack(_binary(robot.recv(120)))
    assert greeting["name"] == "golden"
    assert greeting["fla"]["default_embodiment"] == "arm"
    arm = greeting["fla"]["embodiments"]["arm"]
    assert [(field["names"], field["unit"]) for field in arm["action"]] == [
        (["shoulder", "elbow"], "rad"),
        (["gripper"], "open_fraction"),
    ]
    assert arm["state"][0]["limits"] == [-3.0, 3.0]
    assert arm["cameras"] == [{"name": "top", "required": True}, {"name": "wrist", "required": False}]
    assert (arm["control_hz"], arm["horizon"]) == (20.0, 3)


def test_bad_observations_get_the_reason_and_the_connection_lives_on(server: Any) -> None:
    with _dial(server.url) as robot:
        robot.recv(120)
        with pytest.raises(RuntimeError, match="arm: the state is missing; expected 'state'"):
            _ask(robot, prompt="no state")
        robot.send("text")
        assert "binary frame" in str(robot.recv(120))
        robot.send(wire.pack([1, 2]))
        assert "an observation is a map" in str(robot.recv(120))
        robot.send(wire.pack({"state": STATE})[:-2])
        assert "ends too early" in str(robot.recv(120))
        np.testing.assert_array_equal(_ask(robot, state=STATE)["actions"], CHUNK)


@pytest.mark.parametrize(
    ("prompt", "reason"),
    [
        ("fail now", "ValueError: boom: fail now"),
        ("leak", "ValueError: cannot read ocdbt.bin in rad/s"),
        ("nonsense", "TypeError: the policy's answer cannot be sent: .*a set has no wire format"),
    ],
)
def test_a_failing_policy_closes_with_1011_and_the_server_lives_on(server: Any, prompt: str, reason: str) -> None:
    with _dial(server.url) as robot:
        robot.recv(120)
        with pytest.raises(RuntimeError, match=f"^{reason}"):
            _ask(robot, state=STATE, prompt=prompt)
        with pytest.raises(ConnectionClosed) as closed:
            robot.recv(120)
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 1011
    with _dial(server.url) as robot:
        robot.recv(120)
        np.testing.assert_array_equal(_ask(robot, state=STATE)["actions"], CHUNK)


def test_tracebacks_stay_in_the_log_and_observers_are_told(start_server: Callable[..., Any]) -> None:
    server = start_server()
    with PolicyClient(server.url) as policy:
        with pytest.raises(Exception, match="boom"):
            policy.infer({"state": STATE, "prompt": "fail here"})
        policy.infer({"state": STATE})
        policy.infer({"state": STATE, "embodiment": "arm"})
        policy.infer({"state": STATE, "embodiment": "faulty_observer"})
        policy.infer({"state": STATE})
    called = [server.line() for _ in range(4)]
    assert called == ["called unnamed True", "called arm True", "called faulty_observer True", "called unnamed True"]
    assert server.stop() == 0
    assert "Traceback" in server.stderr()
    assert "RuntimeError: the observer broke" in server.stderr()


def test_many_robots_at_once_get_their_own_answers(server: Any) -> None:
    def drive(robot: int) -> None:
        with PolicyClient(server.url, embodiment="arm") as policy:
            for step in range(20):
                state = np.array([robot, step, robot * step], np.float32)
                answer = policy.infer({"state": state, "prompt": f"{robot}/{step}"})
                assert answer["prompt"] == f"{robot}/{step}"
                assert answer["embodiment"] == "arm"
                np.testing.assert_array_equal(answer["actions"], np.stack([state, 2 * state, 3 * state]))

    with ThreadPoolExecutor(8) as robots:
        list(robots.map(drive, range(8)))


def _wait_for(happened: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 120
    while not happened():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def _start_thinking(robot: ClientConnection, folder: Path, **entries: Any) -> None:
    """Ask for an answer that comes when `folder/go` exists; returns once the policy is at it."""
    robot.send(wire.pack({"state": STATE, "prompt": f"wait {folder}", **entries}))
    _wait_for((folder / "started").exists)


def test_pings_and_health_checks_are_answered_while_the_policy_thinks(server: Any, tmp_path: Path) -> None:
    with _dial(server.url) as thinking, _dial(server.url) as idle:
        thinking.recv(120)
        idle.recv(120)
        _start_thinking(thinking, tmp_path)
        assert thinking.ping().wait(120)
        assert idle.ping().wait(120)
        with urllib.request.urlopen(server.url.replace("ws", "http") + "/healthz", timeout=120) as response:
            assert response.read() == b"OK\n"
        with pytest.raises(TimeoutError):
            thinking.recv(0)
        (tmp_path / "go").touch()
        assert isinstance(thinking.recv(120), bytes)


def _figure(server: Any, name: str) -> int:
    """What the server counts."""
    with urllib.request.urlopen(server.url.replace("ws", "http") + "/metrics", timeout=120) as response:
        lines = response.read().decode().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{name} "))


def test_a_robot_that_hangs_up_in_the_queue_is_not_computed(start_server: Callable[..., Any], tmp_path: Path) -> None:
    server = start_server()
    with _dial(server.url) as first, _dial(server.url) as second:
        first.recv(120)
        second.recv(120)
        _start_thinking(first, tmp_path, embodiment="first")
        second.send(wire.pack({"state": STATE, "embodiment": "second"}))
        _wait_for(lambda: _figure(server, "fla_queue_length") == 1)
        second.close()
        _wait_for(lambda: _figure(server, "fla_connections") == 1)
        (tmp_path / "go").touch()
        assert isinstance(first.recv(120), bytes)
        _ask(first, state=STATE, embodiment="third")
    assert [server.line(), server.line()] == ["called first True", "called third True"]


def test_the_inference_under_way_is_finished_before_a_stop(start_server: Callable[..., Any], tmp_path: Path) -> None:
    server = start_server()
    with _dial(server.url) as robot:
        robot.recv(120)
        _start_thinking(robot, tmp_path)
        server.process.send_signal(signal.SIGTERM)
        with pytest.raises(ConnectionClosed):
            robot.recv(120)
        assert server.process.poll() is None
        (tmp_path / "go").touch()
        assert server.process.wait(120) == 0
    assert server.line() == "called unnamed True"


def test_a_second_signal_does_not_wait(start_server: Callable[..., Any], tmp_path: Path) -> None:
    server = start_server()
    with _dial(server.url) as robot:
        robot.recv(120)
        _start_thinking(robot, tmp_path)
        server.process.send_signal(signal.SIGINT)
        with pytest.raises(ConnectionClosed):
            robot.recv(120)
        assert server.stop(signal.SIGINT) == -signal.SIGINT


def test_too_long_a_message_is_refused_with_1009(start_server: Callable[..., Any]) -> None:
    server = start_server(max_message_bytes=100_000)
    with _dial(server.url) as robot:
        robot.recv(120)
        robot.send(wire.pack({"state": STATE, "image": {"top": np.zeros((200, 200, 3), np.uint8)}}))
        with pytest.raises(ConnectionClosed) as closed:
            robot.recv(120)
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 1009
    with PolicyClient(server.url) as policy:
        np.testing.assert_array_equal(policy.infer({"state": STATE})["actions"], CHUNK)


def test_a_large_message_goes_through(server: Any) -> None:
    images = {"top": np.full((1200, 1200, 3), 7, np.uint8)}
    with PolicyClient(server.url) as policy:
        assert policy.infer({"state": STATE, "image": images})["image_sum"] == 7 * 1200 * 1200 * 3


def test_the_token_is_asked_for(start_server: Callable[..., Any]) -> None:
    server = start_server(token="open-sesame", host="127.0.0.1")
    for headers in (
        {},
        {"Authorization": "Api-Key open-sesam"},
        {"Authorization": "Basic open-sesame"},
        {"Authorization": "open-sesame"},
    ):
        with pytest.raises(InvalidStatus) as refused:
            _dial(server.url, **headers)
        assert refused.value.response.status_code == 401
    for scheme in ("Api-Key", "Bearer"):
        with _dial(server.url, Authorization=f"{scheme} open-sesame") as robot:
            assert wire.unpack(_binary(robot.recv(120)))["name"] == "golden"
    with urllib.request.urlopen(server.url.replace("ws", "http") + "/healthz", timeout=120) as response:
        assert response.status == 200


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_it_cleanly(start_server: Callable[..., Any], number: int) -> None:
    server = start_server()
    with _dial(server.url) as robot:
        robot.recv(120)
        assert server.stop(number) == 0
        with pytest.raises(ConnectionClosed) as closed:
            robot.recv(120)
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 1001
    assert server.stderr() == ""


def test_strangers_leave_no_traceback_and_do_no_harm(start_server: Callable[..., Any]) -> None:
    server = start_server()
    for greeting in (b"", b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01\x02\x00\x01\x00", b"x" * 100_000):
        # The server may hang up before it has heard everything.
        with socket.create_connection(("127.0.0.1", server.port), timeout=120) as stranger, suppress(ConnectionError):
            stranger.sendall(greeting)
    with pytest.raises(urllib.error.HTTPError, match="426"):
        urllib.request.urlopen(server.url.replace("ws", "http") + "/chat", timeout=120)
    with PolicyClient(server.url) as policy:
        policy.infer({"state": STATE})
    assert server.stop() == 0
    assert server.stderr() == ""


class _Silent:
    def __init__(self, metadata: Mapping[str, Any] | None = None) -> None:
        self.metadata = metadata or {}

    def infer(self, observation: Any) -> dict[str, Any]:
        return {}


def test_a_port_in_use_is_named(server: Any) -> None:
    with pytest.raises(ConfigError, match=rf"port {server.port} on 127.0.0.1 is already in use.*--port"):
        PolicyServer(_Silent(), port=server.port).run()


@pytest.mark.parametrize("host", ["203.0.113.7", "no-such-host.invalid"])
def test_a_host_that_is_not_ours_is_named(host: str) -> None:
    with pytest.raises(ConfigError, match=f"host '{host}' is no address of this machine"):
        PolicyServer(_Silent(), host=host, port=0, allow_public=True).run()


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "", "192.168.1.5", "robot.local"])
def test_a_public_bind_must_be_meant(host: str) -> None:
    with pytest.raises(ConfigError, match=r"set a token.*allow_public=True"):
        PolicyServer(_Silent(), host=host)
    PolicyServer(_Silent(), host=host, allow_public=True)
    PolicyServer(_Silent(), host=host, token="secret")


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.9.1", "::1", "localhost"])
def test_loopback_needs_no_token(host: str) -> None:
    PolicyServer(_Silent(), host=host)


def test_options_that_make_no_sense_are_refused() -> None:
    for token in ("", "with space", "schlüssel", "line\nbreak"):
        with pytest.raises(ConfigError, match="token must be printable ASCII"):
            PolicyServer(_Silent(), token=token)
    with pytest.raises(ConfigError, match="port is 65536"):
        PolicyServer(_Silent(), port=65536)
    with pytest.raises(ConfigError, match=r"metadata cannot be sent.*\['model'\]"):
        PolicyServer(_Silent({"model": object()}))
