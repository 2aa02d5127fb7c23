"""The client against real servers: good ones, dead ones, slow ones and servers of openpi's kind."""

import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.server import ServerConnection, serve

from fla_sdk import wire
from fla_sdk.client import PolicyClient, Session
from fla_sdk.errors import (
    ConfigError,
    ConnectionLost,
    ObservationError,
    ProtocolError,
    ServerError,
    UnknownNameError,
)

STATE = np.array([0.5, -1.0, 0.25], np.float32)
CHUNK = np.stack([STATE, 2 * STATE, 3 * STATE])


AT_ONCE: dict[str, Any] = {"connect_timeout_s": 60.0, "retry_interval_s": 600.0}
"""Of a client that has time to connect, but tells at once when there is nobody."""


def test_actions_and_metadata(server: Any) -> None:
    with PolicyClient(f"127.0.0.1:{server.port}", embodiment="arm") as policy:
        assert policy.url == server.url
        assert policy.metadata["name"] == "golden"
        answer = policy.infer({"state": STATE, "prompt": "pick"})
        np.testing.assert_array_equal(answer["actions"], CHUNK)
        assert (answer["embodiment"], answer["prompt"]) == ("arm", "pick")
        assert set(policy.infer({"state": STATE})["server_timing"]) >= {"infer_ms", "prev_total_ms"}
        assert policy.infer({"state": STATE, "embodiment": "other"})["embodiment"] == "other"
        policy.reset()


def test_an_unknown_embodiment_is_refused_on_connection(server: Any) -> None:
    with pytest.raises(UnknownNameError, match="unknown embodiment 'arn'; did you mean 'arm'"):
        PolicyClient(server.url, embodiment="arn")


def test_the_servers_reason_is_raised_and_the_client_goes_on(server: Any) -> None:
    with PolicyClient(server.url) as policy:
        for entries, reason in (
            ({"prompt": "x"}, "arm: the state is missing"),
            ({"state": STATE, "prompt": "fail now"}, "ValueError: boom: fail now"),
        ):
            with pytest.raises(ServerError, match=f"{server.url} answered: {reason}"):
                policy.infer(entries)
            np.testing.assert_array_equal(policy.infer({"state": STATE})["actions"], CHUNK)


def test_what_cannot_be_sent_is_refused_here(server: Any) -> None:
    with PolicyClient(server.url) as policy:
        with pytest.raises(ProtocolError, match=r"entry \['state'\]: arrays of dtype object"):
            policy.infer({"state": np.array([None])})
        with pytest.raises(ObservationError, match="got a list"):
            policy.infer([STATE])  # type: ignore[arg-type]
        np.testing.assert_array_equal(policy.infer({"state": STATE})["actions"], CHUNK)


def test_nobody_there_says_how_to_start_a_server(free_port: int) -> None:
    reason = rf"ws://127.0.0.1:{free_port} after 0.3 s.*fla serve CHECKPOINT --port {free_port}"
    with pytest.raises(ConnectionLost, match=reason):
        PolicyClient(f"ws://127.0.0.1:{free_port}", connect_timeout_s=0.3, retry_interval_s=0.05)


def test_a_server_that_starts_later_is_waited_for(start_server: Callable[..., Any], free_port: int) -> None:
    url = f"ws://127.0.0.1:{free_port}"
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(PolicyClient, url, connect_timeout_s=300.0, retry_interval_s=0.05)
        start_server(port=free_port)
        with waiting.result(300) as policy:
            np.testing.assert_array_equal(policy.infer({"state": STATE})["actions"], CHUNK)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_the_next_infer_reconnects_after_a_restart(
    start_server: Callable[..., Any], free_port: int, number: int
) -> None:
    first = start_server(port=free_port)
    with PolicyClient(first.url, **AT_ONCE) as policy:
        policy.infer({"state": STATE})
        first.stop(number)
        # At once it may still be sending into the old connection; then there is nobody to connect to.
        for _ in range(2):
            with pytest.raises(ConnectionLost):
                policy.infer({"state": STATE})
        second = start_server(port=free_port)
        np.testing.assert_array_equal(policy.infer({"state": STATE})["actions"], CHUNK)
        second.stop(number)


def test_a_server_killed_while_it_thinks(start_server: Callable[..., Any], tmp_path: Path) -> None:
    server = start_server()
    with PolicyClient(server.url) as policy, ThreadPoolExecutor(1) as pool:
        asking = pool.submit(policy.infer, {"state": STATE, "prompt": f"wait {tmp_path}"})
        while not (tmp_path / "started").exists():
            assert not asking.done()
            time.sleep(0.01)
        server.stop(signal.SIGKILL)
        with pytest.raises(ConnectionLost, match="closed the connection before it answered"):
            asking.result(60)


def test_a_late_answer_is_not_taken_for_the_next_one(start_server: Callable[..., Any], tmp_path: Path) -> None:
    server = start_server()
    with PolicyClient(server.url, infer_timeout_s=0.5) as policy:
        with pytest.raises(ConnectionLost, match=r"did not answer within 0.5 s \(infer_timeout_s\)"):
            policy.infer({"state": STATE, "prompt": f"wait {tmp_path}"})
        (tmp_path / "go").touch()
        policy._infer_timeout_s = 120.0
        assert policy.infer({"state": STATE, "prompt": "next"})["prompt"] == "next"


def test_a_server_that_takes_nothing_is_given_up() -> None:
    """It greets, then reads no more: sending blocks, and must end within the limit too."""
    done = threading.Event()

    def handle(robot: ServerConnection) -> None:
        robot.send(wire.pack({}))
        with robot.protocol_mutex:  # stops the thread that reads from the socket
            done.wait(60)

    with _server(handle) as url, PolicyClient(url, infer_timeout_s=0.5) as policy:
        try:
            with pytest.raises(ConnectionLost):
                policy.infer({"image": np.zeros(50_000_000, np.uint8)})
        finally:
            done.set()


