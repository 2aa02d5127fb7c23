"""Batches of several robots: the order depends on the seed alone, and a resumed stream goes on with the next batch."""

import json
import time
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import pytest

import fla_sdk as fla
from fla_sdk.codec import Codec
from fla_sdk.data import statistics
from fla_sdk.data.demonstrations import Demonstrations
from fla_sdk.data.mixture import Mixture, Part
from fla_sdk.data.quarantine import Quarantine
from fla_sdk.errors import ConfigError, DataError, EpisodeError
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


def part(
    name: str, *lengths: int, kind: type[MemoryDataset] = MemoryDataset, task: str = "do something", **options: Any
) -> Part:
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
        task=task,
    )
    demonstrations = Demonstrations(data, robot, horizon=SPEC.horizon, quarantine=options.pop("quarantine", None))
    stats = statistics.compute([demonstrations])
    codec = Codec(embodiment=robot, spec=SPEC, stats=stats, tokenizer=CharacterTokenizer())
    return Part(demonstrations=demonstrations, codec=codec, **options)


def mixture(*parts: Part, **changes: Any) -> Mixture:
    return Mixture(parts, **{"batch_size": 4, "seed": 0, **changes})


def rows_of(batches: list[Batch], one: Part) -> list[int]:
    """The dataset's row behind each example of planar2: its state begins with it."""
    stats = one.codec.stats.state
    assert stats.q01 is not None and stats.q99 is not None
    scaled = np.concatenate([batch.inputs.state[:, 0] for batch in batches])
    return np.round((scaled + 1) / 2 * (stats.q99[0] - stats.q01[0] + 1e-6) + stats.q01[0]).astype(int).tolist()


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
    """Across the end of an epoch, from a state that went through JSON, with another number of threads."""
    parts = (part("planar2", 13, kind=Unsteady), part("planar3", 7, window=2))
    stream = mixture(*parts, threads=1)
    take(stream, taken)
    state = json.loads(json.dumps(stream.state))
    ahead = take(stream, 6)
    resumed = mixture(*parts, threads=4)
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


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, 3 / 4),
        ({"sampling": "size"}, 3 * 5 / (3 * 5 + 50)),
        ({"sampling": "temperature", "temperature": 2.0}, 3 * 5**0.5 / (3 * 5**0.5 + 50**0.5)),
        ({"sampling": "temperature", "temperature": 1.0}, 3 * 5 / (3 * 5 + 50)),
        ({"batches": "embodiment"}, 3 / 4),
    ],
)
def test_how_often_a_source_is_drawn_from(options: dict[str, Any], expected: float) -> None:
    parts = (part("planar2", 5, weight=3.0), part("planar3", 50))
    widths = robots(take(mixture(*parts, batch_size=20, **options), 20))
    assert abs((widths == 2).mean() - expected) < 0.03


def test_a_batch_may_be_filled_with_one_robot() -> None:
    batches = take(mixture(part("planar2", 9), part("planar2", 7), part("planar3", 9), batches="embodiment"), 20)
    widths = [set(batch.action_dims.sum(axis=1).tolist()) for batch in batches]
    assert all(len(one) == 1 for one in widths)
    assert {2} in widths and {3} in widths


@pytest.mark.parametrize("batches", ["mixed", "embodiment"])
def test_processes_share_the_batches_of_one(batches: str) -> None:
    """Without overlap: what one process sees in a batch, two see together."""
    parts = (part("planar2", 13), part("planar3", 7))
    alone = take(mixture(*parts, batches=batches), 6)
    both = [take(mixture(*parts, batches=batches, process=(number, 2)), 6) for number in range(2)]
    for whole, first, second in zip(alone, *both, strict=True):
        assert first.actions.shape[0] == second.actions.shape[0] == 2
        np.testing.assert_array_equal(whole.actions, np.concatenate([first.actions, second.actions]))


def test_an_epoch_has_every_row_once_in_another_order() -> None:
    rows = np.concatenate([b.inputs.state[:, 0] for b in take(mixture(part("planar2", 12), batch_size=12), 2)])
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


