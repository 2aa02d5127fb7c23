"""Statistics of an embodiment: what the codec's own path sees, pooled over datasets, each row weighing the same."""

import functools
import operator
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fla_sdk as fla
from fla_sdk.codec import model_actions, model_state
from fla_sdk.data import statistics
from fla_sdk.data.demonstrations import Demonstrations
from fla_sdk.data.partial_stats import PartialStats, hardly_moving
from fla_sdk.errors import StatsError
from fla_sdk.normalization import Stats, normalize
from fla_sdk.testing import MemoryDataset

ROBOTS = fla.load_plugins(environment={}).embodiments


def demonstrations(name: str, *lengths: int, seed: int = 0, horizon: int = 3) -> Demonstrations:
    robot = ROBOTS[name]
    return Demonstrations(small(robot, *lengths, seed=seed), robot, horizon=horizon)


def small(robot: fla.Embodiment, *lengths: int, seed: int = 0) -> MemoryDataset:
    return MemoryDataset.of(attrs.evolve(robot, image_shape=(2, 2)), lengths=lengths, seed=seed)


def of(robot: fla.Embodiment, states: np.ndarray, actions: np.ndarray, *, horizon: int = 1) -> Demonstrations:
    cameras = {camera.keys[-1]: np.zeros((len(states), 2, 2, 3), np.uint8) for camera in robot.cameras}
    columns = {"observation.state": states, "action": actions}
    data = MemoryDataset(columns, lengths=(len(states),), fps=robot.control_hz, cameras=cameras)
    return Demonstrations(data, robot, horizon=horizon)


def through_the_codec(parts: Sequence[Demonstrations]) -> tuple[np.ndarray, np.ndarray]:
    """States `[N, S]` and real steps of actions `[M, A]` of all samples, one at a time."""
    states: list[np.ndarray] = []
    steps: list[np.ndarray] = []
    for part in parts:
        for row in part.rows:
            rows, is_pad = part.window(int(row))
            states.append(model_state(part.embodiment, part.states[row]))
            steps += list(model_actions(part.embodiment, part.actions[rows], part.states[row])[~is_pad])
    return np.array(states), np.array(steps)


@settings(max_examples=20)
@given(
    name=st.sampled_from(["planar2", "aloha", "droid_jointpos", "libero"]),
    lengths=st.lists(st.integers(1, 9), min_size=1, max_size=4),
    more=st.lists(st.integers(1, 9), min_size=1, max_size=2),
    horizon=st.integers(1, 6),
    block=st.integers(1, 12),
    data=st.data(),
)
def test_they_are_those_of_the_codecs_own_path(
    name: str, lengths: list[int], more: list[int], horizon: int, block: int, data: st.DataObject
) -> None:
    """Whatever the blocks, and also where some samples are left out; padding at an episode's end is no data."""
    parts = [demonstrations(name, *lengths, horizon=horizon), demonstrations(name, *more, seed=1, horizon=horizon)]
    kept = data.draw(st.lists(st.sampled_from(range(sum(lengths))), min_size=1, unique=True))
    parts[0].rows = np.sort(kept)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(statistics, "BLOCK", block)
        found = statistics.collect(parts)
    states, steps = through_the_codec(parts)
    assert found.count == len(states)
    for ours, rows in ((found.state, states), (found.actions, steps)):
        exact = Stats.of(rows) if len(rows) > 1 else None
        for dimension, one in enumerate(ours):
            values = rows[:, dimension]
            assert (one.count, one.low, one.high) == (len(rows), values.min(), values.max())
            if exact is not None and exact.q01 is not None and exact.q99 is not None:
                assert one.mean == pytest.approx(exact.mean[dimension], rel=1e-9, abs=1e-9)
                assert one.std == pytest.approx(exact.std[dimension], rel=1e-9, abs=1e-9)
                assert one.quantile(0.01) == pytest.approx(exact.q01[dimension], abs=one.bin_width)
                assert one.quantile(0.99) == pytest.approx(exact.q99[dimension], abs=one.bin_width)


