"""`PolicyServer`: answers observations with actions over websockets, openpi-compatible.

The event loop only moves bytes; decoding, inference and encoding happen on one model thread. So pings and health
checks are answered during a minute of compilation, and requests of many robots queue in the order in which they came.

What a client gets when something is wrong is a text frame with the reason, which openpi's client raises as a
`RuntimeError` and ours as a `ServerError`. Where the request was at fault (`FlaError`: a wrong shape, a missing camera,
a damaged message) the connection stays open: each websocket message stands for itself, so both sides know that the next
one is a new request, and a client that expects the connection to be closed, as openpi's server does, loses nothing.
Where the policy failed unexpectedly the connection is closed with code 1011, as openpi does: nothing says that asking
again would help. Tracebacks stay in the server's log.
"""

import asyncio
import errno
import logging
import re
import signal
import socket
import time
from collections.abc import Awaitable, Callable, Generator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from typing import Any, cast

from websockets.asyncio.server import Server, ServerConnection
from websockets.asyncio.server import serve as open_server
from websockets.exceptions import ConnectionClosed
from websockets.frames import CloseCode
from websockets.protocol import State

from fla_sdk import wire
from fla_sdk.embodiment import Embodiment
from fla_sdk.errors import ConfigError, FlaError, ObservationError
from fla_sdk.policy.interface import PolicyLike
from fla_sdk.serving.access import admit, check_bind
from fla_sdk.serving.hello import describe

log = logging.getLogger(__name__)

_FOLDERS = re.compile(r"(?<![\w./])(?:[A-Za-z]:)?(?:[/\\][^\s/\\'\":,;]+)+[/\\]")
_LONGEST_REASON = 2000


