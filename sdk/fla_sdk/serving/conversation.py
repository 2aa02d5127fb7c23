"""`Conversation`: one client from greeting to goodbye. Whoever owns the socket moves the frames.

What a client gets when something is wrong is the reason: a map with a code, if it said hello, else a text frame, which
openpi's client raises as a `RuntimeError`. Where the request was at fault the connection stays open: each message
stands for itself, so both sides know that the next one is a new request, and a client that expects the connection to be
closed, as openpi's server does, loses nothing. Where the policy failed unexpectedly the connection is closed with code
1011, as openpi does: nothing says that asking again would help. Tracebacks stay in the server's log.
"""

import asyncio
import logging
import time
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any, Protocol, cast

import attrs

from fla_sdk import wire
from fla_sdk.errors import FlaError, ProtocolError
from fla_sdk.policy.interface import Request
from fla_sdk.serving.hello import check_robot, read_hello, welcome
from fla_sdk.serving.images import check_names, decompressed, has_images
from fla_sdk.serving.marks import Marks, read_marks
from fla_sdk.serving.observer import Client, Exchange, Timing
from fla_sdk.serving.queue import Ticket
from fla_sdk.serving.rate import Rate
from fla_sdk.serving.refusal import Refusal, code_of, reason_of

if TYPE_CHECKING:
    from fla_sdk.serving.service import Service

log = logging.getLogger(__name__)

FAILED = 1011
"""The websocket's code for a failure of the server."""


class Socket(Protocol):
    """What a conversation needs of a websocket."""

    def __aiter__(self) -> "AsyncIterator[str | bytes]":
        """The frames that come in."""
        ...

    async def send(self, message: "str | bytes", /) -> None: ...

    async def close(self, code: int = 1000, reason: str = "") -> None: ...


