"""Both clients do the same: with a server of ours, in one process, and with one of openpi's kind."""

import asyncio
import inspect
import socket
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from fla_sdk.client import AsyncPolicyClient, PolicyClient
from fla_sdk.errors import ConnectionLost, FlaError, ServerError, UnknownNameError

STATE = np.array([0.5, -1.0, 0.25], np.float32)
CHUNK = np.stack([STATE, 2 * STATE, 3 * STATE])


class _Awaited:
    """An `AsyncPolicyClient` that is called like a `PolicyClient`."""

    def __init__(self, url: str, **options: Any) -> None:
        self._runner = asyncio.Runner()
        self.policy = AsyncPolicyClient(url, **options)
        try:
            self._runner.run(self.policy.connect())
        except BaseException:
            self._runner.close()
            raise

    def __getattr__(self, name: str) -> Any:
        one = getattr(self.policy, name)
        return (lambda *given, **options: self._runner.run(one(*given, **options))) if inspect.ismethod(one) else one

    def __enter__(self) -> "_Awaited":
        return self

    def __exit__(self, *error: object) -> None:
        self._runner.run(self.policy.close())
        self._runner.close()


@pytest.fixture(params=["sync", "async"])
def client(request: pytest.FixtureRequest) -> Callable[..., Any]:
    return PolicyClient if request.param == "sync" else _Awaited


def test_they_take_the_same_options_and_have_the_same_methods() -> None:
    assert inspect.signature(PolicyClient) == inspect.signature(AsyncPolicyClient)

    def methods(one: type) -> dict[str, list[str]]:
        functions = inspect.getmembers(one, inspect.isfunction)
        return {name: list(inspect.signature(f).parameters) for name, f in functions if not name.startswith("_")}

    assert methods(PolicyClient) == methods(AsyncPolicyClient)


def test_actions_pings_and_reasons(client: Callable[..., Any], server: Any) -> None:
    with client(server.url, embodiment="arm") as policy:
        assert policy.metadata["name"] == "golden"
        assert policy.horizon == 3
        for _ in range(2):
            np.testing.assert_array_equal(policy.infer({"state": STATE, "prompt": "go"})["actions"], CHUNK)
        assert policy.ping(timeout_s=120) > 0
        with pytest.raises(ServerError, match="arm: the state is missing"):
            policy.infer({"prompt": "x"})
        with pytest.raises(ServerError, match="ValueError: boom"):
            policy.infer({"state": STATE, "prompt": "fail"})
        np.testing.assert_array_equal(policy.infer({"state": STATE})["actions"], CHUNK)
        policy.reset()
    with pytest.raises(UnknownNameError, match="unknown embodiment 'arn'"):
        client(server.url, embodiment="arn")


def test_a_restarted_server_is_found_again(
    client: Callable[..., Any], start_server: Callable[..., Any], free_port: int
) -> None:
    first = start_server(port=free_port)
    with client(first.url, connect_timeout_s=60, retry_interval_s=600) as policy:  # it tells at once of nobody there
        policy.infer({"state": STATE})
        first.stop(9)
        for _ in range(2):
            with pytest.raises(ConnectionLost):
                policy.infer({"state": STATE})
        start_server(port=free_port)
        np.testing.assert_array_equal(policy.infer({"state": STATE})["actions"], CHUNK)


def test_a_late_answer_is_not_taken_for_the_next_one(client: Callable[..., Any], server: Any, tmp_path: Any) -> None:
    with client(server.url, infer_timeout_s=0.5) as policy:
        with pytest.raises(ConnectionLost, match=r"did not answer within 0.5 s \(infer_timeout_s\)"):
            policy.infer({"state": STATE, "prompt": f"wait {tmp_path}"})
        (tmp_path / "go").touch()
        (policy.policy if isinstance(policy, _Awaited) else policy)._infer_timeout_s = 120.0
        assert policy.infer({"state": STATE, "prompt": "next"})["prompt"] == "next"


def test_refusals_read_alike(client: Callable[..., Any], start_server: Callable[..., Any]) -> None:
    with pytest.raises(ServerError, match=r"wants a valid token \(HTTP 401\)"):
        client(start_server(token="sesame").url)
    with pytest.raises(ConnectionLost, match=r"host name in ws://no-such-host.invalid:8000 cannot be resolved"):
        client("no-such-host.invalid")
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        with pytest.raises(ConnectionLost, match=rf"no policy server at ws://127.0.0.1:{port} after 0.4 s"):
            client(f"127.0.0.1:{port}", connect_timeout_s=0.4, retry_interval_s=0.05)
    with pytest.raises(FlaError, match="is no address"):
        client("http://box")


def test_async_requests_take_turns(server: Any) -> None:
    async def ask() -> list[Any]:
        async with AsyncPolicyClient(server.url) as policy:
            return await asyncio.gather(*(policy.infer({"state": STATE, "prompt": str(n)}) for n in range(8)))

    assert [answer["prompt"] for answer in asyncio.run(ask())] == [str(n) for n in range(8)]


def test_a_cancelled_request_leaves_the_client_usable(server: Any, tmp_path: Any) -> None:
    async def ask() -> Any:
        async with AsyncPolicyClient(server.url) as policy:
            asking = asyncio.ensure_future(policy.infer({"state": STATE, "prompt": f"wait {tmp_path}"}))
            while not (tmp_path / "started").exists():
                assert not asking.done()
                await asyncio.sleep(0.01)
            asking.cancel()
            with pytest.raises(asyncio.CancelledError):
                await asking
            (tmp_path / "go").touch()
            return await policy.infer({"state": STATE, "prompt": "next"})

    assert asyncio.run(ask())["prompt"] == "next"
