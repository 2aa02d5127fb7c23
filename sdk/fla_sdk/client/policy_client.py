"""`PolicyClient`: asks a policy server for actions over a websocket. Speaks to FLA's servers and to openpi's."""

import socket
import struct
import time
from collections.abc import Mapping
from contextlib import ExitStack
from types import TracebackType
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from websockets.exceptions import ConnectionClosed
from websockets.protocol import State
from websockets.sync.client import ClientConnection, connect

from fla_sdk.client.caller import Caller, stays_open
from fla_sdk.errors import ConnectionLost


class PolicyClient(Caller):
    """A policy on another machine. One request at a time; not for several threads at once.

    Connects when built, and raises `ConnectionLost` when nobody answers in time, `ServerError` when the server refuses,
    `UnknownNameError` when it does not know the embodiment. A connection that drops is opened again by the next
    `infer`, as the same session. `AsyncPolicyClient` is its twin for asyncio.
    """

    def _begin(self) -> None:
        self._connection: ClientConnection | None = None
        self._stack = ExitStack()
        self._connected()

    def connect(self) -> None:
        """Open the connection if there is none. Raises as building the client does; `infer` does it by itself."""
        self._connected()

    def infer(
        self,
        observation: Mapping[str, Any],
        *,
        rest: NDArray[np.floating] | None = None,
        delay: int = 0,
        deadline_ms: float | None = None,
    ) -> dict[str, Any]:
        """Send one observation; returns at least `actions` `[T, A]`, read-only, in the embodiment's units.

        `rest` `[n, A]` is what was not yet executed of the last chunk when the observation was taken, and `delay` how
        many of its actions will be executed before the answer is there: the new chunk continues it. An answer later
        than `deadline_ms` after the request arrived is worthless: the server may refuse at once what it cannot make in
        time.

        Raises `ServerError` with the server's reason, `Overloaded` when to ask again later, `ConnectionLost` when the
        answer did not come in time or the connection broke. All leave the client usable: observe and call again.
        """
        connection = self._connected()
        request = self._session.request(observation, rest=rest, delay=delay, deadline_ms=deadline_ms)
        try:
            connection.send(request)
            return self._session.answer(connection.recv(self._infer_timeout_s))
        except TimeoutError as error:
            self._drop()
            raise self._unanswered() from error
        except ConnectionClosed as error:
            self._drop()
            raise self._closed(error, request) from error
        except BaseException as error:
            # After an error the server may close, and after Ctrl-C an answer may still be under way: a fresh
            # connection is the one state in which the next reply surely belongs to the next request.
            if not stays_open(error):
                self._drop()
            raise

    def ping(self, *, timeout_s: float = 10.0) -> float:
        """Seconds for a message of a few bytes there and back, which no policy has a part in."""
        connection, begun = self._connected(), time.perf_counter()
        try:
            answered = connection.ping().wait(timeout_s)
        except ConnectionClosed as error:
            self._drop()
            raise self._closed(error, b"") from error
        if not answered:
            self._drop()
            raise ConnectionLost(f"{self.url} did not answer a ping within {timeout_s:g} s")
        return time.perf_counter() - begun

    def reset(self) -> None:
        """Begin a new episode. A policy server keeps nothing between requests, so there is nothing to tell it."""

    def close(self) -> None:
        """Close the connection, waiting at most a second for the server. `infer` would open it again."""
        self._drop()

    def __enter__(self) -> "PolicyClient":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _connected(self) -> ClientConnection:
        if self._connection is not None and self._connection.protocol.state is State.OPEN:
            return self._connection
        self._drop()
        deadline = time.monotonic() + self._connect_timeout_s
        while True:
            try:
                connection = self._open(deadline)
            except BaseException as error:
                self._drop()
                wait_s = self._next_attempt_s(error, deadline)
            else:
                self._backoff.reset()
                return connection
            time.sleep(wait_s)

    def _open(self, deadline: float) -> ClientConnection:
        def left_s() -> float:
            return max(deadline - time.monotonic(), 0.01)

        # Our own socket: robots speak to their server directly, never through a proxy of the environment.
        sock = socket.create_connection((self._host, self._port), timeout=left_s())
        sock.settimeout(None)
        _limit_sends(sock, self._infer_timeout_s)
        opened = cast("ClientConnection", connect(self.url, sock=sock, open_timeout=left_s(), **self._options()))
        connection = self._connection = self._stack.enter_context(opened)
        self._session.greet(connection.recv(left_s()))
        if (hello := self._session.hello()) is not None:
            connection.send(hello)
            self._session.welcome(connection.recv(left_s()))
        return connection

    def _drop(self) -> None:
        self._connection = None
        self._stack.close()


def _limit_sends(sock: socket.socket, limit_s: float) -> None:
    """Let a send fail when the other side takes nothing for `limit_s` seconds; `recv` has its own limit."""
    if hasattr(socket, "SO_SNDTIMEO") and struct.calcsize("ll") == struct.calcsize("q") * 2:
        microseconds = max(int(limit_s * 1e6), 1)
        limit = struct.pack("ll", microseconds // 10**6, microseconds % 10**6)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, limit)
