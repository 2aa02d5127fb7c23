"""Asynchronous execution with a real thread, and a policy that answers when the test lets it."""

import queue
import time
from collections.abc import Callable, Iterator, Mapping
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from fla_sdk.client import AsynchronousExecutor, asynchronous
from fla_sdk.errors import ConfigError, ConnectionLost, ObservationError, Overloaded, ServerError

HORIZON = 8
LIMIT_S = 600.0


class _Policy:
    """Answers with the numbers of the moments that a chunk is for; each answer waits for a word of the test."""

    continues = True

    def __init__(self) -> None:
        self.words: queue.Queue[Exception | None] = queue.Queue()
        """None lets one request be answered, an error lets it fail."""
        self.requests: list[dict[str, Any]] = []

    def infer(self, observation: Mapping[str, Any], **options: Any) -> dict[str, Any]:
        self.requests.append({"executed": observation["executed"], **options})
        if (word := self.words.get(timeout=LIMIT_S)) is not None:
            raise word
        return {"actions": observation["executed"] + np.arange(HORIZON, dtype=np.float32)[:, None]}


class _Drive:
    """A control thread that knows how many actions it has executed."""

    def __init__(self, executor: AsynchronousExecutor) -> None:
        self.executor, self.executed = executor, 0
        self.looks = 0

    def observe(self) -> dict[str, Any]:
        self.looks += 1
        return {"executed": self.executed}

    def step(self) -> float:
        late = self.executor.counts.late
        action = self.executor.act(self.observe)
        self.executed += self.executor.counts.late == late
        return float(action[0])

    def steps(self, count: int) -> list[float]:
        return [self.step() for _ in range(count)]


def wait_for(happened: Callable[[], bool]) -> None:
    deadline = time.monotonic() + LIMIT_S
    while not happened():
        assert time.monotonic() < deadline
        time.sleep(0.001)


@pytest.fixture
def policy() -> Iterator[_Policy]:
    one = _Policy()
    yield one
    for _ in range(10):
        one.words.put(None)


@pytest.fixture
def start(policy: _Policy) -> Iterator[Callable[..., _Drive]]:
    """A drive whose first chunk has come."""
    made: list[AsynchronousExecutor] = []

    def begin(**options: Any) -> _Drive:
        made.append(AsynchronousExecutor(policy, **dict[str, Any](lost_after_s=LIMIT_S) | options))
        policy.words.put(None)
        return _Drive(made[-1])

    yield begin
    for one in made:
        policy.words.put(None)
        one.close()


def test_the_new_chunk_is_entered_where_the_robot_is(policy: _Policy, start: Callable[..., _Drive]) -> None:
    drive = start(replan=3, first_delay=2)
    assert drive.steps(3) == [0, 1, 2]
    assert drive.looks == 1
    assert drive.steps(2) == [3, 4]  # asks, and goes on meanwhile
    wait_for(lambda: len(policy.requests) == 2)
    request = policy.requests[1]
    assert (request["executed"], request["delay"]) == (3, 2)
    np.testing.assert_array_equal(request["rest"][:, 0], [3, 4, 5, 6, 7])
    policy.words.put(None)
    wait_for(lambda: drive.executor.counts.chunks == 2)
    assert drive.steps(6) == [5, 6, 7, 8, 9, 10]
    counts = drive.executor.counts
    assert (counts.actions, counts.late, counts.failures, counts.delay) == (11, 0, 0, 2)


def test_the_control_thread_never_waits_and_a_late_chunk_is_held(policy: _Policy, start: Callable[..., _Drive]) -> None:
    drive = start(replan=4)
    assert drive.steps(8) == [0, 1, 2, 3, 4, 5, 6, 7]
    assert drive.steps(5) == [7, 7, 7, 7, 7]
    assert drive.executor.counts.late == 5
    policy.words.put(None)
    wait_for(lambda: drive.executor.counts.chunks == 2)
    # The answer is for number 4 on, of which 4 to 7 were executed and the held ones are nobody's.
    assert drive.steps(2) == [8, 9]
    assert drive.executor.counts.delay == 9


def test_a_late_chunk_may_also_be_decelerated(start: Callable[..., _Drive]) -> None:
    drive = start(when_late="decelerate", decelerate_steps=3)
    drive.steps(8)
    np.testing.assert_allclose(drive.steps(5), [7.75, 8.25, 8.5, 8.5, 8.5])


@pytest.mark.parametrize("naive", ["asked for", "all that the policy can do"])
def test_naive_execution_tells_nothing_of_the_rest(policy: _Policy, start: Any, naive: str) -> None:
    if naive == "asked for":
        drive = start(continue_chunks=False)
    else:
        policy.continues = False
        with pytest.raises(ConfigError, match="cannot continue a chunk"):
            AsynchronousExecutor(policy, continue_chunks=True)
        drive = start()
    drive.steps(6)
    wait_for(lambda: len(policy.requests) == 2)
    assert policy.requests[1] == {"executed": 4}
    policy.words.put(None)
    wait_for(lambda: drive.executor.counts.chunks == 2)
    assert drive.steps(3) == [6, 7, 8]


