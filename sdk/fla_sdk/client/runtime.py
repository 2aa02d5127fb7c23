"""`Runtime`: the control loop. It owns the clock, and passes observations and actions between robot and policy."""

import logging
import math
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, cast

import numpy as np
from numpy.typing import NDArray

from fla_sdk.client.asynchronous import Counts
from fla_sdk.client.chunk import ChunkExecutor, Executor
from fla_sdk.client.clock import Clock, Jitter
from fla_sdk.client.safety import SafetyFilter, SafetyReport
from fla_sdk.errors import ConfigError

log = logging.getLogger("fla_sdk.client")


class Robot(Protocol):
    """A robot, or a simulated one whose time the clock of this machine is."""

    def reset(self) -> None:
        """Go where an episode begins. May take as long as it likes."""
        ...

    def observe(self) -> Mapping[str, Any]:
        """What the robot senses now, under the names that its embodiment knows: images uint8 `[H, W, 3]`, `state`
        `[S]`. The arrays must be new ones: others read them later.
        """
        ...

    def act(self, action: NDArray[np.floating]) -> Mapping[str, Any] | None:
        """Send one action `[A]` to the motors; returns at once. It may say:

        `done`: the episode is over; `success`: the task is done; `intervention`: a person moved the robot in this step;
        `action` `[A]`: what was executed instead of the one that was given. After a step with an intervention it is
        given its last action again, and a new plan once the person has let go.
        """
        ...


class Recorder(Protocol):
    """Keeps what happened. Called in the control loop: whatever takes long belongs in a thread of its own."""

    def add(
        self, observation: Mapping[str, Any], action: NDArray[np.floating], *, success: bool, intervention: bool
    ) -> None:
        """One control step: what was seen, the action `[A]` that was executed, and what came of it."""
        ...

    def end(self, *, success: bool) -> None:
        """The episode is over, and must be safe on disk when this returns."""
        ...


@dataclass(frozen=True)
class Step:
    """One control step, as subscribers see it."""

    number: int
    observation: Mapping[str, Any] | None
    """None in steps in which nobody looked."""

    wanted: NDArray[np.floating]
    """What the policy said `[A]`; while a person moves the robot, what was executed last."""

    action: NDArray[np.floating]
    """What was executed `[A]`, after the safety filter or by a person."""

    success: bool
    intervention: bool
    late_s: float
    """How long after its time the step began."""


@dataclass(frozen=True)
class EpisodeReport:
    """How an episode went."""

    steps: int
    seconds: float
    success: bool
    end: str
    """`done` (the robot says so), `limit`, `stopped`, or the error that ended it."""

    interventions: int
    """Control steps in which a person moved the robot."""

    jitter: Jitter
    safety: SafetyReport | None = None
    counts: Counts | None = None
    """Of an asynchronous executor."""


