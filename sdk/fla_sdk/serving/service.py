"""`Service`: what all connections of a server share. Knows no sockets, so that any websocket library can carry it."""

import asyncio
import logging
import time
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, NamedTuple, TypeVar

from fla_sdk import wire
from fla_sdk.errors import ConfigError, FlaError
from fla_sdk.policy.interface import PolicyLike
from fla_sdk.serving.conversation import Conversation
from fla_sdk.serving.hello import greeting
from fla_sdk.serving.limits import Limits
from fla_sdk.serving.model_thread import ModelThread
from fla_sdk.serving.observer import Client, Observer
from fla_sdk.serving.queue import RequestQueue, Ticket
from fla_sdk.serving.refusal import Refusal
from fla_sdk.serving.served_policy import ServedPolicy
from fla_sdk.serving.sessions import Sessions

log = logging.getLogger(__name__)

Value = TypeVar("Value")

BACKGROUND_THREADS = 2
"""They decompress images and prepare requests while the model is busy."""


class Answered(NamedTuple):
    """What the model thread made of one request."""

    answer: Any
    begun_s: float
    seconds: float
    batch: int


class Service:
    """One policy, its queue, and the sessions of its robots. To be used within `running`."""

    def __init__(
        self,
        policy: PolicyLike,
        *,
        limits: Limits | None = None,
        observers: Sequence[Observer] = (),
        queue_capacity: int = 256,
        batch_wait_ms: float = 0.0,
    ) -> None:
        """At most `queue_capacity` requests wait; a batch that is not full waits `batch_wait_ms` for more of them.

        Raises `ConfigError` on metadata that cannot be sent.
        """
        self.limits = limits or Limits()
        self.sessions = Sessions()
        self.clients: dict[int, Client] = {}
        """Connected now, by their number."""
        self.draining = False
        """No more requests are taken; those that wait are answered."""
        self.working = 0
        """Messages that are being answered."""
        self._observers = tuple(observers)
        self._connections = 0
        if not 0 <= batch_wait_ms < 10_000 or queue_capacity < 1:
            raise ConfigError(
                f"batch_wait_ms is {batch_wait_ms}, must be 0 to 10000; at least one request must fit in "
                f"the queue, not {queue_capacity}"
            )
        queue = RequestQueue(capacity=queue_capacity, linger_s=batch_wait_ms / 1e3, robots=lambda: len(self.clients))
        self.thread = ModelThread(queue, _answer)
        self._background = ThreadPoolExecutor(BACKGROUND_THREADS, thread_name_prefix="fla-prepare")
        self.replace(policy)

    def replace(self, policy: PolicyLike) -> None:
        """Serve `policy` from the next request on; those that wait are answered by the one they were sent to."""
        served = ServedPolicy.of(policy)
        try:
            greets = wire.pack(greeting(served, self.limits))
        except FlaError as error:
            raise ConfigError(f"the policy's metadata cannot be sent to clients: {error}") from error
        self.served, self.greeting = served, greets
        self.thread.resize(served.max_batch)

    @contextmanager
    def running(self) -> Generator[None, None, None]:
        """With its threads. At the end the batch under way is finished."""
        self.thread.start()
        try:
            yield
        finally:
            self.thread.stop()
            self._background.shutdown()

    async def drain(self, limit_s: float) -> None:
        """Take no more requests, and wait until those that came are answered, at most so long."""
        self.draining = True
        until_s = time.monotonic() + limit_s
        while self.working and time.monotonic() < until_s:
            await asyncio.sleep(0.02)

    # --- For connections ----------------------------------------------------------------------------------------------

    def conversation(self, peer: str) -> Conversation:
        """With a client that just connected from the address `peer`."""
        self._connections += 1
        client = Client(number=self._connections, peer=peer, connected_s=time.monotonic())
        self.clients[client.number] = client
        self.tell("connected", client)
        return Conversation(self, client)

    def left(self, client: Client, ticket: Ticket | None) -> None:
        """The client is gone, and with it the request that it waits for."""
        if ticket is not None:
            self.thread.withdraw(ticket)
        self.thread.forget(client.number)
        self.clients.pop(client.number, None)
        if client.session is not None:
            self.sessions.leave(client.session, now_s=time.monotonic())
        self.tell("disconnected", client)

    @contextmanager
    def at_work(self) -> Generator[None, None, None]:
        """A message is being answered."""
        self.working += 1
        try:
            yield
        finally:
            self.working -= 1

    def check_open(self) -> None:
        """Raise `Refusal` when no more requests are taken."""
        if self.draining:
            raise Refusal("draining", "the server is going down: connect again in a moment", retry_after_s=1.0)

    async def in_background(self, work: Callable[[Any], Value], argument: Any) -> Value:
        """Neither on the event loop nor on the model thread."""
        return await asyncio.get_running_loop().run_in_executor(self._background, work, argument)

    def tell(self, event: str, *about: Any) -> None:
        """All observers, whatever they make of it."""
        for observer in self._observers:
            try:
                getattr(observer, event)(*about)
            except Exception:
                log.exception("an observer of requests failed; the client got its answer")


def _answer(payloads: Sequence[tuple[ServedPolicy, Any]]) -> list[Any]:
    """On the model thread: `Answered` or the error for each of `payloads`, which are of one policy."""
    begun_s = time.monotonic()
    outcomes = payloads[0][0].answer([request for _, request in payloads])
    seconds = time.monotonic() - begun_s
    return [
        outcome if isinstance(outcome, Exception) else Answered(outcome, begun_s, seconds, len(payloads))
        for outcome in outcomes
    ]
