"""The counting behind asynchronous execution, under delays of any kind."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from fla_sdk.client.buffer import Asked, ChunkBuffer
from fla_sdk.client.delay import DelayForecast


@given(
    horizon=st.integers(1, 12),
    execute=st.none() | st.integers(1, 12),
    first=st.integers(0, 6),
    delays=st.lists(st.integers(0, 9), min_size=1, max_size=30),
    failing=st.lists(st.booleans(), min_size=1, max_size=7),
)
def test_whatever_the_delays_each_action_is_executed_once_and_in_order(
    horizon: int, execute: int | None, first: int, delays: list[int], failing: list[bool]
) -> None:
    """Each chunk holds the numbers of the moments it is for, so the executed ones must be 0, 1, 2, ..."""
    buffer, forecast = ChunkBuffer(), DelayForecast(first)
    taken: list[int] = []
    waiting: tuple[int, Asked, bool] | None = None
    asked_times = late = 0
    for step in range(120):
        if waiting is not None and waiting[0] <= step:
            _, asked, fails = waiting
            waiting = None
            if not fails:
                measured = buffer.merge(asked.executed + np.arange(horizon, dtype=np.float32)[:, None], asked)
                assert measured == step - asked.step
                assert buffer.done == buffer.executed - asked.executed <= horizon
                forecast.add(measured)
        if waiting is None and buffer.due(execute=execute, forecast=forecast.steps):
            asked = buffer.ask(forecast=forecast.steps)
            if asked.rest is not None:
                left = len(asked.rest)
                np.testing.assert_array_equal(asked.rest[:, 0], buffer.executed + np.arange(left))
                # What the model asks of a prefix: at most what is left, at most what was executed.
                assert 0 <= asked.delay <= min(left, horizon - left)
            waiting = (step + delays[asked_times % len(delays)], asked, failing[asked_times % len(failing)])
            asked_times += 1
        action = buffer.take()
        if action is None:
            late += 1
            assert waiting is not None  # somebody was asked, or will be in this very step
        else:
            taken.append(int(action[0]))
    assert taken == list(range(len(taken)))
    assert (buffer.executed, buffer.steps) == (len(taken), len(taken) + late)


@given(st.integers(4, 20), st.integers(0, 10), st.integers(1, 20))
def test_a_constant_delay_that_the_chunk_has_room_for_is_never_late(horizon: int, delay: int, execute: int) -> None:
    delay = min(delay, horizon // 2)
    buffer = ChunkBuffer()
    buffer.merge(np.zeros((horizon, 1)), buffer.ask(forecast=delay))
    arrives, asked = -1, None
    for step in range(100):
        if asked is not None and arrives == step:
            assert buffer.merge(np.zeros((horizon, 1)), asked) == delay
            asked = None
        if asked is None and buffer.due(execute=execute, forecast=delay):
            asked = buffer.ask(forecast=delay)
            assert asked.delay == delay  # told the truth: neither cut by what was executed nor by what is left
            arrives = step + delay
            if delay == 0:
                buffer.merge(np.zeros((horizon, 1)), asked)
                asked = None
        assert buffer.take() is not None


def test_a_chunk_whose_every_moment_has_passed_gives_nothing_and_is_asked_for_again() -> None:
    buffer = ChunkBuffer()
    asked = buffer.ask(forecast=1)
    buffer.merge(np.zeros((5, 1)), asked)
    for _ in range(5):
        assert buffer.take() is not None
    buffer.merge(np.ones((3, 1)), asked)
    assert (buffer.left, buffer.take()) == (0, None)
    assert buffer.due(execute=3, forecast=1)
    assert buffer.ask(forecast=1).rest is None


def test_actions_may_be_changed_without_changing_the_chunk() -> None:
    buffer = ChunkBuffer()
    buffer.merge(np.zeros((2, 1)), buffer.ask(forecast=0))
    first = buffer.take()
    assert first is not None
    first += 9
    rest = buffer.ask(forecast=0).rest
    assert rest is not None
    rest += 9
    np.testing.assert_array_equal(buffer.take(), [0])


def test_the_forecast_is_the_longest_of_the_last_delays() -> None:
    forecast = DelayForecast(2, memory=3)
    assert forecast.steps == 2
    forecast.add(5)
    forecast.add(1)
    assert forecast.steps == 5
    for _ in range(3):
        forecast.add(1)
    assert forecast.steps == 1
