"""`PolicyServer`: answers observations with actions over websockets, openpi-compatible.

The event loop moves bytes and reads messages, which takes a fraction of the time that receiving them does; policies are
asked on one model thread. So pings and health checks are answered during a minute of compilation. `Service` is what
happens in between, `Conversation` what a client hears of it.
"""

import asyncio
import errno
import logging
import math
import signal
import socket
import ssl
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from typing import Any

from websockets.asyncio.server import Server, ServerConnection
from websockets.asyncio.server import serve as open_server
from websockets.exceptions import ConnectionClosed

from fla_sdk.errors import ConfigError
from fla_sdk.policy.interface import PolicyLike
from fla_sdk.serving.access import check_bind, is_loopback
from fla_sdk.serving.door import Door
from fla_sdk.serving.limits import Limits
from fla_sdk.serving.metrics import Metrics
from fla_sdk.serving.observer import Observer
from fla_sdk.serving.reload import check_replacement
from fla_sdk.serving.served_policy import ServedPolicy
from fla_sdk.serving.service import Service
from fla_sdk.serving.status import Status
from fla_sdk.serving.tokens import Token, Tokens

TRY_AGAIN_LATER = 1013


class PolicyServer:
    """One policy on one port. Every connection may ask for any of its embodiments."""

    def __init__(
        self,
        policy: PolicyLike,
        *,
        host: str = "127.0.0.1",
        port: int = 8000,
        token: str | Tokens | None = None,
        tls: ssl.SSLContext | None = None,
        allow_public: bool = False,
        limits: Limits | None = None,
        observers: Sequence[Observer] = (),
        queue_capacity: int = 256,
        batch_wait_ms: float = 0.0,
        drain_s: float = 10.0,
        metrics: Metrics | None = None,
    ) -> None:
        """`port` 0 takes a free one. `token` is what clients must present; a public `host` needs one or `allow_public`.

        `limits` bound what a client may send; at the end, requests that came are answered for up to `drain_s`. The
        other options are those of `Service`.

        Raises `ConfigError` on a bind that nobody permitted, or metadata that cannot be sent.
        """
        self._tokens = Tokens([Token(secret=token)]) if isinstance(token, str) else token
        check_bind(host, has_token=self._tokens is not None, allow_public=allow_public)
        if not 0 <= drain_s < math.inf:
            raise ConfigError(f"drain_s is {drain_s}, must be 0 or more")
        if not 0 <= port <= 65535:
            raise ConfigError(f"port is {port}, must be 0 (any free one) to 65535")
        self._host, self._port = host, port
        self._tls, self._drain_s = tls, drain_s
        self._loop: asyncio.AbstractEventLoop | None = None
        self.metrics = metrics or Metrics()
        self.status = Status(self.metrics)
        self.service = Service(
            policy,
            limits=limits,
            observers=[self.metrics, self.status, *observers],
            queue_capacity=queue_capacity,
            batch_wait_ms=batch_wait_ms,
        )

    def run(self, *, ready: Callable[[str], None] | None = None) -> None:
        """Serve until SIGINT or SIGTERM, then drain: requests that came are answered, new ones refused, for at most
        `drain_s` and the inference under way. A second signal ends the process at once.

        Prints `serving on ws://HOST:PORT` once clients can connect, unless there is `ready(url)` to call. Raises
        `ConfigError` when the port cannot be opened.
        """
        asyncio.run(self._run_until_signal(ready or _announce))

    def replace(self, policy: PolicyLike) -> None:
        """Serve another policy from the next request on; sessions stay. From any thread, while serving.

        Raises `ConfigError` when it is for other robots, or answers them otherwise than they were told.
        """
        check_replacement(self.service.served, ServedPolicy.of(policy))
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self.service.replace, policy)

    async def serve_until(self, stop: asyncio.Event, *, ready: Callable[[str], None] | None = None) -> None:
        """Serve on the running event loop until `stop` is set."""
        self._loop, server = asyncio.get_running_loop(), await self._open()
        with self.service.running():
            try:
                if ready is not None:
                    ready(_url(server, "ws" if self._tls is None else "wss"))
                await stop.wait()
                await self.service.drain(self._drain_s)
            finally:
                self._loop = None
                server.close()
                await server.wait_closed()

    async def _run_until_signal(self, ready: Callable[[str], None]) -> None:
        stop = asyncio.Event()
        with _stop_signals(stop):
            await self.serve_until(stop, ready=ready)

    async def _open(self) -> Server:
        library_log = logging.getLogger(f"{__name__}.websockets")
        library_log.addFilter(_worth_reading)
        door = Door(
            self.service,
            tokens=self._tokens,
            local=is_loopback(self._host),
            metrics=self.metrics,
            status=self.status,
        )
        try:
            return await open_server(
                self._converse,
                self._host,
                self._port,
                process_request=door,
                ssl=self._tls,
                compression=None,
                max_size=self.service.limits.message_bytes,
                # A client that sends ahead is read no further than one message, so it cannot fill the memory.
                max_queue=1,
                logger=library_log,
            )
        except OSError as error:
            raise ConfigError(_why_no_port(error, self._host, self._port)) from error

    async def _converse(self, connection: ServerConnection) -> None:
        limit = self.service.limits.connections
        if limit is not None and len(self.service.clients) >= limit:  # many came at the same moment
            await connection.close(TRY_AGAIN_LATER, f"this server takes {limit} connections")
            return
        conversation = self.service.conversation(_peer(connection))
        closed = asyncio.ensure_future(connection.wait_closed())
        closed.add_done_callback(lambda _: conversation.hang_up())
        try:
            await conversation.run(connection)
        except ConnectionClosed:
            pass
        finally:
            closed.cancel()
            conversation.hang_up()