def test_samples_that_are_left_out_do_not_count() -> None:
    rows = np.repeat([[0.0, 0.0], [1.0, 1.0], [9.0, 9.0]], [5, 20, 20], axis=0)
    robot = ROBOTS["planar2"]
    moving = Demonstrations(of(robot, rows, rows).dataset, robot, horizon=4, skip_idle=True)
    found = statistics.collect([moving])
    assert found.count == len(moving) < len(rows)
    assert found.state[0].high < 9


def test_datasets_are_pooled_in_any_order() -> None:
    parts = [demonstrations("aloha", 40, 3), demonstrations("aloha", 7, seed=1), demonstrations("aloha", 11, seed=2)]
    whole = statistics.collect(parts).norm_stats()
    for order in ((2, 0, 1), (1, 2, 0)):
        one = functools.reduce(operator.add, [statistics.collect([parts[i]]) for i in order]).norm_stats()
        assert (one.count, one.fingerprint) == (whole.count, whole.fingerprint) == (61, one.fingerprint)
        for kind in ("state", "actions"):
            ours, expected = getattr(one, kind), getattr(whole, kind)
            for name in ("q01", "q99", "min", "max"):
                np.testing.assert_array_equal(getattr(ours, name), getattr(expected, name))
            np.testing.assert_allclose(ours.mean, expected.mean, atol=1e-14)
            np.testing.assert_allclose(ours.std, expected.std, rtol=1e-13)


def test_actions_are_as_the_model_predicts_them() -> None:
    """Relative joints: a robot told to stay where it is has actions around 0, wherever it is."""
    two = fla.joints("shoulder", "elbow", predict="relative")
    robot = attrs.evolve(ROBOTS["planar2"], state=fla.Space(fla.joints("shoulder", "elbow")), action=fla.Space(two))
    rows = 3 + np.random.default_rng(0).normal(size=(60, 2)) * 0.01
    found = statistics.compute([of(robot, rows, rows)])
    np.testing.assert_allclose(found.state.mean, 3, atol=0.01)
    np.testing.assert_allclose(found.actions.mean, 0, atol=1e-12)


def test_memory_does_not_grow_with_the_data(tmp_path: Path) -> None:
    """Columns that are mapped from disk stay there: 6 times as many rows take no more memory."""
    import tracemalloc

    robot = ROBOTS["aloha"]
    peaks: list[int] = []
    for rows in (4096, 6 * 4096):
        columns: dict[str, np.ndarray] = {}
        for name in ("observation.state", "action"):
            np.save(tmp_path / "column.npy", np.random.default_rng(0).uniform(0, 1, (rows, 14)).astype(np.float32))
            columns[name] = np.load(tmp_path / "column.npy", mmap_mode="r")
        part = of(robot, columns["observation.state"], columns["action"])
        tracemalloc.start()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(statistics, "BLOCK", 4096)
            statistics.collect([part])
        # What one number per row takes: where episodes end, which rows are used.
        peaks.append(tracemalloc.get_traced_memory()[1] - 4 * 8 * rows)
        tracemalloc.stop()
    assert peaks[1] < 1.5 * peaks[0]


# --- Dimensions that hardly move ------------------------------------------------------------------------------------


ARM = fla.Embodiment(
    name="arm",
    state=fla.Space(fla.joints("lift", "waist", "wrist"), fla.gripper()),
    action=fla.Space(fla.joints("lift", "waist", "wrist"), fla.gripper()),
    cameras=(),
    control_hz=10,
)


def resting() -> PartialStats:
    """A lift that moves, a locked waist that rattles, a wrist that never moves, a gripper that opens once in 200."""
    rows = np.zeros((1000, 4))
    rows[:, 0] = np.linspace(-1, 1, 1000)
    rows[:, 1] = 0.5 + 1e-5 * np.random.default_rng(0).normal(size=1000)
    rows[::200, 3] = 1
    return statistics.collect([of(ARM, rows, rows)])


