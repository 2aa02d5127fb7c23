"""What is written comes back: numbers, frames, tasks, windows, whatever the layout."""

import io
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

import fla_sdk as fla
from fla_plugins.rlds.example import integers
from fla_plugins.rlds.options import Options, parse
from fla_plugins.rlds.reader import RldsDataset
from fla_sdk.data.demonstrations import Demonstrations
from fla_sdk.data.frame_cache import CachedFrames
from fla_sdk.errors import ConfigError, DataError, UnknownNameError

BOUNDS = [[0, 3], [3, 8], [8, 12], [12, 14], [14, 20]]
TOY = fla.Embodiment(
    name="toy",
    state=fla.Space(fla.joints("a", "b", "c"), aliases=("observation/state",)),
    action=fla.Space(fla.joints("a", "b")),
    cameras=(fla.Camera("front", slot="base_0_rgb", aliases=("observation/image",)),),
    control_hz=10,
)


def opened(path: Path, **options: Any) -> RldsDataset:
    return RldsDataset(path, Options(**{"fps": 10.0, **options}))


@given(values=st.lists(st.integers(-(2**63), 2**63 - 1)))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_integers_are_read_as_they_were_written(kit: Any, values: list[int]) -> None:
    np.testing.assert_array_equal(integers(b"".join(map(kit.varint, values))), np.array(values, np.int64))


def test_everything_written_is_read(toy: Any, kit: Any, tmp_path: Path) -> None:
    toy()
    dataset = opened(tmp_path / "toy" / "1.0.0")
    assert dataset.episode_bounds.tolist() == BOUNDS
    assert (len(dataset), dataset.damaged) == (20, {})
    for number, (first, end) in enumerate(BOUNDS):
        written = kit.episode(number, end - first)
        for name in ("observation/state", "action", "count", "is_first"):
            np.testing.assert_array_equal(dataset.column(name)[first:end], written[f"steps/{name}"])
        for row in range(first, end):
            assert dataset.task(row) == f"do {number % 2}"
            for camera in ("image", "zipped", "raw"):
                np.testing.assert_array_equal(
                    dataset.frame(f"observation/{camera}", row), kit.picture(number, row - first)
                )
    texts = dataset.column("observation/natural_language_instruction")
    assert texts[[0, 3]].tolist() == [["do 0"], ["do 1"]]
    about = {name: (f.dtype, f.shape) for name, f in dataset.features.items()}
    assert about["observation/state"] == ("float32", (3,))  # of float64 a TFRecord keeps 32 bits
    assert about["observation/image"] == about["observation/raw"] == ("image", (12, 16, 3))
    assert about["count"] == ("int32", ())


def test_windows_of_demonstrations_stay_within_episodes(toy: Any, kit: Any, tmp_path: Path) -> None:
    toy()
    samples = Demonstrations(opened(tmp_path / "toy"), TOY, horizon=4)
    sample = samples[6]  # step 3 of 5 of the second episode
    written = kit.episode(1, 5)
    np.testing.assert_array_equal(sample.actions, written["steps/action"][[3, 4, 4, 4]])
    assert sample.actions_is_pad is not None
    assert sample.actions_is_pad.tolist() == [False, False, True, True]
    np.testing.assert_array_equal(sample.images["front"], kit.picture(1, 3))
    assert sample.task == "do 1"


def test_frames_are_the_same_from_many_threads_in_any_order(toy: Any, kit: Any, tmp_path: Path) -> None:
    toy()
    dataset = opened(tmp_path / "toy")
    rows = np.random.default_rng(0).permutation(np.repeat(np.arange(20), 5)).tolist()
    with ThreadPoolExecutor(8) as pool:
        frames = list(pool.map(lambda row: dataset.frame("observation/image", row), rows))
    ends = [end for _, end in BOUNDS]
    for row, frame in zip(rows, frames, strict=True):
        number = int(np.searchsorted(ends, row, side="right"))
        np.testing.assert_array_equal(frame, kit.picture(number, row - BOUNDS[number][0]))


def test_jpeg_frames_of_a_size_that_is_not_declared(kit: Any, tmp_path: Path) -> None:
    pictures = [kit.picture(0, step, (20, 30)) for step in range(3)]
    jpegs = [kit.encoded(picture, "jpeg") for picture in pictures]
    steps = {"image": kit.image(-1, -1, 3, encoding=""), "action": kit.tensor("float32", 1)}
    kit.write(tmp_path / "set", [[{"steps/image": jpegs, "steps/action": np.zeros((3, 1))}]], steps)
    dataset = opened(tmp_path / "set")
    assert dataset.features["image"].shape == (20, 30, 3)
    np.testing.assert_array_equal(dataset.frame("image", 2), np.asarray(Image.open(io.BytesIO(jpegs[2]))))
    assert dataset.task(0) == ""


