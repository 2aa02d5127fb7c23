"""Copying datasets: complete, resumable, compared."""

import json
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

import fla_sdk as fla
from fla_sdk.cli import main
from fla_sdk.data.comparison import compare, peak_ratio
from fla_sdk.data.conversion import convert
from fla_sdk.data.selection import Selection
from fla_sdk.errors import ConfigError, DataError, EpisodeError, UnknownNameError
from fla_sdk.testing.dataset import MemoryDataset

CAMERA = "observation.images.front"


def memory(lengths: tuple[int, ...] = (3, 4, 2), **changes: Any) -> MemoryDataset:
    """Numbers of several kinds, and smooth pictures."""
    rows = sum(lengths)
    y, x = np.indices((64, 64))
    frames = np.stack([np.stack([3 * x + i, 2 * y, 0 * x + 9 * i], -1) % 256 for i in range(rows)]).astype(np.uint8)
    columns = {
        "observation/state": np.arange(3.0 * rows).reshape(rows, 3),
        "action": np.arange(2 * rows, dtype=np.float32).reshape(rows, 2) / 7,
        "gripper": np.arange(rows),
        "open": (np.arange(rows) % 2 == 0)[:, None],
        "grid": np.arange(4 * rows, dtype=np.int16).reshape(rows, 2, 2),
        "timestamp": np.arange(rows, dtype=np.float32)[:, None],
        **changes.pop("columns", {}),
    }
    return MemoryDataset(columns, lengths=lengths, fps=10, cameras={CAMERA: frames}, **changes)


class _Damaged:
    """A dataset of which frame `row` cannot be read, and the known episodes neither."""

    def __init__(self, dataset: MemoryDataset, *, row: int | None = None, known: tuple[int, ...] = ()) -> None:
        self._dataset, self._row = dataset, row
        self.damaged = dict.fromkeys(known, "missing file x.mp4")

    def __getattr__(self, name: str) -> Any:
        return getattr(self._dataset, name)

    def __len__(self) -> int:
        return len(self._dataset)

    def frame(self, name: str, row: int) -> Any:
        if row == self._row:
            raise EpisodeError(f"x.png of row {row} cannot be decoded", episode=1)
        return self._dataset.frame(name, row)


def damaged(dataset: MemoryDataset, **options: Any) -> Any:
    return _Damaged(dataset, **options)


@pytest.fixture(scope="module")
def registry() -> fla.Registry:
    return fla.load_plugins()


class Steps(NamedTuple):
    """What most tests do."""

    registry: fla.Registry
    out: Path

    def convert(self, selection: Selection, **options: Any) -> Any:
        return convert(selection, self.out, self.registry.dataset_format("lerobot"), **options)

    def opened(self) -> Any:
        return self.registry.open_dataset(str(self.out))


@pytest.fixture
def steps(registry: fla.Registry, tmp_path: Path) -> Steps:
    return Steps(registry, tmp_path / "out")


def test_all_kinds_of_columns_are_copied_under_names_that_lerobot_allows(steps: Steps) -> None:
    source = memory()
    made = steps.convert(Selection(source, leave_out=["open"]), workers=3)
    assert (made.episodes, made.rows, made.skipped, made.comparison.columns) == (3, 9, {}, 4)
    copy = steps.opened()
    assert copy.episode_bounds.tolist() == source.episode_bounds.tolist()
    for name, other in (("observation.state", "observation/state"), ("action", "action"), ("grid", "grid")):
        assert copy.column(name).dtype == source.column(other).dtype
        np.testing.assert_array_equal(copy.column(name), source.column(other))
    np.testing.assert_array_equal(copy.column("gripper")[:, 0], source.column("gripper"))
    assert "open" not in copy.features
    np.testing.assert_array_equal(copy.frame(CAMERA, 5), source.frame(CAMERA, 5))
    assert copy.task(0) == "do something"


def test_video_is_near_what_was_recorded_and_the_report_says_how_near(steps: Steps) -> None:
    made = steps.convert(Selection(memory(), video=True))
    assert steps.opened().features[CAMERA].dtype == "video"
    quality = made.comparison.frames[CAMERA]
    assert quality.frames == 8
    assert 25 < quality.worst_db <= quality.mean_db < 80


