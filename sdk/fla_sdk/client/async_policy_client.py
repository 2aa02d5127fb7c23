"""`AsyncPolicyClient`: `PolicyClient` for programs that run on asyncio."""

import asyncio
import socket
import time
from collections.abc import Mapping
from functools import partial
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed
from websockets.protocol import State

from fla_sdk.client.caller import Caller, stays_open
from fla_sdk.errors import ConnectionLost


class AsyncPolicyClient(Caller):
    """A policy on another machine, as `PolicyClient`: same options, same errors. Connects when it is entered, or first
    asked. Requests of several tasks are sent one after the other.

    async with AsyncPolicyClient("ws://gpu-box:8000", embodiment="so101") as policy:
        answer = await policy.infer(observation)
    """

    def _begin(self) -> None:
        self._connection: ClientConnection | None = None
        self._turn: asyncio.Lock | None = None  # made by the first call: Python 3.10 may not have a loop before

    async def connect(self) -> None:
        """As `PolicyClient.connect`."""
        async with self._one_at_a_time():
            await self._connected()

    async def infer(
        self,
        observation: Mapping[str, Any],
        *,
        rest: NDArray[np.floating] | None = None,
        delay: int = 0,
        deadline_ms: float | None = None,
    ) -> dict[str, Any]:
        """As `PolicyClient.infer`."""
        async with self._one_at_a_time():
            connection = await self._connected()
            request = self._session.request(observation, rest=rest, delay=delay, deadline_ms=deadline_ms)
            try:
                frame = await asyncio.wait_for(_exchange(connection, request), self._infer_timeout_s)
                return self._session.answer(frame)
            except (TimeoutError, asyncio.TimeoutError) as error:
                self._drop()
                raise self._unanswered() from error
            except ConnectionClosed as error:
                self._drop()
                raise self._closed(error, request) from error
            except BaseException as error:
                if not stays_open(error):
                    self._drop()
                raise

    async def ping(self, *, timeout_s: float = 10.0) -> float:
        """As `PolicyClient.ping`."""
        async with self._one_at_a_time():
            connection, begun = await self._connected(), time.perf_counter()
        try:
            await asyncio.wait_for(await connection.ping(), timeout_s)
        except ConnectionClosed as error:
            self._drop()
            raise self._closed(error, b"") from error
        except (TimeoutError, asyncio.TimeoutError) as error:
            self._drop()
            raise ConnectionLost(f"{self.url} did not answer a ping within {timeout_s:g} s") from error
        return time.perf_counter() - begun

    async def reset(self) -> None:
        """As `PolicyClient.reset`."""

    async def close(self) -> None:
        """As `PolicyClient.close`."""
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.close()

    async def __aenter__(self) -> "AsyncPolicyClient":
        await self.connect()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    def _one_at_a_time(self) -> asyncio.Lock:
        self._turn = self._turn or asyncio.Lock()
        return self._turn

    async def _connected(self) -> ClientConnection:
        if self._connection is not None and self._connection.state is State.OPEN:
            return self._connection
        self._drop()
        deadline = time.monotonic() + self._connect_timeout_s
        while True:
            try:
                await asyncio.wait_for(self._open(), max(deadline - time.monotonic(), 0.01))
            except BaseException as error:
                self._drop()
                wait_s = self._next_attempt_s(error, deadline)
            else:
                self._backoff.reset()
                assert self._connection is not None
                return self._connection
            await asyncio.sleep(wait_s)

    async def _open(self) -> None:
        # Our own socket: robots speak to their server directly, never through a proxy of the environment.
        dial = partial(socket.create_connection, (self._host, self._port), timeout=self._connect_timeout_s)
        sock = await asyncio.get_running_loop().run_in_executor(None, dial)
        sock.setblocking(False)
        connection = await connect(self.url, sock=sock, open_timeout=self._connect_timeout_s, **self._options())
        self._connection = connection
        self._session.greet(await connection.recv())
        if (hello := self._session.hello()) is not None:
            await connection.send(hello)
            self._session.welcome(await connection.recv())

    def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.transport.abort()


async def _exchange(connection: ClientConnection, request: bytes) -> str | bytes:
    await connection.send(request)
    return await connection.recv()
