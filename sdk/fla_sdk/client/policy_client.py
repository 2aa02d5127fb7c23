"""`PolicyClient`: asks a policy server for actions over a websocket. Speaks to FLA's servers and to openpi's."""

import math
import socket
import ssl
import struct
import time
from collections.abc import Mapping
from contextlib import ExitStack
from types import TracebackType
from typing import Any
from urllib.parse import urlsplit

from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus
from websockets.protocol import State
from websockets.sync.client import ClientConnection, connect

from fla_sdk import wire
from fla_sdk.client.session import Session
from fla_sdk.errors import ConfigError, ConnectionLost, FlaError, ServerError

DEFAULT_PORT = 8000
_CLOSE_TIMEOUT_S = 1.0
_MESSAGE_TOO_BIG = 1009


class PolicyClient:
    """A policy on another machine. One request at a time; not for several threads at once.

    Connects when built. A connection that drops is opened again by the next `infer`.
    """

    def __init__(
        self,
        url: str,
        *,
        embodiment: str | None = None,
        token: str | None = None,
        connect_timeout_s: float = 30.0,
        infer_timeout_s: float = 120.0,
        retry_interval_s: float = 0.5,
        max_message_bytes: int = wire.MAX_BYTES,
    ) -> None:
        """`url` is `ws://host:port`, `wss://host:port` or `host[:port]` (port 8000 unless given).

        `embodiment` tells a server of several robots which one this is. Until `connect_timeout_s` has passed, a server
        that is not up yet is tried again every `retry_interval_s`. `infer_timeout_s` bounds one `infer`; the first one
        may include the compilation of the model. A reply longer than `max_message_bytes` is refused.

        Raises `ConnectionLost` when nobody answers in time, `ServerError` when the server refuses, `UnknownNameError`
        when it does not know the embodiment, `ConfigError` on a malformed `url`.
        """
        for name, seconds in (
            ("connect_timeout_s", connect_timeout_s),
            ("infer_timeout_s", infer_timeout_s),
            ("retry_interval_s", retry_interval_s),
        ):
            if not 0 < seconds < math.inf:
                raise ConfigError(f"{name} is {seconds}, must be above 0 and finite (seconds)")
        self.url, self._host, self._port = _parse(url)
        self._session = Session(self.url, embodiment=embodiment, max_message_bytes=max_message_bytes)
        self._headers = {"Authorization": f"Api-Key {token}"} if token is not None else {}
        self._connect_timeout_s = connect_timeout_s
        self._infer_timeout_s = infer_timeout_s
        self._retry_interval_s = retry_interval_s
        self._max_message_bytes = max_message_bytes
        self._connection: ClientConnection | None = None
        self._stack = ExitStack()
        self._connected()

    @property
    def metadata(self) -> Mapping[str, Any]:
        """What the server said about itself when the connection was opened last."""
        return self._session.metadata

    @property
    def horizon(self) -> int | None:
        """Actions in a chunk for this embodiment; None when the server does not say."""
        return self._session.horizon

    def infer(self, observation: Mapping[str, Any]) -> dict[str, Any]:
        """Send one observation; returns at least `actions` `[T, A]`, read-only, in the embodiment's units.

        Raises `ServerError` with the server's reason, `ConnectionLost` when the answer did not come in time or the
        connection broke. Both leave the client usable: observe and call again.
        """
        connection = self._connected()
        request = self._session.request(observation)
        try:
            connection.send(request)
            return self._session.answer(connection.recv(self._infer_timeout_s))
        except TimeoutError as error:
            self._drop()
            raise ConnectionLost(
                f"{self.url} did not answer within {self._infer_timeout_s:g} s (infer_timeout_s)"
            ) from error
        except ConnectionClosed as error:
            self._drop()
            if error.rcvd is not None and error.rcvd.code == _MESSAGE_TOO_BIG:
                raise ServerError(
                    f"{self.url} refused an observation of {len(request)} bytes as too big; send smaller images, "
                    "or raise the server's message limit"
                ) from error
            raise ConnectionLost(f"{self.url} closed the connection before it answered: {error}") from error
        except BaseException:
            # After an error the server may close, and after Ctrl-C an answer may still be under way: a fresh
            # connection is the one state in which the next reply surely belongs to the next request.
            self._drop()
            raise

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

    # --- Connecting ---------------------------------------------------------------------------------------------------

    def _connected(self) -> ClientConnection:
        if self._connection is not None and self._connection.protocol.state is State.OPEN:
            return self._connection
        self._drop()
        deadline = time.monotonic() + self._connect_timeout_s
        while True:
            try:
                return self._open(deadline)
            except BaseException as error:
                self._drop()
                refusal = self._refusal(error)
                if refusal is not None:
                    raise refusal from error
                if not isinstance(error, (OSError, EOFError, InvalidHandshake, ConnectionClosed)):
                    raise
                if time.monotonic() + self._retry_interval_s >= deadline:
                    raise ConnectionLost(
                        f"no policy server at {self.url} after {self._connect_timeout_s:g} s (connect_timeout_s): "
                        f"{error or type(error).__name__}. Start one with `fla serve CHECKPOINT --port {self._port}`, "
                        "or check the address"
                    ) from error
            time.sleep(self._retry_interval_s)

    def _open(self, deadline: float) -> ClientConnection:
        def left_s() -> float:
            return max(deadline - time.monotonic(), 0.01)

        # Our own socket: robots speak to their server directly, never through a proxy of the environment.
        sock = socket.create_connection((self._host, self._port), timeout=left_s())
        sock.settimeout(None)
        _limit_sends(sock, self._infer_timeout_s)
        self._connection = self._stack.enter_context(
            connect(
                self.url,
                sock=sock,
                compression=None,
                max_size=self._max_message_bytes,
                additional_headers=self._headers,
                open_timeout=left_s(),
                close_timeout=_CLOSE_TIMEOUT_S,
                # openpi's server answers no pings while it infers, or compiles for a minute; `infer` has its own limit.
                ping_interval=None,
            )
        )
        self._session.greet(self._connection.recv(left_s()))
        return self._connection

    def _refusal(self, error: BaseException) -> FlaError | None:
        """What waiting cannot mend, said clearly; None when it may be worth trying again."""
        if isinstance(error, socket.gaierror):
            return ConnectionLost(f"the host name in {self.url} cannot be resolved: {error.strerror}")
        if isinstance(error, ssl.SSLCertVerificationError):
            return ServerError(f"the certificate of {self.url} is not trusted: {error.verify_message}")
        if isinstance(error, InvalidStatus) and (status := error.response.status_code) < 500:
            if status in (401, 403):
                return ServerError(f"{self.url} wants a valid token (HTTP {status}); pass token=... to PolicyClient")
            return ServerError(f"{self.url} speaks HTTP but is no policy server: it answered with status {status}")
        return None

    def _drop(self) -> None:
        self._connection = None
        self._stack.close()


def _parse(url: str) -> tuple[str, str, int]:
    """The full URL, the host and the port."""
    given = url if "://" in url else f"ws://{url}"
    try:
        parts = urlsplit(given)
        host, port = parts.hostname, parts.port
    except ValueError:
        parts, host, port = urlsplit(""), None, None
    if parts.scheme not in ("ws", "wss") or not host:
        raise ConfigError(
            f"{url!r} is no address of a policy server; write it as 'ws://192.168.1.20:8000' or 'gpu-box'"
        )
    if port is None and "://" not in url:
        port, given = DEFAULT_PORT, f"{given}:{DEFAULT_PORT}"
    return given, host, port or (443 if parts.scheme == "wss" else 80)


def _limit_sends(sock: socket.socket, limit_s: float) -> None:
    """Let a send fail when the other side takes nothing for `limit_s` seconds; `recv` has its own limit."""
    if hasattr(socket, "SO_SNDTIMEO") and struct.calcsize("ll") == struct.calcsize("q") * 2:
        microseconds = max(int(limit_s * 1e6), 1)
        limit = struct.pack("ll", microseconds // 10**6, microseconds % 10**6)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, limit)
