"""`ModelThread`: takes batches from the queue and has them answered, while the event loop moves bytes."""

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import Any

from fla_sdk.serving.queue import RequestQueue, Ticket

log = logging.getLogger(__name__)

Outcome = Any
"""What a ticket's future gets: an answer, or the error to raise. Errors are results too, whatever their type."""


class ModelThread:
    """One thread, because one accelerator answers one batch at a time."""

    def __init__(self, queue: RequestQueue, answer: Callable[[Sequence[Any]], Sequence[Outcome]]) -> None:
        """`answer(payloads)` returns an outcome for each; what it raises is every outcome of the batch."""
        self._queue, self._answer = queue, answer
        self._changed = threading.Condition()
        self._futures: dict[Ticket, asyncio.Future[Outcome]] = {}
        self._stopping = False
        self._thread = threading.Thread(target=self._work, name="fla-model")

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Finish the batch under way and end. Nobody may ask any more."""
        with self._changed:
            self._stopping = True
            self._changed.notify()
        self._thread.join()

    @property
    def idle(self) -> bool:
        return self._queue.idle

    @property
    def waiting(self) -> int:
        """Requests in the queue."""
        return len(self._queue)

    def ask(self, ticket: Ticket) -> "asyncio.Future[Outcome]":
        """Called on the event loop, which gets the outcome. Raises `Refusal` when there is no time for it."""
        future = asyncio.get_running_loop().create_future()
        with self._changed:
            self._queue.add(ticket, time.monotonic())
            self._futures[ticket] = future
            self._changed.notify()
        return future

    def withdraw(self, ticket: Ticket) -> bool:
        """The client hung up: its request is not computed, unless it is under way already."""
        with self._changed:
            if not self._queue.withdraw(ticket):
                return False
            self._futures.pop(ticket).cancel()
            return True

    def forget(self, robot: Hashable) -> None:
        """The robot is gone."""
        with self._changed:
            self._queue.forget(robot)

    def resize(self, max_batch: int) -> None:
        """Another policy, which answers so many at once."""
        with self._changed:
            self._queue.resize(max_batch)

    def _work(self) -> None:
        while True:
            with self._changed:
                while True:
                    if self._stopping:
                        return
                    batch, late = self._queue.take(time.monotonic())
                    if batch or late:
                        break
                    self._changed.wait(self._queue.next_s(time.monotonic()))
                settled = [(self._futures.pop(ticket), refusal) for ticket, refusal in late]
                asked = [self._futures.pop(ticket) for ticket in batch]
            _settle(settled)
            if not batch:
                continue
            try:
                outcomes = self._answer([ticket.payload for ticket in batch])
            except Exception as error:
                outcomes = [error] * len(batch)
            with self._changed:
                self._queue.done(batch, time.monotonic())
            _settle(zip(asked, outcomes, strict=True))


def _settle(pairs: Iterable[tuple["asyncio.Future[Outcome]", Outcome]]) -> None:
    """Hand outcomes to the event loop, all at once."""
    if not (known := list(pairs)):
        return
    try:
        known[0][0].get_loop().call_soon_threadsafe(_resolve, known)
    except RuntimeError:
        log.debug("the event loop ended before its answers came")


def _resolve(pairs: Sequence[tuple["asyncio.Future[Outcome]", Outcome]]) -> None:
    for future, outcome in pairs:
        if not future.done():
            future.set_result(outcome)
