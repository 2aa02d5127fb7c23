"""Batches of several robots: the order depends on the seed alone, and a resumed stream goes on with the next batch."""

import json
import time
from typing import Any

import numpy as np
import pytest

import fla_sdk as fla
from fla_sdk.codec import Codec
from fla_sdk.data import statistics
from fla_sdk.data.demonstrations import Demonstrations
from fla_sdk.data.mixture import Mixture
from fla_sdk.errors import DataError
from fla_sdk.model import Batch, ModelSpec
from fla_sdk.testing import CharacterTokenizer, MemoryDataset

ROBOTS = fla.load_plugins(environment={}).embodiments
SPEC = ModelSpec(
    image_slots=("base_0_rgb", "left_wrist_0_rgb", "right_wrist_0_rgb"),
    image_size=(8, 8),
    action_dim=16,
    horizon=4,
    max_tokens=400,
)


class Unsteady(MemoryDataset):
    """Frames take different times, so that threads finish in another order than they began."""

    def frame(self, name: str, row: int) -> np.ndarray:
        time.sleep(0.002 * (row % 3))
        return super().frame(name, row)


def part(name: str, *lengths: int, kind: type[MemoryDataset] = MemoryDataset) -> tuple[Demonstrations, Codec]:
    robot = ROBOTS[name]
    rng = np.random.default_rng(0)
    rows = sum(lengths)
    data = kind(
        # The first dimension of a state counts its row, so that a test sees which rows it was given.
        {
            "state": np.column_stack([np.arange(rows), rng.normal(size=(rows, robot.state.width - 1))]),
            "action": rng.normal(size=(rows, robot.action.width)),
        },
        lengths=lengths,
        fps=robot.control_hz,
        cameras={c.keys[-1]: rng.integers(0, 255, (rows, 8, 8, 3), dtype=np.uint8) for c in robot.cameras},
    )
    demonstrations = Demonstrations(data, robot, horizon=SPEC.horizon)
    stats = statistics.compute([demonstrations])
    return demonstrations, Codec(embodiment=robot, spec=SPEC, stats=stats, tokenizer=CharacterTokenizer())


def mixture(*parts: tuple[Demonstrations, Codec], **changes: Any) -> Mixture:
    options: dict[str, Any] = {"weights": [1.0] * len(parts), "batch_size": 4, "seed": 0, **changes}
    return Mixture(parts, **options)


def take(stream: Mixture, count: int) -> list[Batch]:
    return [next(stream) for _ in range(count)]


def same(a: list[Batch], b: list[Batch]) -> bool:
    return all(
        np.array_equal(x.actions, y.actions)
        and np.array_equal(x.inputs.tokens, y.inputs.tokens)
        and x.inputs.images.keys() == y.inputs.images.keys()
        and all(np.array_equal(x.inputs.images[s], y.inputs.images[s]) for s in x.inputs.images)
        for x, y in zip(a, b, strict=True)
    )


def test_the_seed_decides_the_order() -> None:
    parts = (part("planar2", 20), part("planar3", 15))
    first = take(mixture(*parts), 6)
    assert same(first, take(mixture(*parts), 6))
    assert not same(first, take(mixture(*parts, seed=1), 6))


def test_threads_do_not_change_the_order() -> None:
    parts = (part("planar2", 20, kind=Unsteady), part("planar3", 15, kind=Unsteady))
    one, many = (take(mixture(*parts, threads=threads), 8) for threads in (1, 8))
    assert same(one, many)


@pytest.mark.parametrize("taken", [0, 1, 5, 12])
def test_a_restored_stream_goes_on_with_the_next_batch(taken: int) -> None:
    """Across the end of an epoch, and from a state that went through JSON."""
    parts = (part("planar2", 13), part("planar3", 7))
    stream = mixture(*parts)
    take(stream, taken)
    state = json.loads(json.dumps(stream.state))
    ahead = take(stream, 6)
    resumed = mixture(*parts)
    resumed.restore(state)
    assert same(ahead, take(resumed, 6))


def test_reading_the_state_moves_nothing() -> None:
    parts = (part("planar2", 13),)
    stream = mixture(*parts)
    seen: list[Batch] = []
    for _ in range(4):
        seen += take(stream, 1)
        assert stream.state == stream.state
    assert same(seen, take(mixture(*parts), 4))


def robots(batches: list[Batch]) -> np.ndarray:
    """Number of dimensions of the robot behind each example."""
    return np.concatenate([batch.action_dims.sum(axis=1) for batch in batches])


@pytest.mark.parametrize("weights", [(1.0, 1.0), (3.0, 1.0), (0.2, 0.8)])
def test_weights_are_respected(weights: tuple[float, float]) -> None:
    """Whatever the sizes of the datasets."""
    widths = robots(take(mixture(part("planar2", 50), part("planar3", 5), weights=weights, batch_size=20), 20))
    share = (widths == 2).mean()
    assert abs(share - weights[0] / sum(weights)) < 0.01


def test_an_epoch_has_every_row_once_in_another_order() -> None:
    demonstrations, codec = part("planar2", 12)
    rows = np.concatenate([b.inputs.state[:, 0] for b in take(mixture((demonstrations, codec), batch_size=12), 2)])
    every = np.sort(rows[:12])
    assert (np.diff(every) > 0).all()
    np.testing.assert_array_equal(every, np.sort(rows[12:]))
    assert rows[:12].tolist() not in (every.tolist(), rows[12:].tolist())


def test_two_robots_share_a_batch() -> None:
    """Other widths, other cameras: padded dimensions and absent cameras are masked."""
    (batch,) = take(mixture(part("planar2", 9), part("aloha", 9), batch_size=8), 1)
    widths = batch.action_dims.sum(axis=1)
    assert sorted(set(widths.tolist())) == [2, 14]
    assert batch.actions.shape == (8, SPEC.horizon, SPEC.action_dim)
    assert not batch.actions[widths == 2][:, :, 2:].any()
    assert batch.inputs.image_masks["base_0_rgb"].all()
    np.testing.assert_array_equal(batch.inputs.image_masks["left_wrist_0_rgb"], widths == 14)
    assert not batch.inputs.images["left_wrist_0_rgb"][widths == 2].any()


def test_the_reference_counts_padding_in() -> None:
    (own,) = take(mixture(part("planar2", 9)), 1)
    (everything,) = take(mixture(part("planar2", 9), loss_dims="all"), 1)
    assert everything.action_dims.all() and everything.action_steps.all()
    assert not own.action_dims.all()
    np.testing.assert_array_equal(own.actions, everything.actions)


def test_mixtures_that_make_no_sense() -> None:
    with pytest.raises(DataError, match="a mixture needs at least one dataset"):
        mixture()
    with pytest.raises(DataError, match="weights of a mixture must be above 0, got 1, 0"):
        mixture(part("planar2", 3), part("planar3", 3), weights=[1.0, 0.0])