@pytest.mark.parametrize("window", [1, 2, 5])
def test_a_window_keeps_reads_near_each_other(window: int) -> None:
    """Every row once in a pass, in another order each time; and at most `window` episodes at once."""
    lengths = (3, 4, 2, 5, 1)
    one = part("planar2", *lengths, window=window)
    rows = rows_of(take(mixture(one, batch_size=15), 2), one)
    first, second = rows[:15], rows[15:]
    assert sorted(first) == sorted(second) == list(range(15))
    assert first != second
    episodes = np.repeat(range(5), lengths)[first]
    for begin in range(15):
        ahead = [*dict.fromkeys(episodes[begin:])]
        between = episodes[begin : begin + list(episodes[begin:]).index(ahead[-1]) + 1]
        assert len(set(between)) == len(ahead)
    finished = {e: int(np.flatnonzero(episodes == e)[-1]) for e in range(5)}
    begun = {e: int(np.flatnonzero(episodes == e)[0]) for e in range(5)}
    assert all(sum(begun[e] <= t <= finished[e] for e in range(5)) <= window for t in range(15))


class Damaged(MemoryDataset):
    """Episode 1 cannot be decoded, rows 3 to 6 of `part("planar2", 3, 4, 5)`."""

    def frame(self, name: str, row: int) -> np.ndarray:
        if 3 <= row < 7:
            raise EpisodeError(f"no frame {row}", episode=1)
        return super().frame(name, row)


def test_a_damaged_episode_is_replaced_within_the_budget_and_listed(tmp_path: Path) -> None:
    told: list[str] = []
    file = tmp_path / "run" / "quarantine.jsonl"
    parts = [
        part("planar2", 3, 4, 5, kind=Damaged, quarantine=Quarantine(1, file=file, tell=told.append)) for _ in range(2)
    ]
    batches = take(mixture(parts[0], threads=1), 6)
    assert not set(rows_of(batches, parts[0])) & {3, 4, 5, 6}
    assert same(batches, take(mixture(parts[1], threads=8), 6))
    assert [json.loads(line)["episode"] for line in file.read_text().splitlines()] == [1, 1]
    assert "episode 1: no frame" in told[0] and "(1 of 1)" in told[0]


def test_a_damaged_episode_beyond_the_budget_ends_the_run() -> None:
    with pytest.raises(DataError, match=r"(?s)1 damaged episodes, 0 may be left out.*episode 1: no frame"):
        take(mixture(part("planar2", 3, 4, 5, kind=Damaged)), 6)


def test_each_sample_has_the_task_and_the_statistics_of_its_own_dataset() -> None:
    """Two robots whose tasks have the same number; a third source with the first one's robot and other numbers."""
    parts = [part("planar2", 8, task="wave"), part("planar3", 8, task="point")]
    for one in parts:
        stats = one.codec.stats
        shifted = attrs.evolve(stats.state, mean=stats.state.mean + 1)
        object.__setattr__(one.codec, "stats", attrs.evolve(stats, state=shifted))
    (batch,) = take(mixture(*parts, batch_size=8), 1)
    for row, width in enumerate(batch.action_dims.sum(axis=1).tolist()):
        one = parts[0] if width == 2 else parts[1]
        text = "".join(chr(int(t)) for t in batch.inputs.tokens[row] if t > 2)
        assert ("wave" in text, "point" in text) == (width == 2, width == 3)
        known = {
            tuple(np.round(one.codec.encode_example(one.demonstrations[i]).inputs.state, 5).tolist()) for i in range(8)
        }
        assert tuple(np.round(batch.inputs.state[row], 5).tolist()) in known


def test_mixtures_that_make_no_sense() -> None:
    with pytest.raises(DataError, match="a mixture needs at least one dataset"):
        mixture()
    with pytest.raises(DataError, match="weights of a mixture must be above 0, got 0"):
        mixture(part("planar2", 3), part("planar3", 3, weight=0.0))
    with pytest.raises(ConfigError, match="batch_size 4 cannot be divided evenly over 3 processes"):
        mixture(part("planar2", 3), process=(0, 3))


def test_processes_have_batches_of_the_same_shape() -> None:
    """Also where one of them meets only robots with one camera and short prompts."""
    parts = (part("planar2", 40, task="go"), part("aloha", 4, task="take the red cube with both hands", weight=0.05))
    streams = [mixture(*parts, batch_size=4, process=(number, 2)) for number in range(2)]
    for _ in range(8):
        first, second = (next(stream) for stream in streams)
        assert first.inputs.images.keys() == second.inputs.images.keys()
        assert first.inputs.tokens.shape == second.inputs.tokens.shape
        for slot, images in first.inputs.images.items():
            assert images.shape == second.inputs.images[slot].shape
            assert not images[~first.inputs.image_masks[slot]].any()
