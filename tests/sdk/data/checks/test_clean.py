"""A dataset without a fault has no findings: checks that cry wolf are switched off by their users."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fla_sdk.data.checks import check
from fla_sdk.plugins import Registry
from fla_sdk.testing import MemoryDataset


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    seed=st.integers(0, 2**32 - 1),
    episodes=st.integers(2, 12),
    shortest=st.integers(40, 150),
    known=st.booleans(),
    named=st.booleans(),
)
def test_smooth_demonstrations(
    record: Callable[..., Any], seed: int, episodes: int, shortest: int, known: bool, named: bool
) -> None:
    made = record(seed, episodes=episodes, shortest=shortest)
    made.named = named
    assert made.findings(robot=made.robot if known else None) == ()


@settings(max_examples=10)
@given(seed=st.integers(0, 2**32 - 1), lengths=st.lists(st.integers(10, 40), min_size=1, max_size=6))
def test_random_motion_of_every_installed_robot(registry: Registry, seed: int, lengths: list[int]) -> None:
    for robot in registry.embodiments.values():
        small = attrs.evolve(robot, image_shape=(12, 16))
        assert check(MemoryDataset.of(small, lengths=lengths, seed=seed), small) == (), robot.name


@pytest.mark.parametrize("name", ["planar2", "planar3"])
def test_recorded_demonstrations(arms: dict[str, Path], registry: Registry, name: str) -> None:
    dataset = registry.open_dataset(str(arms[name]))
    assert dataset is not None
    assert check(dataset, registry.embodiment(name)) == check(dataset) == ()


def test_two_halves_of_a_recording_share_nothing(record: Callable[..., Any]) -> None:
    assert record(0).findings(against=record(1).dataset(), reference=record(0).dataset(), horizon=16) == ()