def test_a_robot_takes_what_it_needs_under_standard_names(steps: Steps) -> None:
    robot = fla.Embodiment(
        name="arm",
        state=fla.Space(fla.joints("a", "b", "c"), aliases=("observation/state",)),
        action=fla.Space(fla.joints("a", "b")),
        cameras=(fla.Camera("top", slot="base_0_rgb", aliases=(CAMERA,)),),
        control_hz=10,
    )
    made = steps.convert(Selection(memory(), robot=robot, episodes=[1], task=" pick it up "))
    copy = steps.opened()
    assert (made.episodes, copy.robot, copy.task(0)) == (1, "arm", "pick it up")
    assert copy.features["observation.state"].names == ("a", "b", "c")
    np.testing.assert_array_equal(copy.column("action"), memory().column("action")[3:7])
    np.testing.assert_array_equal(copy.frame("observation.images.top", 0), memory().frame(CAMERA, 3))
    assert "gripper" not in copy.features


# --- Resuming ---------------------------------------------------------------------------------------------------------


def _numpy_source(folder: Path, episodes: int) -> Path:
    rng = np.random.default_rng(0)
    folder.mkdir()
    for number in range(episodes):
        images = rng.integers(0, 256, (6, 160, 160, 3), np.uint8)
        arrays = {"actions": rng.normal(size=(6, 2)), "obs": rng.normal(size=(6, 3)), "images/front": images}
        np.savez(folder / f"{number}.npz", **arrays, fps=np.array(10), task=np.array(f"do {number % 3}"))
    (folder / "4.npz").write_bytes(b"cut short")
    return folder