class Conversation:
    """Made by `Service.conversation`. `hang_up` may be called at any time, and must be called at the end."""

    def __init__(self, service: "Service", client: Client) -> None:
        self.client = client
        self._service = service
        self._ticket: Ticket | None = None
        self._rate = Rate(service.limits.requests_per_s)
        self._previous_ms: float | None = None
        self._inferred_s = 0.0
        self._open = True
        self._answered = False
        """The frame of this moment gets actions."""
        self._coded = False
        """Whether the client understands errors with a code."""
        self._asked: int | None = None
        """What it calls the request that is answered now."""

    async def run(self, socket: Socket) -> None:
        """Greet, then answer one frame after the other until the socket ends. Raises what the socket raises."""
        await socket.send(self._service.greeting)
        async for frame in socket:
            with self._service.at_work():
                if not await self._turn(socket, frame):
                    return

    def hang_up(self) -> None:
        """The socket is closed: a request that still waits is not computed."""
        if self._open:
            self._open = False
            self._service.left(self.client, self._ticket)

    # --- One frame ----------------------------------------------------------------------------------------------------

    async def _turn(self, socket: Socket, frame: "str | bytes") -> bool:
        """Answer a frame; False when it was the last one."""
        received_s = time.monotonic()
        self._answered = failed = False
        try:
            reply = await self._reply(frame, received_s)
        except asyncio.CancelledError:
            if self._open:
                raise
            return False  # hung up
        except Exception as error:
            reply, failed = self._refusal(error), not isinstance(error, FlaError)
        await socket.send(reply)
        if failed:
            await socket.close(FAILED, "Internal server error. Reason included in previous frame.")
            return False
        if self._answered:
            sent_s = time.monotonic()
            self._previous_ms = (sent_s - received_s) * 1e3
            self._service.tell("sent", self.client, (sent_s - self._inferred_s) * 1e3)
        return True

    async def _reply(self, frame: "str | bytes", received_s: float) -> bytes:
        self._asked, self._coded = None, self.client.session is not None
        self._rate.check(received_s)
        message = self._read(frame)
        entry = message.pop("fla", None)
        if isinstance(entry, dict):
            if not message and "hello" in entry:
                self._coded = True
                return self._welcome(cast("dict[str, Any]", entry)["hello"])
            number = cast("dict[str, Any]", entry).get("request")
            self._asked = number if type(number) is int else None
        exchange, marks = self._exchange(message, entry)
        await self._fill(exchange, marks, received_s)
        self._answered = True
        return self._pack(exchange, marks if entry is not None else None)

    def _read(self, frame: "str | bytes") -> dict[str, Any]:
        """The map in a frame. On the event loop: msgpack keeps the interpreter to itself in any thread."""
        if isinstance(frame, str):
            raise ProtocolError("an observation must come in a binary frame, this one was text")
        limits = self._service.limits
        message = wire.unpack(frame, max_bytes=limits.message_bytes, max_items=limits.items, max_arrays=limits.arrays)
        if not isinstance(message, dict):
            raise ProtocolError(f"an observation is a map of names to values, got a {type(message).__name__}")
        return cast("dict[str, Any]", message)

    def _exchange(self, message: dict[str, Any], entry: Any) -> tuple[Exchange, Marks]:
        """The request in a message without its entry `fla`."""
        check_names(message)
        served, session = self._service.served, self.client.session
        if "embodiment" not in message and session is not None:
            message["embodiment"] = session.embodiment
        named = message.get("embodiment", served.default_embodiment)
        name = None if named is None else str(named)
        marks = Marks()
        if entry is not None:
            marks = read_marks(entry, robot=served.embodiments.get(name or ""), horizon=served.horizon)
        request = Request(
            observation=message,
            rest=marks.rest,
            delay=marks.delay,
            guidance=session.guidance if marks.guidance is None and session is not None else marks.guidance,
            session=f"connection {self.client.number}" if session is None else session.id,
        )
        served.check(request)
        return Exchange(client=self.client, embodiment=name, request=request), marks

    async def _fill(self, exchange: Exchange, marks: Marks, received_s: float) -> None:
        """Ask the model thread for the answer."""
        service = self._service
        service.check_open()
        served, thread = service.served, service.thread
        if has_images(exchange.request.observation):
            exchange.request = await service.in_background(self._decompressed, exchange.request)
        service.tell("asked", exchange)
        payload: Any = exchange.request
        if served.prepare is not None and not thread.idle:
            # An idle model waits for this request alone: then handing it over once more would only take time.
            payload = await service.in_background(served.prepare, exchange.request)
        if not self._open:
            raise asyncio.CancelledError
        ticket = Ticket(
            robot=self.client.number,
            group=served.group(exchange.request),
            payload=(served, payload),
            deadline_s=None if marks.deadline_s is None else received_s + marks.deadline_s,
        )
        queued_s = time.monotonic()
        answer = thread.ask(ticket)
        self._ticket = ticket
        try:
            outcome = await answer
        finally:
            self._ticket = None
        if isinstance(outcome, Exception):
            raise outcome
        exchange.answer = dict(outcome.answer)
        exchange.timing = Timing(
            decode_ms=(queued_s - received_s) * 1e3,
            queue_ms=(outcome.begun_s - queued_s) * 1e3,
            infer_ms=outcome.seconds * 1e3,
            batch=outcome.batch,
        )
        if self.client.session is not None:
            self.client.session.requests += 1
        service.tell("answered", exchange)

    def _decompressed(self, request: Request) -> Request:
        observation = decompressed(request.observation, max_bytes=self._service.limits.message_bytes)
        return attrs.evolve(request, observation=observation)

    def _pack(self, exchange: Exchange, marks: Marks | None) -> bytes:
        assert exchange.answer is not None and exchange.timing is not None
        self._inferred_s = time.monotonic()
        measured = exchange.timing
        timing: dict[str, Any] = {"infer_ms": measured.infer_ms}
        if self._previous_ms is not None:
            timing["prev_total_ms"] = self._previous_ms
        reply: dict[str, Any] = {**exchange.answer, "server_timing": timing}
        if self.client.session is not None:  # openpi's clients get what openpi's server sends
            timing |= {"queue_ms": measured.queue_ms, "decode_ms": measured.decode_ms, "batch": measured.batch}
        if marks is not None:
            reply["fla"] = {"request": marks.request, "observed_s": marks.observed_s}
        try:
            return wire.pack(reply)
        except FlaError as error:  # the policy's fault, not the request's
            raise TypeError(f"the policy's answer cannot be sent: {error}") from error

    def _refusal(self, error: Exception) -> "str | bytes":
        """Why there are no actions: for openpi's clients as text."""
        code, reason = code_of(error), reason_of(error)
        if code == "failed":
            log.error("the policy failed", exc_info=error)
        if self.client.session is not None:
            self.client.session.refusals += 1
        self._service.tell("refused", self.client, code, reason)
        if not self._coded:
            return reason
        after_s = error.retry_after_s if isinstance(error, Refusal) else None
        entry = {
            "code": code,
            "message": reason,
            "retry_after_ms": None if after_s is None else after_s * 1e3,
            "request": self._asked,
        }
        return wire.pack({"fla": {"error": entry}})

    # --- Hello --------------------------------------------------------------------------------------------------------

    def _welcome(self, entry: Any) -> bytes:
        """The answer to a hello."""
        service, now_s = self._service, time.time()
        hello = read_hello(entry)
        name = check_robot(hello, service.served)
        service.served.check(Request(observation={}, guidance=hello.guidance))
        service.check_open()
        if self.client.session is not None:
            service.sessions.leave(self.client.session, now_s=time.monotonic())
        self.client.session, resumed = service.sessions.open(
            hello.session,
            now_s=time.monotonic(),
            embodiment=name,
            guidance=hello.guidance,
            client=hello.client,
            execution=hello.execution,
            capabilities=hello.capabilities,
        )
        service.tell("greeted", self.client)
        answer = welcome(
            hello, service.served, service.limits, session=self.client.session, resumed=resumed, now_s=now_s
        )
        return wire.pack({"fla": {"hello": answer}})