@pytest.mark.parametrize("kind", ["quantile", "zscore"])
def test_dimensions_that_hardly_move_are_not_blown_up(kind: str) -> None:
    stats = resting().norm_stats().state
    rows = np.array([[0, 0.5 + 3e-5, 0, 0], [0, 0.5 - 3e-5, 0, 1]])
    scaled = normalize(rows, stats, kind)
    assert np.abs(scaled[:, 1:3]).max() < 0.1
    assert np.abs(scaled[:, 3]).max() < (1.01 if kind == "quantile" else 20)
    free = Stats.of(np.linspace(-1, 1, 1000)[:, None])
    np.testing.assert_allclose(scaled[:, 0], normalize(np.zeros((2, 1)), free, kind)[:, 0], atol=1e-4)


def test_dimensions_that_hardly_move_are_named_with_both_sides() -> None:
    rows = list(resting().rows())
    assert [(row.kind, row.name) for row in rows if row.note] == [
        (kind, name) for kind in ("state", "actions") for name in ("waist", "wrist", "gripper")
    ]
    line = hardly_moving(rows)
    assert "state 'wrist' spreads 0 rad, below 0.001: scaled as if it were 0.001" in line
    assert (
        "actions 'gripper' rests in 98 % of the rows (3e-05 open_fraction, below 0.01): scaled by its extremes" in line
    )
    assert not hardly_moving([row for row in rows if row.name == "lift"])


# --- Partial results ------------------------------------------------------------------------------------------------


def test_partial_results_survive_a_file(tmp_path: Path) -> None:
    one = statistics.collect([demonstrations("aloha", 9)])
    file = tmp_path / "part.json"
    file.write_text(one.to_json())
    again = PartialStats.load(file)
    assert again.norm_stats().to_json() == one.norm_stats().to_json()
    assert (again + one).count == 18


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda text: text[:-30], "JSONDecodeError"),
        (lambda text: text.replace('"format": 1', '"format": 2'), "format 2, this version of fla-sdk reads 1"),
        (lambda text: text.replace('"horizon": 3', '"horizon": "x"'), "horizon"),
        (lambda text: text.replace('"rad"', '"furlong"'), "furlong"),
        (lambda text: text.replace('"parts"', '"bits"'), "KeyError: 'parts'"),
        (lambda text: text.replace('"count": 9', '"count": 8', 1), "of 8 values in"),
        (lambda text: '{"norm_stats": {}}', "KeyError: 'format'"),
    ],
)
def test_damaged_partial_results_are_named(tmp_path: Path, change: Any, message: str) -> None:
    file = tmp_path / "part.json"
    file.write_text(change(statistics.collect([demonstrations("planar2", 9)]).to_json()))
    with pytest.raises(StatsError, match=message) as caught:
        PartialStats.load(file)
    assert str(file) in str(caught.value)
    assert "fla stats DATA --part FILE" in str(caught.value)


def test_other_robots_and_horizons_are_not_pooled() -> None:
    one = statistics.collect([demonstrations("planar2", 5)])
    with pytest.raises(StatsError, match="got horizon: 3 and 4"):
        _ = one + statistics.collect([demonstrations("planar2", 5, horizon=4)])
    with pytest.raises(StatsError, match=r"embodiment: 'planar2' and 'planar3'; state: .*joint2 \(rad\) and .*joint3"):
        _ = one + statistics.collect([demonstrations("planar3", 5)])
    with pytest.raises(StatsError, match="statistics belong to one embodiment, got planar2, planar3"):
        statistics.compute([demonstrations("planar2", 5), demonstrations("planar3", 5)])
    with pytest.raises(StatsError, match="got none"):
        statistics.compute([])
    with pytest.raises(StatsError, match="at least 2 rows, memory has 1"):
        statistics.compute([demonstrations("planar2", 1)])


def test_fingerprints_follow_the_data() -> None:
    one, again = statistics.compute([demonstrations("planar2", 9)]), statistics.compute([demonstrations("planar2", 9)])
    assert one.fingerprint == again.fingerprint
    assert one.fingerprint != statistics.compute([demonstrations("planar2", 9, seed=1)]).fingerprint
    assert one.fingerprint != statistics.compute([demonstrations("planar2", 9, horizon=4)]).fingerprint


def test_images_are_not_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    part = demonstrations("planar2", 5)

    def refuse(*_: object) -> None:
        raise AssertionError("decoded an image")

    monkeypatch.setattr(MemoryDataset, "frame", refuse)
    assert statistics.compute([part]).count == 5