class PolicyServer:
    """One policy on one port. Stateless between requests; every connection may ask for any embodiment."""

    def __init__(
        self,
        policy: PolicyLike,
        *,
        host: str = "127.0.0.1",
        port: int = 8000,
        token: str | None = None,
        allow_public: bool = False,
        max_message_bytes: int = wire.MAX_BYTES,
        embodiments: Mapping[str, Embodiment] | None = None,
        default_embodiment: str | None = None,
        horizon: int | None = None,
        on_call: Callable[[str, float], None] | None = None,
    ) -> None:
        """`port` 0 takes a free one. `token` is what clients must present; a public `host` needs one or `allow_public`.

        `embodiments`, `default_embodiment` and `horizon` are announced to clients under the metadata key `fla`; without
        embodiments the metadata is the policy's own. `on_call(embodiment, milliseconds)` is called on the model thread
        after each answered request.

        Raises `ConfigError` on a bind that nobody permitted, or metadata that cannot be sent.
        """
        check_bind(host, token=token, allow_public=allow_public)
        if not 0 <= port <= 65535:
            raise ConfigError(f"port is {port}, must be 0 (any free one) to 65535")
        self._policy = policy
        self._host, self._port = host, port
        self._token = token
        self._max_message_bytes = max_message_bytes
        self._default_embodiment = default_embodiment
        self._on_call = on_call
        metadata = dict(policy.metadata)
        if embodiments:
            metadata["fla"] = describe(embodiments, default_embodiment=default_embodiment, horizon=horizon)
        try:
            self._greeting = wire.pack(metadata)
        except FlaError as error:
            raise ConfigError(f"the policy's metadata cannot be sent to clients: {error}") from error

    def run(self, *, ready: Callable[[str], None] | None = None) -> None:
        """Serve until SIGINT or SIGTERM; the inference under way is finished, a second signal does not wait for it.

        `ready(url)` is called once clients can connect. Raises `ConfigError` when the port cannot be opened.
        """
        asyncio.run(self._run_until_signal(ready))

    async def serve_until(self, stop: asyncio.Event, *, ready: Callable[[str], None] | None = None) -> None:
        """Serve on the running event loop until `stop` is set."""
        turn = asyncio.Lock()
        with ThreadPoolExecutor(1, thread_name_prefix="fla-model") as model_thread:
            server = await self._open(partial(self._converse, turn, model_thread))
            try:
                if ready is not None:
                    ready(_url(server))
                await stop.wait()
            finally:
                server.close()
                await server.wait_closed()

    async def _run_until_signal(self, ready: Callable[[str], None] | None) -> None:
        stop = asyncio.Event()
        with _stop_signals(stop):
            await self.serve_until(stop, ready=ready)

    async def _open(self, handler: Callable[[ServerConnection], Awaitable[None]]) -> Server:
        library_log = logging.getLogger(f"{__name__}.websockets")
        library_log.addFilter(_worth_reading)
        try:
            return await open_server(
                handler,
                self._host,
                self._port,
                process_request=partial(admit, token=self._token),
                compression=None,
                max_size=self._max_message_bytes,
                # A client that sends ahead is read no further than one message, so it cannot fill the memory.
                max_queue=1,
                logger=library_log,
            )
        except OSError as error:
            raise ConfigError(_why_no_port(error, self._host, self._port)) from error

    async def _converse(
        self, turn: asyncio.Lock, model_thread: ThreadPoolExecutor, connection: ServerConnection
    ) -> None:
        """One client from greeting to goodbye."""
        loop = asyncio.get_running_loop()
        previous_ms: float | None = None
        try:
            await connection.send(self._greeting)
            async for frame in connection:
                received = time.perf_counter()
                try:
                    async with turn:
                        if connection.state is not State.OPEN:  # gave up while it waited for its turn
                            return
                        reply = await loop.run_in_executor(model_thread, self._answer, frame, previous_ms)
                except FlaError as error:
                    await connection.send(_reason(error))
                    continue
                await connection.send(reply)
                previous_ms = (time.perf_counter() - received) * 1e3
        except ConnectionClosed:
            pass
        except Exception as error:
            log.exception("the policy failed")
            await _give_up(connection, f"{type(error).__name__}: {_reason(error)}")

    def _answer(self, frame: str | bytes, previous_ms: float | None) -> bytes:
        """The reply to one request. Runs on the model thread."""
        if isinstance(frame, str):
            raise ObservationError("an observation must come in a binary frame, this one was text")
        observation = wire.unpack(frame, max_bytes=self._max_message_bytes)
        if not isinstance(observation, dict):
            raise ObservationError(f"an observation is a map of names to values, got a {type(observation).__name__}")
        observation = cast("dict[str, Any]", observation)
        started = time.perf_counter()
        answer = dict(self._policy.infer(observation))
        infer_ms = (time.perf_counter() - started) * 1e3
        timing = {"infer_ms": infer_ms}
        if previous_ms is not None:
            timing["prev_total_ms"] = previous_ms
        try:
            reply = wire.pack({**answer, "server_timing": timing})
        except FlaError as error:  # the policy's fault, not the request's
            raise TypeError(f"the policy's answer cannot be sent: {error}") from error
        if self._on_call is not None:
            try:
                self._on_call(str(observation.get("embodiment") or self._default_embodiment or "unnamed"), infer_ms)
            except Exception:
                log.exception("an observer of requests failed; the client got its answer")
        return reply


def serve(policy: PolicyLike, *, ready: Callable[[str], None] | None = None, **options: Any) -> None:
    """Serve `policy` until SIGINT or SIGTERM. `options` are those of `PolicyServer`.

    Prints `serving on ws://HOST:PORT` once clients can connect, unless `ready` does something else with the URL: a
    parent process can wait for that line.
    """
    PolicyServer(policy, **options).run(ready=ready or _announce)


def _announce(url: str) -> None:
    print(f"serving on {url}", flush=True)


def _worth_reading(record: logging.LogRecord) -> bool:
    """Port scanners and callers that hang up are no news, but websockets 14 to 16 log each with a traceback."""
    return record.msg != "opening handshake failed"


async def _give_up(connection: ServerConnection, reason: str) -> None:
    """Tell why, then close with 1011. The client may be gone already."""
    try:
        await connection.send(reason)
        await connection.close(CloseCode.INTERNAL_ERROR, "Internal server error. Reason included in previous frame.")
    except ConnectionClosed:
        pass


def _reason(error: Exception) -> str:
    """The error's text for a stranger: no folders of this machine, no more than a screenful."""
    text = str(error) or type(error).__name__
    if len(text) > _LONGEST_REASON:
        text = text[:_LONGEST_REASON] + " ..."
    return _FOLDERS.sub("", text)


def _url(server: Server) -> str:
    host, port = next(iter(server.sockets)).getsockname()[:2]
    return f"ws://[{host}]:{port}" if ":" in host else f"ws://{host}:{port}"


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