class Runtime:
    """Runs episodes: observes, asks, filters, acts, records, at a fixed rate."""

    def __init__(
        self,
        robot: Robot,
        policy: Any,
        *,
        rate_hz: float,
        task: str | None = None,
        safety: SafetyFilter | None = None,
        recorder: Recorder | None = None,
        intervention: Callable[[], bool] | None = None,
        on_step: Iterable[Callable[[Step], None]] = (),
        on_episode: Iterable[Callable[[EpisodeReport], None]] = (),
    ) -> None:
        """`policy` is an executor, or something with `infer`, whose chunks are then executed to their ends.

        `task` is added to observations that name none. `intervention` says, after each step, whether a person moves
        the robot, for robots that do not say so themselves. Subscribers are called in the control loop and must be
        quick; one that raises is logged and goes on being called.
        """
        self._robot, self._task = robot, task
        self._executor: Executor = cast("Executor", policy) if hasattr(policy, "act") else ChunkExecutor(policy)
        self._clock, self._safety, self._recorder = Clock(rate_hz), safety, recorder
        self._intervention = intervention
        self._on_step, self._on_episode = tuple(on_step), tuple(on_episode)
        self._stopped = threading.Event()

    def stop(self) -> None:
        """End the episode after the step that is under way; from any thread or signal handler."""
        self._stopped.set()

    def run_episode(self, *, limit_s: float | None = None, limit_steps: int | None = None) -> EpisodeReport:
        """Reset the robot and control it until it says that it is done, a limit is reached or `stop` is called.

        What ends the episode early, such as `ConnectionLost`, is raised, after what was recorded until then is saved.
        """
        for name, limit in (("limit_s", limit_s), ("limit_steps", limit_steps)):
            if limit is not None and not limit > 0:
                raise ConfigError(f"{name} is {limit}, must be above 0")
        self._stopped.clear()
        self._robot.reset()
        self._begin()
        episode = _Episode()
        begun = time.monotonic()
        self._clock.start()
        try:
            while episode.end is None:
                self._step(episode)
                enough = episode.steps >= (limit_steps or math.inf) or time.monotonic() - begun >= (limit_s or math.inf)
                episode.end = episode.end or ("stopped" if self._stopped.is_set() else "limit" if enough else None)
        except BaseException as error:
            episode.end = f"{type(error).__name__}: {error}"
            raise
        finally:
            if self._recorder is not None and episode.steps:
                self._recorder.end(success=episode.success)
            report = self._report(episode, time.monotonic() - begun)
            for subscriber in self._on_episode:
                _tell(subscriber, report)
        return report

    def _begin(self) -> None:
        self._executor.reset()
        if self._safety is not None:
            observation = self._observe()
            state = next((observation[key] for key in ("state", "observation.state") if key in observation), None)
            if state is None:
                log.warning("observations have no 'state', so the safety filter believes the first action")
            self._safety.reset(state)

    def _step(self, episode: "_Episode") -> None:
        late_s = self._clock.wait()
        seen: Mapping[str, Any] | None = None

        def look() -> Mapping[str, Any]:
            nonlocal seen
            seen = self._observe() if seen is None else seen
            return seen

        if self._recorder is not None:
            look()
        if episode.taken_over is not None:  # the plan is for a robot that was somewhere else
            wanted = action = episode.taken_over
        else:
            wanted = action = self._executor.act(look)
            if self._safety is not None:
                action = self._safety(wanted, age_s=getattr(self._executor, "age_s", None))
        said = self._robot.act(action) or {}
        intervention = bool(said.get("intervention")) or (self._intervention is not None and self._intervention())
        if said.get("action") is not None:
            action = np.asarray(said["action"])
        episode.success = bool(said.get("success", episode.success))
        if self._recorder is not None and seen is not None:
            self._recorder.add(seen, action, success=episode.success, intervention=intervention)
        step = Step(episode.steps, seen, wanted, action, episode.success, intervention, late_s)
        episode.steps += 1
        episode.interventions += intervention
        if said.get("done"):
            episode.end = "done"
        for subscriber in self._on_step:
            _tell(subscriber, step)
        if episode.taken_over is not None and not intervention and episode.end is None:
            self._begin()
        episode.taken_over = action if intervention else None

    def _observe(self) -> Mapping[str, Any]:
        observation = self._robot.observe()
        if self._task is not None and "task" not in observation and "prompt" not in observation:
            return {**observation, "task": self._task}
        return observation

    def _report(self, episode: "_Episode", seconds: float) -> EpisodeReport:
        return EpisodeReport(
            steps=episode.steps,
            seconds=seconds,
            success=episode.success,
            end=episode.end or "stopped",
            interventions=episode.interventions,
            jitter=self._clock.jitter,
            safety=None if self._safety is None else self._safety.report,
            counts=getattr(self._executor, "counts", None),
        )


@dataclass
class _Episode:
    steps: int = 0
    interventions: int = 0
    success: bool = False
    taken_over: NDArray[np.floating] | None = None
    """What a person executed in the step before."""

    end: str | None = None


def _tell(subscriber: Callable[[Any], None], what: Any) -> None:
    try:
        subscriber(what)
    except Exception:
        log.exception("a subscriber of the control loop failed; the robot goes on")
