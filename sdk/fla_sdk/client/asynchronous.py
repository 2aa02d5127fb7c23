"""`AsynchronousExecutor`: the robot moves on while the policy thinks about the next chunk."""

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fla_sdk.client.backoff import Backoff
from fla_sdk.client.buffer import Asked, ChunkBuffer
from fla_sdk.client.chunk import ActionChunk
from fla_sdk.client.delay import DelayForecast
from fla_sdk.client.description import RobotLike
from fla_sdk.client.late import Waiting, WhenLate
from fla_sdk.errors import ConfigError, ConnectionLost, Overloaded, ServerError

STALE_AFTER_S = 0.5
"""An observation that waited longer for a connection is not sent any more: another one is taken."""


@dataclass(frozen=True)
class Counts:
    """What an executor has seen since it was made."""

    actions: int = 0
    late: int = 0
    """Control steps that had no action in time."""

    chunks: int = 0
    failures: int = 0
    """Requests that failed, reconnections that failed included."""

    last_failure: str | None = None
    delay: int = 0
    """The forecast for the next answer, in control steps."""


@dataclass(frozen=True)
class _Request:
    observation: Mapping[str, Any]
    asked: Asked
    taken_s: float
    """When the observation was taken, in `time.monotonic()`."""


class AsynchronousExecutor:
    """A thread asks for the next chunk while the current one is executed; only the first chunk is waited for.

    Where the policy can continue a chunk, it is told what is left of the current one and how many actions will have
    been executed when the answer comes, which is the longest of the last delays (real-time chunking,
    arXiv:2506.07339). Where it cannot, the new chunk takes over where the old one is, with a jump if they disagree.

    A control step without an action in time is held or decelerated, and counted. A request that fails is made again,
    with a fresh observation, less and less often. `act` raises when nothing came for `lost_after_s`, and at once what
    asking again would not mend, such as an observation that does not fit.
    """

    def __init__(
        self,
        policy: Any,
        *,
        replan: int | None = None,
        continue_chunks: bool | None = None,
        when_late: WhenLate = "hold",
        decelerate_steps: int = 5,
        lost_after_s: float = 10.0,
        first_delay: int = 1,
        robot: RobotLike | None = None,
    ) -> None:
        """`policy` is a `PolicyClient` or a policy in this process; no other thread may use it.

        The next chunk is asked for after `replan` actions, None for half of a chunk; later where answers are so slow
        that the policy must be told of a longer delay. `continue_chunks` None: where the policy says that it can.
        `first_delay` is expected before anything was measured, in control steps. `robot` says which actions are
        positions; None: as the policy's server says, else all of them.
        """
        if replan is not None and replan < 1:
            raise ConfigError(f"replan is {replan}, must be at least 1 action per chunk")
        if not lost_after_s > 0:
            raise ConfigError(f"lost_after_s is {lost_after_s}, must be above 0 (seconds)")
        can = getattr(policy, "continues", None)
        if continue_chunks and can is False:
            raise ConfigError("this policy cannot continue a chunk that is being executed; leave continue_chunks out")
        self._policy, self._replan = policy, replan
        self._continues = bool(can) if continue_chunks is None else continue_chunks
        self._lost_after_s = lost_after_s
        self._buffer, self._forecast = ChunkBuffer(), DelayForecast(first_delay)
        self._waiting = Waiting(
            when_late, steps=decelerate_steps, robot=robot if robot is not None else getattr(policy, "robot", None)
        )
        self._backoff = Backoff(0.05, 2.0)
        self._changed = threading.Condition()
        """Guards everything below, and the buffer. Held for moments only, never while anyone waits for the network."""
        self._request: _Request | None = None
        self._failure: BaseException | None = None
        self._not_before_s = 0.0
        self._late_since_s: float | None = None
        self._observed_s: float | None = None
        self._closed = False
        self._late = self._chunks = self._failures = self._actions = 0
        self._thread = threading.Thread(target=self._ask_for_chunks, name="fla-asking", daemon=True)
        self._thread.start()

    # --- The control thread -------------------------------------------------------------------------------------------

    def act(self, observe: Callable[[], Mapping[str, Any]]) -> NDArray[np.floating]:
        """The next action `[A]`. Calls `observe` when it is time to ask; what it returns must not be changed later.

        Raises `ConnectionLost` after `lost_after_s` without an action, what the policy raised for the first chunk, and
        what is no use to repeat.
        """
        while True:
            if self._should_ask():
                self._ask(observe)
            with self._changed:
                if self._buffer.begun:
                    return self._take()
                while self._request is not None and not self._closed:
                    self._changed.wait(0.5)
                self._raise_failure()

    def reset(self) -> None:
        """Forget the chunk: call it between episodes. An answer that is still under way is not executed."""
        with self._changed:
            # The thread recognises by its own request whether anyone still wants the answer.
            self._request = None
            self._buffer = ChunkBuffer()
            self._waiting.reset()
            self._failure = self._late_since_s = self._observed_s = None
            self._not_before_s = 0.0

    def close(self) -> None:
        """End the thread; one that waits for an answer ends with it. The policy stays open."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._thread.join(2.0)

    @property
    def counts(self) -> Counts:
        """What happened so far."""
        with self._changed:
            failure = None if self._failure is None else str(self._failure)
            return Counts(self._actions, self._late, self._chunks, self._failures, failure, self._forecast.steps)

    @property
    def age_s(self) -> float | None:
        """How long ago the observation was taken that the current actions come from; None before the first."""
        with self._changed:
            return None if self._observed_s is None else time.monotonic() - self._observed_s

    def __enter__(self) -> "AsynchronousExecutor":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _should_ask(self) -> bool:
        with self._changed:
            if self._closed:
                raise ConfigError("this executor was closed; make another one")
            if self._request is not None or time.monotonic() < self._not_before_s:
                return False
            return self._buffer.due(execute=self._replan, forecast=self._forecast.steps)

    def _ask(self, observe: Callable[[], Mapping[str, Any]]) -> None:
        taken_s = time.monotonic()
        observation = observe()
        with self._changed:
            self._request = _Request(observation, self._buffer.ask(forecast=self._forecast.steps), taken_s)
            self._changed.notify_all()

    def _take(self) -> NDArray[np.floating]:
        """The action of this step, whether there is one or not."""
        if self._failure is not None and not _worth_repeating(self._failure):
            self._raise_failure()
        action = self._buffer.take()
        if action is not None:
            self._waiting.executed(action)
            self._late_since_s = None
            self._actions += 1
            return action
        now = time.monotonic()
        self._late_since_s = self._late_since_s or now
        if now - self._late_since_s > self._lost_after_s:
            raise ConnectionLost(
                f"no actions for {self._lost_after_s:g} s (lost_after_s); the robot was held meanwhile. "
                f"{self._failures} requests failed, the last with: {self._failure or 'no answer yet'}"
            ) from self._failure
        self._late += 1
        held = self._waiting.next()
        assert held is not None  # a chunk has at least one action
        return held

    def _raise_failure(self) -> None:
        failure, self._failure = self._failure, None
        if failure is not None:
            self._not_before_s = 0.0
            raise failure

    # --- The thread that asks -----------------------------------------------------------------------------------------

    def _ask_for_chunks(self) -> None:
        while True:
            with self._changed:
                while self._request is None and not self._closed:
                    self._changed.wait()
                if self._closed or self._request is None:
                    return
                request = self._request
            try:
                chunk = self._answer(request)
            except Exception as error:
                self._failed(request, error)
            else:
                self._merge(request, chunk)

    def _answer(self, request: _Request) -> ActionChunk | None:
        """The chunk; None when the connection took so long that the observation is no longer true."""
        connect = getattr(self._policy, "connect", None)
        if connect is not None:
            connect()
            if time.monotonic() - request.taken_s > STALE_AFTER_S:
                return None
        options: dict[str, Any] = {}
        if self._continues and request.asked.rest is not None:
            options = {"rest": request.asked.rest, "delay": request.asked.delay}
        return ActionChunk.from_reply(self._policy.infer(request.observation, **options))

    def _merge(self, request: _Request, chunk: ActionChunk | None) -> None:
        with self._changed:
            if self._request is request:  # not forgotten by a reset
                self._request = None
                if chunk is not None:
                    self._backoff.reset()
                    self._failure = None
                    steps = self._buffer.merge(chunk.actions, request.asked)
                    if request.asked.rest is not None:  # else steps of standing still were counted
                        self._forecast.add(steps)
                    self._observed_s = request.taken_s
                    self._chunks += 1
            self._changed.notify_all()

    def _failed(self, request: _Request, error: BaseException) -> None:
        with self._changed:
            self._failures += 1
            if self._request is request:
                self._request = None
                self._failure = error
                wait_s = self._backoff.next_s(at_least_s=error.retry_after_s if isinstance(error, Overloaded) else 0.0)
                self._not_before_s = time.monotonic() + wait_s
            self._changed.notify_all()


def _worth_repeating(error: BaseException) -> bool:
    """Whether a fresh observation, or a little patience, may get an answer."""
    return isinstance(error, ServerError) and error.code in (None, "overloaded", "rate", "draining", "failed")