def serve(policy: PolicyLike, *, ready: Callable[[str], None] | None = None, **options: Any) -> None:
    """Serve `policy` until SIGINT or SIGTERM. `options` are those of `PolicyServer`, `ready` is that of its `run`.

    A parent process can wait for the line that `run` prints.
    """
    PolicyServer(policy, **options).run(ready=ready)


def _announce(url: str) -> None:
    print(f"serving on {url}", flush=True)


def _worth_reading(record: logging.LogRecord) -> bool:
    """Port scanners and callers that hang up are no news, but websockets 14 to 16 log each with a traceback."""
    return record.msg != "opening handshake failed"


def _peer(connection: ServerConnection) -> str:
    address: Any = connection.remote_address
    return f"{address[0]}:{address[1]}" if isinstance(address, tuple) else "unknown"


def _url(server: Server, scheme: str) -> str:
    host, port = next(iter(server.sockets)).getsockname()[:2]
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"


def _why_no_port(error: OSError, host: str, port: int) -> str:
    if error.errno == errno.EADDRINUSE:
        return (
            f"port {port} on {host} is already in use, perhaps by another policy server; "
            "stop that one or choose another port with --port (0 takes a free one)"
        )
    if error.errno == errno.EACCES:
        return f"port {port} may not be opened by this user; choose one above 1023 with --port (0 takes a free one)"
    if isinstance(error, socket.gaierror) or error.errno == errno.EADDRNOTAVAIL:
        return f"host {host!r} is no address of this machine; use 127.0.0.1 (local), 0.0.0.0 (all), or one of its own"
    return f"cannot open port {port} on {host}: {error.strerror or error}"


@contextmanager
def _stop_signals(stop: asyncio.Event) -> Generator[None, None, None]:
    """Set `stop` on the first SIGINT or SIGTERM; the second one ends the process at once."""
    loop = asyncio.get_running_loop()
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def on_first(number: signal.Signals) -> None:
        stop.set()
        loop.remove_signal_handler(number)
        signal.signal(number, signal.SIG_DFL)

    for number in before:
        loop.add_signal_handler(number, on_first, number)
    try:
        yield
    finally:
        for number, handler in before.items():
            loop.remove_signal_handler(number)
            signal.signal(number, handler)