def test_failures_are_counted_held_and_made_up_for(policy: _Policy, start: Callable[..., _Drive]) -> None:
    drive = start()
    drive.steps(8)
    for failures, error in enumerate(
        [ServerError("hiccup"), Overloaded("busy", retry_after_s=0.01), ConnectionLost("x")]
    ):
        policy.words.put(error)
        wait_for(lambda expected=failures + 1: drive.executor.counts.failures == expected)
        wait_for(lambda expected=failures + 3: bool(drive.step()) and len(policy.requests) == expected)
    assert drive.executor.counts.last_failure == "x"
    policy.words.put(None)
    wait_for(lambda: drive.executor.counts.chunks == 2)
    assert drive.steps(2) == [8, 9]
    assert "rest" not in policy.requests[-1]  # nothing was left by then
    assert drive.executor.counts.last_failure is None


def test_after_too_long_without_actions_it_gives_up(policy: _Policy, start: Callable[..., _Drive]) -> None:
    drive = start(lost_after_s=0.05)
    drive.steps(8)
    policy.words.put(ServerError("no such luck"))
    wait_for(lambda: drive.executor.counts.failures == 1)
    with pytest.raises(
        ConnectionLost, match=r"for 0.05 s \(lost_after_s\).*1 requests failed, the last with: no such luck"
    ):
        drive.steps(10**9)


@pytest.mark.parametrize("error", [ObservationError("no camera"), ServerError("no camera", code="observation")])
def test_what_is_no_use_to_repeat_is_raised_at_once(policy: _Policy, start: Any, error: Exception) -> None:
    drive = start()
    drive.steps(5)
    policy.words.put(error)
    wait_for(lambda: drive.executor.counts.failures == 1)
    with pytest.raises(type(error), match="no camera"):
        drive.step()


def test_the_first_chunk_is_waited_for_and_its_error_is_raised(policy: _Policy) -> None:
    with AsynchronousExecutor(policy) as executor:
        drive = _Drive(executor)
        policy.words.put(ServerError("not yet"))
        with pytest.raises(ServerError, match="not yet"):
            drive.step()
        policy.words.put(None)
        assert drive.step() == 0
        assert executor.age_s is not None


def test_a_reset_forgets_the_answer_under_way(policy: _Policy, start: Callable[..., _Drive]) -> None:
    drive = start()
    drive.steps(5)
    wait_for(lambda: len(policy.requests) == 2)
    drive.executor.reset()
    drive.executed = 100
    policy.words.put(None)
    policy.words.put(None)
    assert drive.steps(2) == [100, 101]
    assert (drive.executor.counts.chunks, drive.executor.age_s is not None) == (2, True)


def test_an_observation_that_waited_for_a_connection_is_taken_again(
    policy: _Policy, monkeypatch: pytest.MonkeyPatch
) -> None:
    now_s, waits = 0.0, [0.0, 2 * asynchronous.STALE_AFTER_S]

    def connect() -> None:
        nonlocal now_s
        now_s += waits.pop(0) if waits else 0.0

    monkeypatch.setattr(asynchronous, "time", SimpleNamespace(monotonic=lambda: now_s))
    policy.connect = connect  # type: ignore[attr-defined]
    policy.words.put(None)
    with AsynchronousExecutor(policy, replan=2) as executor:
        drive = _Drive(executor)
        drive.steps(3)
        wait_for(lambda: bool(drive.step()) and drive.looks == 3)
        wait_for(lambda: len(policy.requests) == 2)
        assert policy.requests[1]["executed"] > 2
        policy.words.put(None)


def test_options_must_make_sense(policy: _Policy) -> None:
    for options, reason in (
        ({"replan": 0}, "replan is 0"),
        ({"lost_after_s": 0}, "lost_after_s is 0"),
        ({"when_late": "stop"}, "when_late is 'stop'"),
        ({"decelerate_steps": 0}, "decelerate_steps is 0"),
    ):
        with pytest.raises(ConfigError, match=reason):
            AsynchronousExecutor(policy, **dict[str, Any](options))
    executor = AsynchronousExecutor(policy)
    executor.close()
    with pytest.raises(ConfigError, match="was closed"):
        executor.act(dict[str, Any])


def test_in_a_hurry_nothing_is_skipped_or_done_twice() -> None:
    """The same property as the buffer's, with two threads that race."""

    class Hasty:
        continues = True
        calls = 0

        def infer(self, observation: Mapping[str, Any], **options: Any) -> dict[str, NDArray[Any]]:
            self.calls += 1
            time.sleep(0.0005 * (self.calls % 4))
            if self.calls % 5 == 0:
                raise ServerError("hiccup")
            return {"actions": observation["executed"] + np.arange(HORIZON, dtype=np.float32)[:, None]}

    with AsynchronousExecutor(Hasty(), lost_after_s=LIMIT_S) as executor:
        drive = _Drive(executor)
        taken: list[float] = []
        while drive.executed < 300:
            before = drive.executed
            action = drive.step()
            if drive.executed > before:
                taken.append(action)
    assert taken == list(range(300))