def test_a_killed_conversion_continues_where_it_was(
    registry: fla.Registry, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, out = _numpy_source(tmp_path / "source", 60), tmp_path / "out"
    script = Path(__file__).with_name("conversion_process.py")
    command = [sys.executable, str(script), str(source), str(out), "6"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert json.loads((out / "meta/info.json").read_text())["total_episodes"] == 6
    written = {file: file.stat().st_mtime_ns for file in (out / "data").rglob("*.parquet")}
    assert len(written) == 7
    kept = sorted(written)[:6]

    assert main(["data", "convert", str(source), str(out)]) == 1
    assert "--resume" in capsys.readouterr().err
    assert main(["data", "convert", str(source), str(out), "--resume", "--skip-damaged"]) == 0
    said = capsys.readouterr().out
    assert "converted 59 episodes (354 rows)" in said
    assert "left out episode 4: " in said and "4.npz" in said
    assert [file.stat().st_mtime_ns for file in kept] == [written[file] for file in kept]
    original, copy = registry.open_dataset(str(source)), registry.open_dataset(str(out))
    assert original is not None and copy is not None
    np.testing.assert_array_equal(copy.column("action"), original.column("action"))
    for row in range(0, len(copy), 7):
        np.testing.assert_array_equal(copy.frame(CAMERA, row), original.frame(CAMERA, row))
        assert copy.task(row) == original.task(row)
    assert not list(out.rglob("*.tmp"))


def test_a_conversion_of_something_else_is_not_continued(steps: Steps) -> None:
    steps.convert(Selection(memory()))
    with pytest.raises(DataError, match="task: None before, other now"):
        steps.convert(Selection(memory(), task="other"), resume=True)
    with pytest.raises(DataError, match=r"fingerprint: .* before, .* now"):
        steps.convert(Selection(memory(columns={"gripper": np.arange(9) + 1})), resume=True)
    assert steps.convert(Selection(memory()), resume=True).episodes == 3


@pytest.mark.parametrize("left", ["", "meta/conversion.json.tmp"])
def test_what_a_kill_before_the_first_episode_leaves_is_begun_anew(left: str, steps: Steps) -> None:
    steps.out.mkdir()
    if left:
        (steps.out / left).parent.mkdir()
        (steps.out / left).write_text("{")
    assert steps.convert(Selection(memory()), resume=True).episodes == 3


def test_a_folder_of_something_else_is_not_written_into(steps: Steps) -> None:
    steps.out.mkdir()
    (steps.out / "thesis.tex").write_text("...")
    with pytest.raises(DataError, match="not an empty folder"):
        steps.convert(Selection(memory()))
    with pytest.raises(DataError, match="no conversion that could be continued"):
        steps.convert(Selection(memory()), resume=True)
    assert [entry.name for entry in steps.out.iterdir()] == ["thesis.tex"]


# --- Damage -----------------------------------------------------------------------------------------------------------


def test_damaged_episodes_stop_the_work_before_it_begins(steps: Steps) -> None:
    with pytest.raises(EpisodeError, match=r"1 of 3 episodes are damaged; .* --skip-damaged. Episode 1: missing file"):
        steps.convert(Selection(damaged(memory(), known=(1,))))
    assert not steps.out.exists()


def test_damaged_episodes_are_left_out_and_listed(steps: Steps) -> None:
    source = damaged(memory((3, 4, 2, 5)), row=4, known=(2,))
    made = steps.convert(Selection(source), skip_damaged=True)
    assert made.skipped == {2: "missing file x.mp4", 1: "x.png of row 4 cannot be decoded"}
    assert steps.opened().episode_bounds.tolist() == [[0, 3], [3, 8]]
    np.testing.assert_array_equal(steps.opened().column("gripper")[:, 0], [0, 1, 2, 9, 10, 11, 12, 13])
    assert steps.convert(Selection(source), skip_damaged=True, resume=True).episodes == 2


def test_damage_found_on_the_way_stops_and_leaves_what_is_done(steps: Steps) -> None:
    source = damaged(memory(), row=4)
    with pytest.raises(EpisodeError, match="row 4 cannot be decoded; leave it out with --skip-damaged"):
        steps.convert(Selection(source, video=True))
    assert len(steps.opened()) == 3
    assert not list(steps.out.rglob("*.tmp"))
    made = steps.convert(Selection(source, video=True), skip_damaged=True, resume=True)
    assert (made.episodes, made.rows) == (2, 5)


# --- Refusals ---------------------------------------------------------------------------------------------------------


def test_what_makes_no_sense_is_refused_before_any_work(steps: Steps) -> None:
    with pytest.raises(UnknownNameError, match="did you mean 'gripper'"):
        Selection(memory(), leave_out=["griper"])
    with pytest.raises(ConfigError, match="no such episodes in memory, which has 0 to 2"):
        Selection(memory(), episodes=[7])
    with pytest.raises(DataError, match="episode 0 does not say what the robot was told; say it with --task"):
        Selection(memory(task=" "))
    with pytest.raises(DataError, match=r"'observation/state' and 'observation.state' would both be called"):
        Selection(memory(columns={"observation.state": np.zeros((9, 1))}))
    with pytest.raises(DataError, match="every chosen episode is damaged; episode 1: missing"):
        Selection(damaged(memory(), known=(0, 1, 2)), episodes=[1])
    with pytest.raises(ConfigError, match="workers is 0"):
        steps.convert(Selection(memory()), workers=0)
    with pytest.raises(ConfigError, match="'hdf5' is read-only"):
        convert(Selection(memory()), steps.out, steps.registry.dataset_format("hdf5"))
    assert not steps.out.exists()


def test_a_disk_that_is_too_small_is_seen_before_any_work(steps: Steps, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10**6, 10**6, 1000))
    with pytest.raises(DataError, match=r"needs about 0\.0 GB, but .* has 0\.0 GB left"):
        steps.convert(Selection(memory()))
    assert not steps.out.exists()


# --- Comparison -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"columns": {"gripper": np.array([0, 1, 2, 3, 4, 5, 6, 7, 9])}}, "episode 2 .*: column 'gripper' differs"),
        ({"task": "another"}, "the task is 'do something' instead of 'another'"),
        ({"lengths": (4, 3, 2)}, "it has 3 rows instead of 4"),
        ({"lengths": (3, 6)}, "has 3 episodes, but 2 were converted"),
    ],
)
def test_a_difference_is_found(changed: dict[str, Any], said: str, steps: Steps) -> None:
    steps.convert(Selection(memory()))
    other = Selection(memory(**changed))
    with pytest.raises(DataError, match=said):
        compare(other, steps.opened(), other.episodes)


def test_a_picture_that_differs_is_found(steps: Steps) -> None:
    steps.convert(Selection(memory()))
    source = memory()
    source.frame(CAMERA, 3)[0, 0, 0] ^= 1
    with pytest.raises(DataError, match="differs from row 3"):
        compare(Selection(source), steps.opened(), [0, 1, 2])


def test_the_ratio_is_that_of_the_textbook() -> None:
    black, grey = np.zeros((4, 4, 3), np.uint8), np.full((4, 4, 3), 51, np.uint8)
    assert peak_ratio(black, black) == float("inf")
    assert peak_ratio(black, grey) == pytest.approx(20 * np.log10(255 / 51))