def test_an_observation_too_big_for_the_server_says_so(start_server: Callable[..., Any]) -> None:
    server = start_server(max_message_bytes=50_000)
    with PolicyClient(server.url) as policy:
        with pytest.raises(ServerError, match=r"refused an observation of \d+ bytes as too big"):
            policy.infer({"state": STATE, "image": {"top": np.zeros((200, 200, 3), np.uint8)}})
        np.testing.assert_array_equal(policy.infer({"state": STATE})["actions"], CHUNK)


def test_the_token(start_server: Callable[..., Any]) -> None:
    server = start_server(token="sesame")
    with PolicyClient(server.url, token="sesame") as policy:
        np.testing.assert_array_equal(policy.infer({"state": STATE})["actions"], CHUNK)
    for token in (None, "wrong"):
        with pytest.raises(ServerError, match=r"wants a valid token \(HTTP 401\)") as refused:
            PolicyClient(server.url, token=token)
        assert not isinstance(refused.value, ConnectionLost)


@pytest.mark.parametrize("url", ["http://box:8000", "ws://", "", "ws://box:notaport", "ws://box:99999"])
def test_a_malformed_address_is_refused(url: str) -> None:
    with pytest.raises(ConfigError, match="is no address of a policy server"):
        PolicyClient(url)


def test_a_host_name_that_nobody_knows_is_not_waited_for() -> None:
    with pytest.raises(ConnectionLost, match=r"host name in ws://no-such-host.invalid:8000 cannot be resolved"):
        PolicyClient("no-such-host.invalid")


def test_limits_must_be_limits() -> None:
    for name in ("connect_timeout_s", "infer_timeout_s", "retry_interval_s"):
        for seconds in (0.0, -1.0, float("inf"), float("nan")):
            with pytest.raises(ConfigError, match=f"{name} is"):
                PolicyClient("127.0.0.1:1", **dict[str, Any]({name: seconds}))


def test_the_environments_proxy_is_not_used(server: Any, free_port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{free_port}")
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    with PolicyClient(server.url, connect_timeout_s=60) as policy:
        np.testing.assert_array_equal(policy.infer({"state": STATE})["actions"], CHUNK)


# --- Servers of openpi's kind -----------------------------------------------------------------------------------------


@contextmanager
def _server(handle: Callable[[ServerConnection], None]) -> Iterator[str]:
    with serve(handle, "127.0.0.1", 0, compression=None, max_size=None) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        host, port = server.socket.getsockname()
        try:
            yield f"ws://{host}:{port}"
        finally:
            server.shutdown()
            thread.join(30)


def test_a_server_of_openpi_gets_no_entry_that_it_does_not_know() -> None:
    """It greets with plain metadata, answers, and after an error sends the traceback and closes with 1011."""
    received: list[dict[str, Any]] = []

    def handle(robot: ServerConnection) -> None:
        robot.send(wire.pack({"reset_pose": [0.0, 1.0]}))
        for message in robot:
            assert isinstance(message, bytes)
            received.append(wire.unpack(message))
            if "state" not in received[-1]:
                robot.send("Traceback (most recent call last):\nKeyError: 'state'\n")
                # The close frame may come late: a client that asks again before it would lose its request.
                with suppress(ConnectionClosed):
                    robot.recv(30)
                robot.close(1011, "Internal server error. Traceback included in previous frame.")
                return
            robot.send(wire.pack({"actions": CHUNK, "server_timing": {"infer_ms": 1.0}}))

    with _server(handle) as url, PolicyClient(url, embodiment="arm") as policy:
        assert policy.metadata == {"reset_pose": [0.0, 1.0]}
        np.testing.assert_array_equal(policy.infer({"state": STATE})["actions"], CHUNK)
        with pytest.raises(ServerError, match=r"Traceback.*\nKeyError: 'state'"):
            policy.infer({"prompt": "x"})
        np.testing.assert_array_equal(policy.infer({"state": STATE})["actions"], CHUNK)
    assert [sorted(entries) for entries in received] == [["state"], ["prompt"], ["state"]]


@pytest.mark.parametrize(
    ("frame", "error", "reason"),
    [
        (wire.pack([1]), ProtocolError, "sent a list where a policy server sends a map"),
        (b"\xc1", ProtocolError, "begins no value"),
        ("no model loaded", ServerError, "answered: no model loaded"),
    ],
)
def test_a_strange_frame_is_refused(frame: bytes | str, error: type[Exception], reason: str) -> None:
    session = Session("ws://box:8000")
    with pytest.raises(error, match=reason):
        session.greet(frame)


@pytest.mark.parametrize("fla", [None, 3, {}, {"embodiments": 3}, {"embodiments": None}])
def test_a_strange_fla_entry_does_no_harm(fla: Any) -> None:
    session = Session("ws://box:8000", embodiment="arm")
    session.greet(wire.pack({"fla": fla}))
    assert wire.unpack(session.request({"x": 1})) == {"x": 1, "embodiment": "arm"}


def test_a_web_server_is_told_from_a_policy_server() -> None:
    import http.server

    class Page(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self.send_error(404)

        def log_message(self, format: str, *_: Any) -> None: ...  # noqa: A002

    with http.server.HTTPServer(("127.0.0.1", 0), Page) as web:
        thread = threading.Thread(target=web.serve_forever)
        thread.start()
        try:
            with pytest.raises(ServerError, match="is no policy server: it answered with status 404"):
                PolicyClient(f"127.0.0.1:{web.server_port}")
        finally:
            web.shutdown()
            thread.join(30)
