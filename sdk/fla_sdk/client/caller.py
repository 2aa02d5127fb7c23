"""`Caller`: what the two clients share, which is all but the moving of bytes: options, limits and what errors mean."""

import asyncio
import math
import socket
import ssl
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal, Union
from urllib.parse import urlsplit

from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus

from fla_sdk import wire
from fla_sdk.client.backoff import Backoff
from fla_sdk.client.images import jpeg_encoder
from fla_sdk.client.session import Session
from fla_sdk.errors import ConfigError, ConnectionLost, FlaError, Overloaded, ServerError

if TYPE_CHECKING:
    from fla_sdk.embodiment import Embodiment

DEFAULT_PORT = 8000
CLOSE_TIMEOUT_S = 1.0
_MESSAGE_TOO_BIG = 1009
_STAYS_OPEN = ("observation", "overloaded", "rate")
"""Codes of errors after which a server goes on listening; after any other a fresh connection is the surer way."""
# Python 3.10 has two TimeoutErrors.
_WORTH_ANOTHER_TRY = (
    *(OSError, EOFError, TimeoutError, asyncio.TimeoutError),
    *(InvalidHandshake, ConnectionClosed, Overloaded, ConnectionLost),
)


class Caller:
    """Options and properties of both clients."""

    def __init__(
        self,
        url: str,
        *,
        embodiment: Union[str, "Embodiment", None] = None,
        token: str | None = None,
        execution: str = "synchronous",
        guidance: float | None = None,
        images: Literal["raw", "jpeg"] = "raw",
        connect_timeout_s: float = 30.0,
        infer_timeout_s: float = 120.0,
        retry_interval_s: float = 0.5,
        retry_longest_s: float = 8.0,
        max_message_bytes: int = wire.MAX_BYTES,
    ) -> None:
        """`url` is `ws://host:port`, `wss://host:port` or `host[:port]` (port 8000 unless given).

        `embodiment` tells a server of several robots which one this is. The name is enough; with an `Embodiment` the
        server compares, and refuses a robot whose numbers mean something else, with both sides.

        `execution` tells operators how chunks are executed, `guidance` asks for a weight of classifier-free guidance.
        `images="jpeg"` sends camera images compressed to servers that take them: fewer bytes for some processor time
        and slightly other pixels.

        Until `connect_timeout_s` has passed, a server that is not up is tried again: at first about every
        `retry_interval_s`, then less and less often, at least every `retry_longest_s`. `infer_timeout_s` bounds one
        `infer`; the first one may include the compilation of the model. A longer reply than `max_message_bytes` is
        refused.

        Raises `ConfigError` on a malformed `url` or a limit that is none; and see the client itself.
        """
        for name, seconds in (
            ("connect_timeout_s", connect_timeout_s),
            ("infer_timeout_s", infer_timeout_s),
            ("retry_interval_s", retry_interval_s),
            ("retry_longest_s", retry_longest_s),
        ):
            if not 0 < seconds < math.inf:
                raise ConfigError(f"{name} is {seconds}, must be above 0 and finite (seconds)")
        if images not in ("raw", "jpeg"):
            raise ConfigError(f'images is {images!r}, must be "raw" or "jpeg"')
        self.url, self._host, self._port = _parse(url)
        self._session = Session(
            self.url,
            embodiment=embodiment,
            execution=execution,
            guidance=guidance,
            encode=jpeg_encoder() if images == "jpeg" else None,
            max_message_bytes=max_message_bytes,
        )
        self._headers = {"Authorization": f"Api-Key {token}"} if token is not None else {}
        self._connect_timeout_s, self._infer_timeout_s = connect_timeout_s, infer_timeout_s
        self._backoff = Backoff(retry_interval_s, retry_longest_s)
        self._max_message_bytes = max_message_bytes
        self._begin()

    def _begin(self) -> None:
        """What a client does besides when it is built."""

    @property
    def metadata(self) -> Mapping[str, Any]:
        """What the server said about itself when the connection was opened last."""
        return self._session.metadata

    @property
    def horizon(self) -> int | None:
        """Actions in a chunk for this embodiment; None when the server does not say."""
        return self._session.horizon

    @property
    def robot(self) -> Mapping[str, Any] | None:
        """The server's description of this robot; None when it does not say."""
        return self._session.robot

    @property
    def features(self) -> frozenset[str]:
        """What the server can do besides answering: `rest`, `guidance`, `images`, `deadline`."""
        return self._session.features

    @property
    def limits(self) -> Mapping[str, Any]:
        """What the server takes at most."""
        return self._session.limits

    @property
    def continues(self) -> bool:
        """Whether `infer` may be given a `rest`."""
        return self._session.continues

    @property
    def session_id(self) -> str | None:
        """What the server calls this session, which a new connection resumes."""
        return self._session.session_id

    # --- What the socket needs ----------------------------------------------------------------------------------------

    def _options(self) -> dict[str, Any]:
        """Of `websockets.connect`, in both worlds."""
        return {
            "compression": None,
            "max_size": self._max_message_bytes,
            "additional_headers": self._headers,
            "close_timeout": CLOSE_TIMEOUT_S,
            # openpi's server answers no pings while it infers, or compiles for a minute; `infer` has its own limit.
            "ping_interval": None,
        }

    def _next_attempt_s(self, error: BaseException, deadline: float) -> float:
        """How long to wait after `error` before connecting again; raises what to tell when that would not help.

        `deadline` is in `time.monotonic()`.
        """
        refusal = self._refusal(error)
        if refusal is not None:
            raise refusal from error
        if not isinstance(error, _WORTH_ANOTHER_TRY):
            raise error
        wait_s = self._backoff.next_s(at_least_s=error.retry_after_s if isinstance(error, Overloaded) else 0.0)
        if time.monotonic() + wait_s >= deadline:
            raise ConnectionLost(
                f"no policy server at {self.url} after {self._connect_timeout_s:g} s (connect_timeout_s): "
                f"{error or type(error).__name__}. Start one with `fla serve CHECKPOINT --port {self._port}`, "
                "or check the address"
            ) from error
        return wait_s

    def _refusal(self, error: BaseException) -> FlaError | None:
        """What waiting cannot mend, said clearly; None when it may be worth trying again."""
        if isinstance(error, socket.gaierror):
            return ConnectionLost(f"the host name in {self.url} cannot be resolved: {error.strerror}")
        if isinstance(error, ssl.SSLCertVerificationError):
            return ServerError(f"the certificate of {self.url} is not trusted: {error.verify_message}")
        if isinstance(error, InvalidStatus) and (status := error.response.status_code) < 500 and status != 429:
            if status in (401, 403):
                said = (error.response.body or b"").decode(errors="replace").strip()[:300]
                reason = f": {said}" if said else ""
                return ServerError(
                    f"{self.url} wants a valid token (HTTP {status}); pass token=... to the client{reason}"
                )
            return ServerError(f"{self.url} speaks HTTP but is no policy server: it answered with status {status}")
        return None

    def _unanswered(self) -> ConnectionLost:
        return ConnectionLost(f"{self.url} did not answer within {self._infer_timeout_s:g} s (infer_timeout_s)")

    def _closed(self, error: ConnectionClosed, request: bytes) -> ServerError:
        if error.rcvd is not None and error.rcvd.code == _MESSAGE_TOO_BIG:
            return ServerError(
                f"{self.url} refused an observation of {len(request)} bytes as too big; send smaller images, "
                "or raise the server's message limit"
            )
        return ConnectionLost(f"{self.url} closed the connection before it answered: {error}")


def stays_open(error: BaseException) -> bool:
    """Whether the connection is still good after `error`."""
    return isinstance(error, ServerError) and error.code in _STAYS_OPEN


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
