"""`Session`: one robot's conversation with a policy server, without any input or output.

openpi-compatible: the server greets with a binary frame of metadata; then each binary request gets one reply, which is
binary when it holds actions and text when it holds the reason why there are none. A server of ours, which says so in
its greeting, is told who we are first, and gives its reasons with a code (docs/protocol.md).
"""

import logging
import time
from collections.abc import Mapping
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, Union, cast

import numpy as np
from numpy.typing import NDArray

from fla_sdk import wire
from fla_sdk.client.images import Encode, compressed
from fla_sdk.errors import (
    ConfigError,
    ConnectionLost,
    ObservationError,
    Overloaded,
    ProtocolError,
    ServerError,
    UnknownNameError,
)
from fla_sdk.schema import describe, schema_of

if TYPE_CHECKING:
    from fla_sdk.embodiment import Embodiment

log = logging.getLogger("fla_sdk.client")

PROTOCOL = 1
EXECUTIONS = ("synchronous", "receding", "ensemble", "asynchronous")


class Session:
    """Builds requests and interprets frames; whoever owns the socket moves the bytes.

    Of every connection: `greet` with the first frame; where `hello` has something to send, send it and `welcome` the
    answer; then `request` and `answer` in turns. Another connection of the same session resumes it.
    """

    def __init__(
        self,
        url: str,
        *,
        embodiment: Union[str, "Embodiment", None] = None,
        execution: str = "synchronous",
        guidance: float | None = None,
        encode: Encode | None = None,
        max_message_bytes: int = wire.MAX_BYTES,
    ) -> None:
        """`url` is for messages; `embodiment` names the robot to a server that knows several, and a whole description
        is compared with the server's. `encode` makes JPEG of images for a server that takes them.
        """
        if execution not in EXECUTIONS:
            raise ConfigError(f"execution is {execution!r}, must be one of {', '.join(EXECUTIONS)}")
        self.url = url
        self.metadata: dict[str, Any] = {}
        self.session_id: str | None = None
        """What the server calls this session; None before it was welcomed, and with servers of other kinds."""
        self.resumed = False
        """Whether the server still knew the session when we came back."""
        self._own = None if embodiment is None or isinstance(embodiment, str) else embodiment
        self._embodiment = self._own.name if self._own is not None else cast("str | None", embodiment)
        self._execution, self._guidance = execution, guidance
        self._encode = encode
        self._max_message_bytes = max_message_bytes
        self._welcome: dict[str, Any] = {}
        self._requests = 0

    # --- Beginning ----------------------------------------------------------------------------------------------------

    def greet(self, frame: str | bytes) -> dict[str, Any]:
        """Take the server's first frame; returns its metadata.

        Raises `UnknownNameError` when the server lists its embodiments and ours is not among them, `ProtocolError` when
        it speaks another version of the protocol.
        """
        self._welcome = {}
        self.metadata = self.answer(frame)
        known = self._embodiments()
        if self._embodiment is not None and known is not None and self._embodiment not in known:
            raise UnknownNameError("embodiment", self._embodiment, known)
        if self.protocol is not None and self.protocol != PROTOCOL:
            raise ProtocolError(
                f"{self.url} speaks version {self.protocol} of FLA's protocol, this client version {PROTOCOL}; "
                f"update the {'client' if self.protocol > PROTOCOL else 'server'}"
            )
        return self.metadata

    def hello(self) -> bytes | None:
        """The frame that says who we are; None for a server that would not understand it."""
        if self.protocol is None:
            return None
        schema = robot = None
        if self._own is not None:
            schema, robot = schema_of(self._own), describe(self._own)
        hello = {
            "protocol": PROTOCOL,
            "client": f"fla-sdk {version('fla-sdk')} python",
            "embodiment": self._embodiment,
            "schema": schema,
            "capabilities": ["images"] if self._encode is not None else [],
            "session": self.session_id,
            "now_s": time.time(),
            "execution": self._execution,
            "guidance": self._guidance,
            "robot": robot,
        }
        return wire.pack({"fla": {"hello": hello}})

    def welcome(self, frame: str | bytes) -> None:
        """Take the answer to `hello`.

        Raises `ServerError`, which prints both sides where the robot is not the one that the server knows.
        """
        hello: Any = self._fla(self.answer(frame)).get("hello")
        if not isinstance(hello, dict):
            raise ProtocolError(f"{self.url} answered a hello with something else")
        self._welcome = cast("dict[str, Any]", hello)
        self.session_id = cast("str | None", self._welcome.get("session"))
        self.resumed = bool(self._welcome.get("resumed"))
        for warning in self._welcome.get("warnings") or ():
            log.warning("%s: %s", self.url, warning)

    # --- Asking -------------------------------------------------------------------------------------------------------

    def request(
        self,
        observation: Mapping[str, Any],
        *,
        rest: NDArray[np.floating] | None = None,
        delay: int = 0,
        deadline_ms: float | None = None,
    ) -> bytes:
        """The frame that asks for actions. An observation that has its own `embodiment` entry keeps it.

        Raises `ObservationError` when the observation is no mapping, `ProtocolError` when an entry cannot be sent,
        `ConfigError` on a `rest` for a server that cannot continue a chunk.
        """
        if not isinstance(observation, Mapping):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise ObservationError(
                f"an observation is a mapping of names to values, got a {type(observation).__name__}"
            )
        entries = dict(observation)
        # A server of openpi's own may hand unknown entries to transforms that refuse them.
        if self._embodiment is not None and "fla" in self.metadata:
            entries.setdefault("embodiment", self._embodiment)
        if self._encode is not None and "images" in self.features:
            entries = compressed(entries, self._encode)
        if rest is not None and not self.continues:
            raise ConfigError(
                f"{self.url} cannot continue a chunk that is being executed (real-time chunking); ask without a rest"
            )
        if self.protocol is not None:
            self._requests += 1
            extra: dict[str, Any] = {"request": self._requests, "observed_s": time.monotonic()}
            if rest is not None:
                extra |= {"rest": np.ascontiguousarray(rest), "delay": int(delay)}
            if deadline_ms is not None:
                extra["deadline_ms"] = float(deadline_ms)
            entries["fla"] = extra
        return wire.pack(entries)

    def answer(self, frame: str | bytes) -> dict[str, Any]:
        """The map in a frame from the server; raises `ServerError` with the server's reason where there is one."""
        if isinstance(frame, str):
            raise ServerError(f"the policy server at {self.url} answered: {frame.strip()}")
        reply = wire.unpack(frame, max_bytes=self._max_message_bytes)
        if not isinstance(reply, dict):
            raise ProtocolError(f"{self.url} sent a {type(reply).__name__} where a policy server sends a map")
        reply = cast("dict[str, Any]", reply)
        fla = self._fla(reply)
        if isinstance(fla.get("error"), dict):
            raise self._error(cast("dict[str, Any]", fla["error"]))
        if fla.get("request") not in (None, self._requests):
            raise ProtocolError(f"{self.url} answered request {fla['request']} when asked for {self._requests}")
        return reply

    # --- What the server said -----------------------------------------------------------------------------------------

    @property
    def protocol(self) -> int | None:
        """Version of FLA's protocol that the server speaks besides openpi's; None when it does not say."""
        protocol: Any = self._fla(self.metadata).get("protocol")
        return protocol if isinstance(protocol, int) else None

    @property
    def features(self) -> frozenset[str]:
        """What the server can do besides: `rest`, `guidance`, `images`, `deadline`."""
        features: Any = self._said("features")
        return frozenset(str(one) for one in cast("list[Any]", features)) if isinstance(features, list) else frozenset()

    @property
    def limits(self) -> Mapping[str, Any]:
        """What the server takes at most; empty when it does not say."""
        limits: Any = self._said("limits")
        return cast("dict[str, Any]", limits) if isinstance(limits, dict) else {}

    @property
    def robot(self) -> Mapping[str, Any] | None:
        """The server's description of this robot: units, limits, cameras, rate; None when it has none."""
        if isinstance(self._welcome.get("robot"), dict):
            return cast("dict[str, Any]", self._welcome["robot"])
        fla = self._fla(self.metadata)
        name = self._embodiment or fla.get("default_embodiment")
        robot = (self._listed() or {}).get(name)
        return cast("dict[str, Any]", robot) if isinstance(robot, dict) else None

    @property
    def horizon(self) -> int | None:
        """Actions in a chunk; None when the server does not say."""
        horizon: Any = (self.robot or {}).get("horizon")
        return horizon if isinstance(horizon, int) else None

    @property
    def continues(self) -> bool:
        """Whether the server can continue a chunk that is being executed (`rest`)."""
        return "rest" in self.features and (self.robot or {}).get("rest_mode") != "none"

    def _said(self, key: str) -> Any:
        """The answer to the hello speaks of this robot, the greeting of the server."""
        return self._welcome.get(key) or self._fla(self.metadata).get(key)

    def _embodiments(self) -> list[str] | None:
        """Names that the server lists; None when it is not one of ours."""
        listed = self._listed()
        return None if listed is None else [str(name) for name in listed]

    def _listed(self) -> dict[Any, Any] | None:
        listed: Any = self._fla(self.metadata).get("embodiments")
        return cast("dict[Any, Any]", listed) if isinstance(listed, dict) else None

    @staticmethod
    def _fla(reply: Mapping[str, Any]) -> dict[str, Any]:
        fla: Any = reply.get("fla")
        return cast("dict[str, Any]", fla) if isinstance(fla, dict) else {}

    def _error(self, error: Mapping[str, Any]) -> ServerError:
        code = str(error.get("code"))
        message = f"the policy server at {self.url} answered: {str(error.get('message', '')).strip()}"
        if code in ("overloaded", "rate"):
            after_ms = error.get("retry_after_ms")
            return Overloaded(message, retry_after_s=(after_ms or 100.0) / 1e3, code=code)
        if code == "draining":
            return ConnectionLost(message, code=code)
        return ServerError(message, code=code)
