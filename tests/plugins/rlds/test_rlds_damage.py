"""Damage is found, named by shard and record, and leaves the other episodes alone."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fla_plugins.rlds.options import Options
from fla_plugins.rlds.plugin import fla_open_dataset
from fla_plugins.rlds.reader import RldsDataset
from fla_sdk.errors import DataError, EpisodeError, UnknownNameError


def opened(path: Path, **options: Any) -> RldsDataset:
    return RldsDataset(path, Options(**{"fps": 10.0, **options}))


def flip(path: Path, at: int) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 0xFF
    path.write_bytes(data)


def lengths(dataset: RldsDataset) -> list[int]:
    return np.diff(dataset.episode_bounds, axis=1)[:, 0].tolist()


def record_start(kit: Any, *steps: int, first: int = 0) -> int:
    """Where the record after episodes `first`... with these lengths begins."""
    return sum(len(kit.record(kit.example(kit.episode(first + i, n)))) for i, n in enumerate(steps))


def test_a_length_that_fails_its_checksum_loses_what_follows_in_its_shard(toy: Any, kit: Any, tmp_path: Path) -> None:
    shard = toy([(3, 5, 2), (4,)])[0]
    flip(shard, record_start(kit, 3) + 2)
    dataset = opened(tmp_path / "toy")
    assert lengths(dataset) == [3, 1, 1, 4]
    assert set(dataset.damaged) == {1, 2}
    assert shard.name in dataset.damaged[1] and "record 1 fails its checksum" in dataset.damaged[1]
    actions = dataset.column("action")
    assert not actions[3:5].any()
    np.testing.assert_array_equal(actions[5:], kit.episode(3, 4)["steps/action"])
    assert [dataset.task(row) for row in (3, 4, 5)] == ["", "", "do 1"]
    with pytest.raises(EpisodeError, match="record 1 fails its checksum"):
        dataset.frame("observation/image", 4)


def test_data_that_fails_its_checksum_is_found_when_asked_for(toy: Any, kit: Any, tmp_path: Path) -> None:
    shard = toy([(3, 5)])[0]
    start = record_start(kit, 3)
    flip(shard, start + shard.read_bytes()[start:].index(b"IDAT") + 20)  # within the first image of the second record
    assert opened(tmp_path / "toy").damaged == {}
    dataset = opened(tmp_path / "toy", verify=True)
    assert lengths(dataset) == [3, 1]
    assert "record 1: the data fails its checksum" in dataset.damaged[1] and shard.name in dataset.damaged[1]


def test_a_damaged_image_is_named_with_its_cause(toy: Any, kit: Any, tmp_path: Path) -> None:
    shard = toy([(3, 5)])[0]
    start = record_start(kit, 3)
    flip(shard, start + shard.read_bytes()[start:].index(b"\x89PNG") + 2)
    dataset = opened(tmp_path / "toy")
    with pytest.raises(
        EpisodeError, match=r"00000-of-00001, record 1: .* step 0 .* fails its checksum: copy"
    ) as caught:
        dataset.frame("observation/image", 3)
    assert caught.value.episode == 1
    np.testing.assert_array_equal(dataset.frame("observation/image", 4), kit.picture(1, 1))


def test_an_image_that_was_written_badly_is_not_blamed_on_the_copy(kit: Any, tmp_path: Path) -> None:
    steps = {"image": kit.image(12, 16, 3), "action": kit.tensor("float32", 1)}
    kit.write(tmp_path / "set", [[{"steps/image": [b""], "steps/action": np.zeros((1, 1))}]], steps)
    with pytest.raises(EpisodeError, match="it was written so"):
        opened(tmp_path / "set").frame("image", 0)


@pytest.mark.parametrize("info", [True, False])
def test_a_truncated_shard_keeps_its_whole_episodes(toy: Any, kit: Any, tmp_path: Path, info: bool) -> None:
    shard = toy([(3, 5, 2), (4,)], info=info)[0]
    shard.write_bytes(shard.read_bytes()[: record_start(kit, 3, 5) - 50])
    dataset = opened(tmp_path / "toy")
    assert lengths(dataset) == ([3, 1, 1, 4] if info else [3, 1, 4])  # without info, nobody knows of a third
    assert all("cut off in record 1" in reason for reason in dataset.damaged.values())
    np.testing.assert_array_equal(dataset.frame("observation/image", 2), kit.picture(0, 2))


@given(share=st.floats(0, 1))
@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_wherever_a_file_ends_its_whole_episodes_are_read(toy: Any, kit: Any, tmp_path: Path, share: float) -> None:
    shard = toy([(3, 2, 4), (1,)])[0]
    size = round(share * shard.stat().st_size)
    shard.write_bytes(shard.read_bytes()[:size])
    dataset = opened(tmp_path / "toy")
    whole = [record_start(kit, *(3, 2, 4)[: n + 1]) <= size for n in range(3)]
    assert lengths(dataset) == [n if ok else 1 for n, ok in zip((3, 2, 4), whole, strict=True)] + [1]
    assert list(dataset.damaged) == [n for n, ok in enumerate(whole) if not ok]


@given(data=st.data())
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_flipped_bytes_raise_nothing_but_our_errors(toy: Any, tmp_path: Path, data: st.DataObject) -> None:
    shard = toy([(2, 2)])[0]
    flip(shard, data.draw(st.integers(0, shard.stat().st_size - 1)))
    try:
        dataset = opened(tmp_path / "toy")
        for name, feature in dataset.features.items():
            for row in range(len(dataset)) if feature.is_camera else ():
                if name != "observation/depth":
                    dataset.frame(name, row)
            if not feature.is_camera:
                dataset.column(name)
        dataset.task(0)
    except DataError:
        pass


def test_a_missing_shard_is_damage_unless_only_a_part_is_wanted(toy: Any, tmp_path: Path) -> None:
    shard = toy([(3, 5), (4, 1), (2,)])[1]
    shard.unlink()
    dataset = opened(tmp_path / "toy")
    assert lengths(dataset) == [3, 5, 1, 1, 2]
    assert all(f"missing file {shard}" in dataset.damaged[episode] for episode in (2, 3))
    part = opened(tmp_path / "toy", partial=True)
    assert (lengths(part), part.damaged) == ([3, 5, 2], {})


def test_an_unknown_split_is_refused_with_the_nearest(toy: Any, tmp_path: Path) -> None:
    toy()
    with pytest.raises(UnknownNameError, match="'trian'; did you mean 'train'"):
        opened(tmp_path / "toy", split="trian")


Damage = Callable[[Path], object]


def _relabel(path: Path, old: str, new: str) -> None:
    path.write_text(path.read_text().replace(old, new))


@pytest.mark.parametrize(
    ("damage", "complaint"),
    [
        (lambda root: (root / "features.json").unlink(), "missing file .*features.json"),
        (lambda root: (root / "features.json").write_text("{"), "features.json is damaged"),
        (lambda root: (root / "features.json").write_text('{"type": "x", "content": "{}"}'), "not a features.json"),
        (lambda root: _relabel(root / "features.json", '"steps"', '"stops"'), "declares no steps"),
        (lambda root: (root / "dataset_info.json").write_text("["), "dataset_info.json is damaged"),
        (lambda root: _relabel(root / "dataset_info.json", '"2"', '"1"'), "holds 2 episodes, but .* gives it 1"),
        (lambda root: _relabel(root / "dataset_info.json", '["2", "1", "2"]', '["5"]'), "has 1 shards, .* say 3"),
        (lambda root: [path.unlink() for path in root.glob("*.tfrecord-*")], "no TFRecord shards"),
        (lambda root: [path.write_bytes(b"") for path in root.glob("*.tfrecord-*")], "nothing of .* can be read"),
        (lambda root: _relabel(root / "features.json", '"float32"', '"int64"'), "'steps/action' holds floats"),
        (lambda root: _relabel(root / "features.json", '["2"]', '["5"]'), "nothing of .* can be read: .*record 0"),
        (lambda root: _relabel(root / "features.json", '"count"', '"total"'), "it has no 'steps/total'"),
    ],
)
def test_a_folder_that_contradicts_itself_is_refused(toy: Any, tmp_path: Path, damage: Damage, complaint: str) -> None:
    toy()
    damage(tmp_path / "toy" / "1.0.0")
    with pytest.raises(DataError, match=complaint):
        opened(tmp_path / "toy" / "1.0.0")


def test_what_cannot_be_read_says_why(kit: Any, toy: Any, tmp_path: Path) -> None:
    toy()
    dataset = opened(tmp_path / "toy")
    with pytest.raises(DataError, match=r"depth.* cannot be read as colour"):
        dataset.frame("observation/depth", 0)
    with pytest.raises(UnknownNameError, match="did you mean 'observation/image'"):
        dataset.frame("observation/imag", 0)
    with pytest.raises(UnknownNameError, match="did you mean 'action'"):
        dataset.column("actions")
    with pytest.raises(DataError, match="is a camera"):
        dataset.column("observation/image")
    with pytest.raises(IndexError, match="rows 0 to 19"):
        dataset.frame("observation/image", 20)
    steps = {"action": kit.tensor("float32", 1), "words": kit.sequence(kit.tensor("int64"))}
    kit.write(tmp_path / "set", [[{"steps/action": np.zeros((1, 1))}]], steps)
    with pytest.raises(DataError, match="sequence of varying length"):
        opened(tmp_path / "set").column("words")


def test_other_folders_are_left_to_others(tmp_path: Path) -> None:
    (tmp_path / "features.json").write_text(json.dumps({}))
    assert fla_open_dataset(str(tmp_path)) is None
    assert fla_open_dataset(str(tmp_path / "nowhere")) is None
    assert fla_open_dataset("hf://owner/name?x=1") is None
