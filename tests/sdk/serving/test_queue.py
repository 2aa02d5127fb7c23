"""The order in which requests are answered, on a clock that the tests move."""

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fla_sdk.serving.queue import DEFAULT_DEADLINE_S, BatchTimes, RequestQueue, Ticket
from fla_sdk.serving.refusal import Refusal


def ticket(robot: int, *, deadline_s: float | None = None, group: Any = "plain") -> Ticket:
    return Ticket(robot=robot, group=group, payload=robot, deadline_s=deadline_s)


def robots(batch: list[Ticket]) -> list[int]:
    return [one.payload for one in batch]


def trained(queue: RequestQueue, took: Callable[[int], float], *sizes: int) -> RequestQueue:
    """The queue, after it has seen how long batches of these sizes take."""
    for size in sizes:
        queue.times.measured("plain", size, took(size))
    return queue


def gpu(size: int) -> float:
    return 0.040 + 0.020 * (size - 1) / 7


def busy(queue: RequestQueue) -> list[Ticket]:
    """Somebody is being answered since time 0."""
    queue.add(ticket(0), 0.0)
    batch, _ = queue.take(0.0)
    return batch


# --- Order ------------------------------------------------------------------------------------------------------------


def test_the_earliest_deadline_comes_first() -> None:
    queue = RequestQueue()
    busy(queue)
    for robot, deadline_s in ((1, 0.9), (2, None), (3, 0.3)):
        queue.add(ticket(robot, deadline_s=deadline_s), 0.01)
    order = [robots(queue.take(0.02)[0]) for _ in range(3)]
    assert order == [[3], [1], [2]]  # 2 stands where a deadline of a second would put it
    assert DEFAULT_DEADLINE_S > 0.9


def test_deadlines_that_tie_are_answered_in_turns() -> None:
    queue, answered = RequestQueue(), list[int]()
    for robot in range(3):
        queue.add(ticket(robot, deadline_s=100.0), 0.0)
    for step in range(9):
        batch, _ = queue.take(float(step))
        answered += robots(batch)
        queue.done(batch, step + 0.5)
        queue.add(ticket(batch[0].payload, deadline_s=100.0), step + 0.5)
    assert answered == [0, 1, 2] * 3


def test_only_one_group_is_answered_at_once() -> None:
    queue = RequestQueue(max_batch=8)
    for robot in range(6):
        queue.add(ticket(robot, group="rest" if robot % 2 else "plain"), robot / 1000)
    assert robots(queue.take(1.0)[0]) == [0, 2, 4]
    assert robots(queue.take(1.0)[0]) == [1, 3, 5]
    assert queue.take(1.0) == ([], [])


@given(st.data())
def test_everybody_is_answered_once_or_told_why(data: st.DataObject) -> None:
    """Whatever comes, and however long batches take."""
    queue = RequestQueue(max_batch=data.draw(st.integers(1, 9)), capacity=data.draw(st.integers(1, 20)))
    now, told, asked = 0.0, list[int](), 0
    for _ in range(data.draw(st.integers(0, 40))):
        now += data.draw(st.floats(0, 0.1))
        if data.draw(st.booleans()):
            deadline, group = data.draw(st.none() | st.floats(0.001, 1.0)), data.draw(st.sampled_from("ab"))
            one = ticket(asked, deadline_s=None if deadline is None else now + deadline, group=group)
            asked += 1
            try:
                queue.add(one, now)
            except Refusal:
                told.append(one.payload)
        else:
            batch, late = queue.take(now)
            told += robots(batch) + [one.payload for one, _ in late]
            assert len({one.group for one in batch}) <= 1
            now += data.draw(st.floats(0, 0.2))
            if batch:
                queue.done(batch, now)
    while len(queue):
        batch, late = queue.take(now)
        assert batch or late  # never idle while somebody waits
        told += robots(batch) + [one.payload for one, _ in late]
        now += 0.01
        if batch:
            queue.done(batch, now)
    assert sorted(told) == list(range(asked))


@given(st.lists(st.floats(0.01, 2.0), min_size=1, max_size=12), st.integers(1, 8))
def test_nobody_is_overtaken_by_a_later_deadline(deadlines: list[float], max_batch: int) -> None:
    queue = RequestQueue(max_batch=max_batch)
    for robot, deadline in enumerate(deadlines):
        queue.add(ticket(robot, deadline_s=deadline), 0.0)
    order: list[int] = []
    while len(queue):
        order += robots(queue.take(0.0)[0])
    assert [deadlines[robot] for robot in order] == sorted(deadlines)


# --- How many at once -------------------------------------------------------------------------------------------------


def test_as_many_as_wait_where_batches_are_cheap() -> None:
    queue = trained(RequestQueue(max_batch=8), gpu, 1, 2, 4, 8)
    for waiting in (5, 8, 8, 3):
        for robot in range(waiting):
            queue.add(ticket(robot), 0.0)
        batch, _ = queue.take(0.0)
        assert len(batch) == waiting
        queue.done(batch, gpu(queue.times.size(waiting)))


def test_one_after_another_where_batches_take_as_long_as_their_parts() -> None:
    queue = trained(RequestQueue(max_batch=8), lambda size: 0.1 * size, 1, 2, 4, 8)
    for robot in range(5):
        queue.add(ticket(robot), 0.0)
    assert robots(queue.take(0.0)[0]) == [0]


