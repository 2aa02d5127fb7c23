"""`examples/ray_serve/asgi.py` under uvicorn, asked by our client: what a replica does, without Ray around it."""

import importlib.util
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from fla_sdk import wire
from fla_sdk.client import PolicyClient
from fla_sdk.errors import ServerError
from fla_sdk.serving.service import Service
from fla_sdk.serving.tokens import Token, Tokens

SOURCE = Path(__file__).parents[2] / "examples" / "ray_serve" / "asgi.py"
STATE = np.array([0.5, -1.0], np.float32)
LIMIT_S = 120.0


class Double:
    """Answers with twice the state; thinks until it may go on when it is told to wait."""

    metadata: Mapping[str, Any] = {"policy": "double"}

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.begun, self.go = threading.Event(), threading.Event()

    def infer(self, observation: Mapping[str, Any]) -> dict[str, Any]:
        self.asked.append(observation["prompt"])
        if observation["prompt"] == "wait":
            self.begun.set()
            assert self.go.wait(LIMIT_S)
        if observation["prompt"] == "fail":
            raise ValueError("boom")
        return {"actions": 2 * observation["state"][None]}


@pytest.fixture
def policy() -> Double:
    return Double()


@pytest.fixture
def service(policy: Double) -> Service:
    return Service(policy)


@pytest.fixture
def url(service: Service) -> Iterator[str]:
    pytest.importorskip("starlette", reason="needs the extra `dev`")
    import uvicorn
    from starlette.applications import Starlette
    from starlette.routing import WebSocketRoute
    from starlette.websockets import WebSocket

    spec = importlib.util.spec_from_file_location("asgi", SOURCE)
    assert spec is not None
    assert spec.loader is not None
    asgi: Any = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(asgi)
    tokens = Tokens([Token(secret="let-me-in")])

    async def robot(websocket: WebSocket) -> None:
        await asgi.converse(websocket, service, tokens)

    app = Starlette(routes=[WebSocketRoute("/", robot)])
    server = uvicorn.Server(
        uvicorn.Config(
            app, port=0, ws="websockets-sansio", lifespan="off", log_level="critical", ws_per_message_deflate=False
        )
    )
    with service.running():
        thread = threading.Thread(target=server.run)
        thread.start()
        _wait(lambda: server.started)
        yield f"ws://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
        server.should_exit = True
        thread.join(LIMIT_S)


def _wait(until: Callable[[], object]) -> None:
    deadline = time.monotonic() + LIMIT_S
    while not until():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def _client(url: str) -> PolicyClient:
    return PolicyClient(url, token="let-me-in")


def test_one_request_after_the_other(url: str) -> None:
    with _client(url) as client:
        assert client.metadata["policy"] == "double"
        for step in range(20):
            np.testing.assert_array_equal(
                client.infer({"state": STATE * step, "prompt": "go"})["actions"][0], 2 * STATE * step
            )


def test_strangers_are_turned_away(url: str) -> None:
    with pytest.raises(ServerError, match="wants a valid token"):
        PolicyClient(url, token="guess")


def test_faults_are_told_as_the_server_does(url: str) -> None:
    with connect(url, additional_headers={"Authorization": "Bearer let-me-in"}, compression=None) as robot:
        robot.recv(LIMIT_S)
        robot.send("text")
        assert "binary frame" in str(robot.recv(LIMIT_S))
        robot.send(wire.pack({"state": STATE, "prompt": "fail"}))
        assert "ValueError: boom" in str(robot.recv(LIMIT_S))
        with pytest.raises(ConnectionClosed) as closed:
            robot.recv(LIMIT_S)
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 1011
    with _client(url) as client:
        np.testing.assert_array_equal(client.infer({"state": STATE, "prompt": "go"})["actions"], [2 * STATE])


def test_a_robot_that_hangs_up_in_the_queue_is_not_computed(url: str, policy: Double, service: Service) -> None:
    header = {"Authorization": "Bearer let-me-in"}
    with connect(url, additional_headers=header) as first, connect(url, additional_headers=header) as second:
        for robot, prompt in ((first, "wait"), (second, "in vain")):
            robot.recv(LIMIT_S)
            robot.send(wire.pack({"state": STATE, "prompt": prompt}))
            assert policy.begun.wait(LIMIT_S)
        _wait(lambda: service.thread.waiting == 1)
        second.close()
        _wait(lambda: len(service.clients) == 1)
        policy.go.set()
        assert isinstance(first.recv(LIMIT_S), bytes)
    with _client(url) as client:
        client.infer({"state": STATE, "prompt": "go"})
    assert policy.asked == ["wait", "go"]
