"""Statistics of an embodiment are pooled over its datasets, each row weighing the same."""

import attrs
import numpy as np
import pytest

import fla_sdk as fla
from fla_sdk.data import statistics
from fla_sdk.data.demonstrations import Demonstrations
from fla_sdk.errors import StatsError
from fla_sdk.normalization import Stats
from fla_sdk.testing import MemoryDataset

ROBOTS = fla.load_plugins(environment={}).embodiments


def demonstrations(name: str, *lengths: int, seed: int = 0, horizon: int = 3) -> Demonstrations:
    robot = ROBOTS[name]
    return Demonstrations(MemoryDataset.of(robot, lengths=lengths, seed=seed), robot, horizon=horizon)


def test_rows_are_pooled_over_datasets() -> None:
    parts = [demonstrations("planar2", 40, 3), demonstrations("planar2", 7, seed=1)]
    pooled = statistics.compute(parts)
    rows = np.concatenate([part.model_states() for part in parts])
    steps = np.concatenate([part.model_actions() for part in parts])
    assert pooled.count == len(rows) == 50
    for ours, exact in ((pooled.state, Stats.of(rows)), (pooled.actions, Stats.of(steps))):
        for name in ("mean", "std", "q01", "q99"):
            np.testing.assert_array_equal(getattr(ours, name), getattr(exact, name))


def test_actions_are_as_the_model_predicts_them() -> None:
    """Relative joints: a robot told to stay where it is has actions around 0, wherever it is."""
    two = fla.joints("shoulder", "elbow", predict="relative")
    robot = attrs.evolve(ROBOTS["planar2"], state=fla.Space(fla.joints("shoulder", "elbow")), action=fla.Space(two))
    rows = 3 + np.random.default_rng(0).normal(size=(60, 2)) * 0.01
    data = MemoryDataset(
        {"observation.state": rows, "action": rows},
        lengths=(60,),
        fps=robot.control_hz,
        cameras={"observation.images.front": np.zeros((60, 2, 2, 3), np.uint8)},
    )
    found = statistics.compute([Demonstrations(data, robot, horizon=1)])
    np.testing.assert_allclose(found.state.mean, 3, atol=0.01)
    np.testing.assert_allclose(found.actions.mean, 0, atol=1e-12)


def test_fingerprints_follow_the_data() -> None:
    one, again = statistics.compute([demonstrations("planar2", 9)]), statistics.compute([demonstrations("planar2", 9)])
    assert one.fingerprint == again.fingerprint
    assert one.fingerprint != statistics.compute([demonstrations("planar2", 9, seed=1)]).fingerprint
    assert one.fingerprint != statistics.compute([demonstrations("planar2", 9, horizon=4)]).fingerprint


def test_robots_are_not_mixed() -> None:
    with pytest.raises(StatsError, match="statistics belong to one embodiment, got planar2, planar3"):
        statistics.compute([demonstrations("planar2", 5), demonstrations("planar3", 5)])
    with pytest.raises(StatsError, match="got none"):
        statistics.compute([])


def test_images_are_not_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    part = demonstrations("planar2", 5)

    def refuse(*_: object) -> None:
        raise AssertionError("decoded an image")

    monkeypatch.setattr(MemoryDataset, "frame", refuse)
    assert statistics.compute([part]).count == 5