def test_padding_is_avoided_where_it_costs_more_than_another_call() -> None:
    """5 requests: a batch of 8 takes longer than one of 4 and one of 1."""
    took = {1: 0.02, 2: 0.03, 4: 0.05, 8: 0.1}
    queue = trained(RequestQueue(max_batch=8), took.__getitem__, 1, 2, 4, 8)
    for robot in range(5):
        queue.add(ticket(robot), 0.0)
    assert len(queue.take(0.0)[0]) in (1, 4)


def test_sizes_that_were_never_tried_are_tried() -> None:
    queue = trained(RequestQueue(max_batch=8), gpu, 1)
    for robot in range(8):
        queue.add(ticket(robot), 0.0)
    assert len(queue.take(0.0)[0]) == 8


def test_times_are_medians_of_what_was_measured_last() -> None:
    times = BatchTimes((1, 2, 4))
    assert times.expected_s("plain", 3) == 0
    times.measured("plain", 1, 30.0)  # compiling
    for _ in range(9):
        times.measured("plain", 1, 0.05)
    assert times.expected_s("plain", 1) == times.expected_s("plain", 4) == 0.05
    times.measured("plain", 3, 0.2)
    assert times.expected_s("plain", 4) == 0.2
    assert times.expected_s("plain", 2) == 0.05
    assert times.expected_s("rest", 1) == 0


@pytest.mark.parametrize(("connected", "after_s"), [(1, 0.0), (3, 0.010)])
def test_an_idle_model_waits_for_others_who_could_come(connected: int, after_s: float) -> None:
    queue = RequestQueue(max_batch=4, linger_s=0.010, robots=lambda: connected)
    queue.add(ticket(0), 0.0)
    assert queue.next_s(0.0) == after_s
    assert robots(queue.take(0.0)[0]) == ([] if after_s else [0])
    if after_s:
        queue.add(ticket(1), 0.004)
        assert queue.take(0.009)[0] == []
        assert robots(queue.take(0.010)[0]) == [0, 1]


def test_waiting_for_others_ends_before_a_deadline() -> None:
    queue = trained(RequestQueue(max_batch=4, linger_s=1.0), lambda _: 0.05, 1)
    queue.add(ticket(0, deadline_s=0.2), 0.0)
    assert queue.next_s(0.0) == pytest.approx(0.15)


# --- Too much ---------------------------------------------------------------------------------------------------------


def test_a_full_queue_says_when_to_ask_again() -> None:
    queue = trained(RequestQueue(max_batch=2, capacity=4), lambda _: 0.1, 1, 2)
    batch = busy(queue)
    for robot in range(1, 5):
        queue.add(ticket(robot), 0.02)
    with pytest.raises(Refusal, match=r"^4 requests are waiting, as many as may: ask again in 280 ms") as refused:
        queue.add(ticket(5), 0.02)
    assert refused.value.retry_after_s == pytest.approx(0.28)  # 0.08 of the running batch, then two
    queue.done(batch, 0.1)
    assert len(queue.take(0.1)[0]) == 2
    queue.add(ticket(5), 0.1)


def test_a_deadline_that_cannot_be_met_is_refused_at_once() -> None:
    queue = trained(RequestQueue(), lambda _: 0.1, 1)
    busy(queue)
    queue.add(ticket(1, deadline_s=0.2), 0.02)
    reason = r"^the answer would come too late: deadline_ms is 200 ms, the forecast 180 ms of waiting and 100 ms for"
    with pytest.raises(Refusal, match=reason) as refused:
        queue.add(ticket(2, deadline_s=0.22), 0.02)
    assert refused.value.code == "overloaded"
    assert refused.value.retry_after_s == pytest.approx(0.18)
    queue.add(ticket(3, deadline_s=0.35), 0.02)
    queue.add(ticket(4), 0.02)  # has all the time in the world


def test_an_urgent_request_is_not_refused_for_those_behind_it() -> None:
    queue = trained(RequestQueue(), lambda _: 0.1, 1)
    busy(queue)
    for robot in range(1, 8):
        queue.add(ticket(robot), 0.0)
    queue.add(ticket(9, deadline_s=0.25), 0.0)
    assert robots(queue.take(0.1)[0]) == [9]


def test_who_was_overtaken_is_told_when_it_is_too_late() -> None:
    queue = trained(RequestQueue(), lambda _: 0.1, 1)
    batch = busy(queue)
    queue.add(ticket(1, deadline_s=0.25), 0.0)
    queue.add(ticket(2, deadline_s=0.22), 0.0)
    queue.done(batch, 0.1)
    batch, late = queue.take(0.11)
    assert (robots(batch), late) == ([2], [])
    queue.done(batch, 0.21)
    batch, late = queue.take(0.21)
    assert batch == []
    assert [one.payload for one, _ in late] == [1]
    assert "too late" in str(late[0][1])


def test_a_model_slower_than_the_deadline_is_asked_when_nobody_waits() -> None:
    """It may have become faster: nothing else would tell."""
    queue = trained(RequestQueue(), lambda _: 9.0, 1)
    queue.add(ticket(1, deadline_s=0.1), 0.0)
    assert robots(queue.take(0.0)[0]) == [1]


def test_a_request_can_be_withdrawn_until_it_is_taken() -> None:
    queue = RequestQueue()
    one, two = ticket(1), ticket(2)
    queue.add(one, 0.0)
    queue.add(two, 0.0)
    assert queue.withdraw(one)
    assert not queue.withdraw(one)
    assert robots(queue.take(0.0)[0]) == [2]
    assert not queue.withdraw(two)
    queue.forget(2)
    assert queue.next_s(0.0) is None