def test_a_folder_without_info_and_one_of_versions(toy: Any, tmp_path: Path) -> None:
    toy(info=False)
    bare = opened(tmp_path / "toy" / "1.0.0")
    assert bare.episode_bounds.tolist() == BOUNDS
    (tmp_path / "toy" / "0.9.0").mkdir()
    assert opened(tmp_path / "toy").episode_bounds.tolist() == BOUNDS


def test_the_index_is_kept_and_made_again_for_changed_files(toy: Any, kit: Any, tmp_path: Path, home: Path) -> None:
    shards = toy()
    first = opened(tmp_path / "toy")
    np.asarray(first.column("action"))
    kept = {path: path.stat().st_mtime_ns for path in home.rglob("*.npy")}
    assert len(kept) == 4  # three shards and a column
    again = opened(tmp_path / "toy")
    again.column("action")
    assert {path: path.stat().st_mtime_ns for path in home.rglob("*.npy")} == kept
    assert again.fingerprint == first.fingerprint

    shards[1].write_bytes(kit.record(kit.example(kit.episode(7, 9))))
    changed = opened(tmp_path / "toy")
    assert changed.episode_bounds[2].tolist() == [8, 17]
    np.testing.assert_array_equal(changed.column("action")[8:17], kit.episode(7, 9)["steps/action"])
    assert changed.fingerprint != first.fingerprint


def test_other_shards_with_the_same_episodes_have_the_same_fingerprint(toy: Any, tmp_path: Path) -> None:
    toy([(3, 5), (4,)])
    first = opened(tmp_path / "toy")
    for shard in (tmp_path / "toy" / "1.0.0").glob("*.tfrecord-*"):
        shard.unlink()
    toy([(3,), (5,), (4,)])
    assert opened(tmp_path / "toy").fingerprint == first.fingerprint


# --- Options ----------------------------------------------------------------------------------------------------------


def test_a_uri_says_how_to_read(toy: Any, tmp_path: Path) -> None:
    toy(split="val")
    registry = fla.load_plugins()
    for uri in (f"rlds://{tmp_path}/toy?split=val&fps=5", f"{tmp_path}/toy/1.0.0?split=val&fps=5"):
        dataset = registry.open_dataset(uri)
        assert isinstance(dataset, RldsDataset)
        assert (dataset.fps, len(dataset)) == (5.0, 20)
    assert parse("rlds://relative/path?match=a%20b&verify=true") == (
        Path("relative/path"),
        Options(match="a b", verify=True),
    )


@pytest.mark.parametrize(
    ("query", "complaint"),
    [
        ("splt=val", "did you mean 'split'"),
        ("verify=yes", "must be true or false"),
        ("language=second", "must be first or all"),
        ("fps=fast", "must be a number"),
        ("fps=0", "must be above 0"),
        ("fps=nan", "must be above 0"),
    ],
)
def test_nonsense_in_a_uri_is_refused(query: str, complaint: str) -> None:
    with pytest.raises((ConfigError, UnknownNameError), match=complaint):
        parse(f"rlds:///data/toy?{query}")


def test_a_rate_that_nobody_knows_has_to_be_said(toy: Any, tmp_path: Path) -> None:
    toy()
    with pytest.raises(DataError, match=r"\?fps="):
        opened(tmp_path / "toy", fps=None)
    toy(name="fractal20220817_data")
    with pytest.raises(DataError, match="several datasets"):
        opened(tmp_path / "toy", fps=None)
    for shard in (tmp_path / "toy" / "1.0.0").glob("toy-*"):
        shard.unlink()
    assert opened(tmp_path / "toy", fps=None).fps == 3


def test_only_matching_episodes(toy: Any, kit: Any, tmp_path: Path) -> None:
    toy()
    dataset = opened(tmp_path / "toy", match="success")
    assert dataset.episode_bounds.tolist() == [[0, 5], [5, 7]]
    np.testing.assert_array_equal(dataset.column("action")[5:], kit.episode(3, 2)["steps/action"])
    np.testing.assert_array_equal(dataset.frame("observation/image", 6), kit.picture(3, 1))
    with pytest.raises(DataError, match="gs://lab/failure/0"):
        opened(tmp_path / "toy", match="triumph")


