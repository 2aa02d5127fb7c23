"""Open-loop execution of action chunks."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fla_sdk.client import ActionChunk, ChunkExecutor
from fla_sdk.errors import ConfigError, ServerError


class _Counter:
    """Answers the n-th observation, which says the step it was made at, with the steps that follow it."""

    def __init__(self, horizon: int) -> None:
        self.metadata: Mapping[str, Any] = {}
        self.horizon = horizon
        self.asked_at: list[int] = []

    def infer(self, observation: Mapping[str, Any]) -> dict[str, Any]:
        self.asked_at.append(observation["step"])
        return {"actions": np.arange(self.horizon, dtype=np.float32)[:, None] + observation["step"]}


@given(st.integers(1, 10), st.integers(1, 10), st.integers(1, 40))
def test_every_step_gets_its_own_action_and_the_policy_is_asked_every_replan_steps(
    horizon: int, replan: int, steps: int
) -> None:
    policy = _Counter(horizon)
    replan = min(replan, horizon)
    executor = ChunkExecutor(policy, replan=replan)
    actions = [executor.act(lambda step=step: {"step": step}) for step in range(steps)]
    np.testing.assert_array_equal(actions, np.arange(steps)[:, None])
    assert policy.asked_at == list(range(0, steps, replan))


def test_without_replan_chunks_are_executed_to_their_end() -> None:
    policy = _Counter(4)
    executor = ChunkExecutor(policy)
    for step in range(9):
        executor.act(lambda step=step: {"step": step})
    assert policy.asked_at == [0, 4, 8]


def test_reset_forgets_the_chunk() -> None:
    policy = _Counter(4)
    executor = ChunkExecutor(policy)
    executor.act(lambda: {"step": 0})
    assert executor.chunk is not None
    executor.reset()
    assert executor.chunk is None
    np.testing.assert_array_equal(executor.act(lambda: {"step": 100}), [100])


def test_actions_may_be_changed_without_changing_the_chunk() -> None:
    executor = ChunkExecutor(_Counter(4), replan=2)
    action = executor.act(lambda: {"step": 0})
    action += 100
    assert executor.chunk is not None
    np.testing.assert_array_equal(executor.chunk.actions[0], [0])


def test_after_a_failed_request_the_next_act_asks_again() -> None:
    class Flaky(_Counter):
        def infer(self, observation: Mapping[str, Any]) -> dict[str, Any]:
            answer = super().infer(observation)
            if len(self.asked_at) == 2:
                raise ServerError("lost")
            return answer

    policy = Flaky(2)
    executor = ChunkExecutor(policy)
    executor.act(lambda: {"step": 0})
    executor.act(lambda: {"step": 1})
    with pytest.raises(ServerError, match="lost"):
        executor.act(lambda: {"step": 2})
    np.testing.assert_array_equal(executor.act(lambda: {"step": 3}), [3])
    assert policy.asked_at == [0, 2, 3]


def test_replan_must_fit_the_chunk() -> None:
    with pytest.raises(ConfigError, match="replan is 0"):
        ChunkExecutor(_Counter(4), replan=0)
    executor = ChunkExecutor(_Counter(4), replan=5)
    with pytest.raises(ConfigError, match="replan is 5, but the policy answers with chunks of 4 actions"):
        executor.act(lambda: {"step": 0})


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        ({"action": 1}, "has no 'actions'; it has action"),
        ({"actions": np.zeros(3)}, r"shape \(3,\)"),
        ({"actions": np.zeros((0, 3))}, r"shape \(0, 3\)"),
        ({"actions": np.array([["a"]])}, "must be numbers"),
        ({"actions": np.array([[0.0], [np.nan]])}, "not finite in step 1"),
        ({"actions": np.array([[0.0], [np.inf]])}, "not finite in step 1"),
    ],
)
def test_actions_that_a_robot_cannot_execute_are_refused(reply: dict[str, Any], reason: str) -> None:
    with pytest.raises(ServerError, match=reason):
        ActionChunk.from_reply(reply)
