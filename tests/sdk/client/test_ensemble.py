"""Temporal ensembling and waiting."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from fla_sdk.client import TemporalEnsemble
from fla_sdk.client.backoff import Backoff
from fla_sdk.client.late import Waiting
from fla_sdk.embodiment import Embodiment
from fla_sdk.errors import ConfigError
from fla_sdk.space import Space, gripper, joints


class _Answers:
    metadata: Mapping[str, Any] = {}

    def __init__(self, *chunks: Any) -> None:
        self._chunks = iter(chunks)

    def infer(self, observation: Mapping[str, Any]) -> dict[str, Any]:
        return {"actions": np.array(next(self._chunks), np.float32)[:, None]}


def test_the_oldest_chunk_weighs_most() -> None:
    ensemble = TemporalEnsemble(_Answers([1, 2, 3], [10, 20, 30], [100, 200, 300], [1000, 2000, 3000]), decay=0.5)
    weights = np.exp([0, -0.5, -1.0])
    actions = [ensemble.act(dict[str, Any])[0] for _ in range(4)]
    expected = [
        1,
        np.average([2, 10], weights=weights[:2]),
        np.average([3, 20, 100], weights=weights),
        np.average([30, 200, 1000], weights=weights),  # the first chunk has ended
    ]
    np.testing.assert_allclose(actions, expected, rtol=1e-6)


def test_reset_forgets_the_chunks() -> None:
    ensemble = TemporalEnsemble(_Answers([1, 2], [10, 20]), decay=0)
    ensemble.act(dict[str, Any])
    ensemble.reset()
    np.testing.assert_array_equal(ensemble.act(dict[str, Any]), [10])
    with pytest.raises(ConfigError, match="decay is -1"):
        TemporalEnsemble(_Answers(), decay=-1)


ARM = Embodiment(
    name="arm",
    state=Space(joints("a")),
    action=Space(
        joints("a"), joints("v", unit="m/s", representation="velocity"), gripper(), joints("d", representation="delta")
    ),
    cameras=(),
    control_hz=10,
)


def test_positions_are_held_and_rates_stop() -> None:
    waiting = Waiting("hold", robot=ARM)
    assert waiting.next() is None
    waiting.executed(np.array([1.0, 0.5, 0.0, 0.1]))
    waiting.executed(np.array([2.0, 0.5, 1.0, 0.1]))
    for _ in range(3):
        np.testing.assert_array_equal(waiting.next(), [2, 0, 1, 0])


def test_positions_roll_out_rates_fall_and_a_gripper_stays() -> None:
    waiting = Waiting("decelerate", steps=1, robot=ARM)
    waiting.executed(np.array([1.0, 0.5, 0.0, 0.1]))
    waiting.executed(np.array([2.0, 0.5, 1.0, 0.1]))
    np.testing.assert_allclose(
        np.array([waiting.next() for _ in range(3)]), [[2.5, 0.25, 1, 0.05], [2.5, 0, 1, 0], [2.5, 0, 1, 0]]
    )
    waiting.executed(np.array([2.5, 0.0, 1.0, 0.0]))
    np.testing.assert_array_equal(waiting.next(), [2.5, 0, 1, 0])  # it did not move when it was late again
    waiting.reset()
    assert waiting.next() is None


def test_waits_double_within_a_limit_and_differ() -> None:
    backoff = Backoff(1.0, 10.0)
    waits = [backoff.next_s() for _ in range(6)]
    assert all(longest / 2 <= wait <= longest for wait, longest in zip(waits, [1, 2, 4, 8, 10, 10], strict=True))
    assert len({Backoff(1.0, 10.0).next_s() for _ in range(10)}) > 1
    assert backoff.next_s(at_least_s=30) == 30
    backoff.reset()
    assert backoff.next_s() <= 1.0