def test_samples_begin_within_the_ranges_of_a_file(toy: Any, tmp_path: Path) -> None:
    toy()
    key = "gs://lab/recording/{0}--gs://lab/{1}/{0}"
    file = tmp_path / "ranges.json"
    file.write_text(f'{{"{key.format(1, "success")}": [[0, 2], [4, 9]], "{key.format(4, "failure")}": [[5, 6]]}}')
    dataset = opened(tmp_path / "toy", ranges=str(file))
    assert dataset.starts is not None
    assert dataset.starts.tolist() == [3, 4, 7, 19]
    cached = CachedFrames(dataset, ["observation/image"], size=(12, 16))
    for source in (dataset, cached):
        samples = Demonstrations(source, TOY, horizon=4, episodes=np.array([0, 1, 2]))
        assert samples.rows.tolist() == [3, 4, 7]
        np.testing.assert_array_equal(samples[1].actions, dataset.column("action")[4:8])  # rows left out end no chunk
    assert dataset.fingerprint != opened(tmp_path / "toy").fingerprint
    file.write_text('{"elsewhere--x": [[0, 5]]}')
    with pytest.raises(DataError, match="elsewhere--x"):
        opened(tmp_path / "toy", ranges=str(file))


# --- DROID ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def droid(kit: Any, tmp_path: Path) -> Path:
    wide = {
        "observation/joint_position": 7, "observation/gripper_position": 1, "observation/cartesian_position": 6,
        "action_dict/joint_position": 7, "action_dict/joint_velocity": 7, "action_dict/gripper_position": 1,
        "action": 7,
    }  # fmt: skip
    steps = {name: kit.tensor("float64", width) for name, width in wide.items()}
    cameras = ("exterior_image_1_left", "exterior_image_2_left", "wrist_image_left")
    steps |= {f"observation/{camera}": kit.image(12, 16, 3) for camera in cameras}
    languages = {"language_instruction": b"", "language_instruction_2": b"lift it", "language_instruction_3": b"raise"}
    steps |= {name: kit.text() for name in languages}
    rng = np.random.default_rng(0)
    values: dict[str, Any] = {f"steps/{k}": rng.normal(size=(6, w)).astype(np.float32) for k, w in wide.items()}
    values |= {f"steps/observation/{c}": [kit.encoded(kit.picture(i, s), "jpeg") for s in range(6)]
               for i, c in enumerate(cameras)}  # fmt: skip
    values |= {f"steps/{name}": [spoken] * 6 for name, spoken in languages.items()}
    kit.write(tmp_path / "droid" / "1.0.1", [[values]], steps, name="r2d2_faceblur")
    return tmp_path / "droid"


@pytest.mark.parametrize(("robot", "kind"), [("droid", "joint_velocity"), ("droid_jointpos", "joint_position")])
def test_droid_fits_both_of_its_embodiments(droid: Path, robot: str, kind: str) -> None:
    registry = fla.load_plugins()
    dataset = registry.open_dataset(str(droid))
    assert dataset is not None
    samples = Demonstrations(dataset, registry.embodiment(robot), horizon=3)  # 15 Hz: no warning
    expected = np.concatenate(
        [dataset.column(f"action_dict/{kind}"), dataset.column("action_dict/gripper_position")], 1
    )
    np.testing.assert_array_equal(samples[1].actions, expected[1:4])
    assert samples[1].state.shape == (8,)
    assert set(samples[1].images) == {"exterior_image_1_left", "wrist_image_left"}


def test_droid_has_three_instructions(droid: Path) -> None:
    def tasks(language: str) -> list[str]:
        dataset = RldsDataset(droid, Options(language=language))
        return [dataset.task(row) for row in range(4)]

    assert tasks("first") == ["lift it"] * 4
    assert tasks("all") == ["lift it", "raise", "lift it", "raise"]


def test_an_action_in_pieces_is_gathered_by_aliases(kit: Any, tmp_path: Path) -> None:
    pieces = {"action/world_vector": 3, "action/rotation_delta": 3, "action/gripper_closedness_action": 1}
    steps = {name: kit.tensor("float32", width) for name, width in pieces.items()}
    steps["observation/pose"] = kit.tensor("float32", 2)
    rng = np.random.default_rng(1)
    values = {
        f"steps/{k}": rng.normal(size=(4, w)).astype(np.float32) for k, w in (*pieces.items(), ("observation/pose", 2))
    }
    kit.write(tmp_path / "rt1", [[values]], steps)
    move, turn, grip = pieces
    robot = fla.Embodiment(
        name="rt1",
        state=fla.Space(fla.joints("a", "b"), aliases=("observation/pose",)),
        action=fla.Space(
            fla.joints("x", "y", "z", unit="m", representation="delta", aliases=(move,)),
            attrs.evolve(fla.joints("rx", "ry", "rz", representation="delta", aliases=(turn,)), rotation="rpy"),
            fla.gripper(unit="closed_fraction", limits=None, aliases=(grip,)),
        ),
        cameras=(),
        control_hz=10,
    )
    samples = Demonstrations(opened(tmp_path / "rt1"), robot, horizon=2)
    expected = np.concatenate([values[f"steps/{name}"] for name in pieces], axis=1)
    np.testing.assert_array_equal(samples[0].actions, expected[:2])
