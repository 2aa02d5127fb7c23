"""`repair`: planted damage, and what is left afterwards: every whole episode, readable, and nothing deleted."""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fla_plugins.lerobot import journal
from fla_plugins.lerobot.compaction import copy_episodes
from fla_plugins.lerobot.pieces import Span, write_frames
from fla_plugins.lerobot.reader import LeRobotDataset
from fla_plugins.lerobot.repair import repair
from fla_plugins.lerobot.video_reader import read_index
from fla_sdk.cli import main
from fla_sdk.errors import DataError

DATA = "data/chunk-000/file-001.parquet"
VIDEO = "videos/observation.images.front/chunk-000/file-001.mp4"
TABLE = "meta/episodes/chunk-000/file-000.parquet"
LENGTHS = (3, 5, 4)

Expected = Callable[[int, int], tuple[dict[str, Any], np.ndarray]]


def files(path: Path) -> dict[str, bytes]:
    return {str(file.relative_to(path)): file.read_bytes() for file in path.rglob("*") if file.is_file()}


def mended(path: Path, expected: Expected, episodes: tuple[int, ...], *words: str, lossy: bool = False) -> Path:
    """Repairing says these words, a dry run says the same and changes nothing, and these episodes are left."""
    before = files(path)
    planned = repair(path, dry_run=True)
    assert files(path) == before
    lines = repair(path)
    assert lines[: len(planned)] == planned
    for word in words:
        assert word in "\n".join(lines)
    after = files(path)
    kept = {name.split("/", 2)[2]: data for name, data in after.items() if name.startswith("damaged/")}
    for name, data in before.items():
        assert data in (after.get(name), kept.get(name)), f"{name} was deleted"
    assert repair(path) == []
    dataset = LeRobotDataset(path)
    assert not dataset.damaged and len(dataset.episode_bounds) == len(episodes)
    for old, (begin, end) in zip(episodes, dataset.episode_bounds, strict=True):
        assert end - begin == LENGTHS[old]
        for row in range(begin, end):
            observation, action = expected(old, row - begin)
            np.testing.assert_array_equal(dataset.column("action")[row], action)
            assert dataset.task(row) == observation["task"]
            for camera in ("front", "wrist"):
                image = dataset.frame(f"observation.images.{camera}", row).astype(int)
                assert np.abs(image - observation[f"images/{camera}"]).mean() < (12 if lossy else 1e-9)
    return path


def edit_info(path: Path, **changes: object) -> None:
    file = path / "meta/info.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


def edit(file: Path, change: Callable[[pa.Table], pa.Table]) -> None:
    pq.write_table(change(pq.read_table(file)), file)


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:200])


@pytest.mark.parametrize("video", [False, True])
def test_a_sound_dataset_is_left_alone(record, video):
    path = record(LENGTHS, video=video)
    before = files(path)
    assert repair(path, dry_run=True) == repair(path) == []
    assert files(path) == before and not (path / journal.FOLDER).exists()


def test_wrong_counts(record, expected):
    path = record(LENGTHS)
    edit_info(path, total_episodes=7, total_frames=None)
    mended(path, expected, (0, 1, 2), "counts 7 episodes, None frames", "there are 3, 12 and 2")


def test_an_episode_that_is_whole_but_was_not_counted(record, expected):
    path = record(LENGTHS, video=True)
    edit_info(path, total_episodes=2, total_frames=8)
    mended(path, expected, (0, 1, 2), "there are 3", lossy=True)


@pytest.mark.parametrize("damage", [cut, os.unlink])
@pytest.mark.parametrize("file", [DATA, VIDEO])
def test_a_file_that_is_cut_short_or_missing_costs_its_episode(record, expected, file, damage):
    path = record(LENGTHS, video=True)
    damage(path / file)
    mended(path, expected, (0, 2), "episode 1 is left out", lossy=True)


def test_a_video_of_other_frames_than_rows_costs_its_episode(record, expected):
    path = record(LENGTHS, video=True)
    shutil.copy(path / VIDEO.replace("001", "002"), path / VIDEO)
    mended(path, expected, (0, 2), f"episode 1 is left out: {VIDEO} has 4 frames for 5 rows", lossy=True)


@pytest.mark.parametrize("damage", [cut, os.unlink])
def test_a_lost_episode_table_is_made_again(record, expected, damage):
    path = record(LENGTHS, video=True)
    damage(path / TABLE)
    mended(path, expected, (0, 1, 2), "meta/episodes does not say what the files hold", lossy=True)


def test_lost_tasks_are_taken_from_the_episode_table(record, expected):
    path = record(LENGTHS)
    (path / "meta/tasks.parquet").unlink()
    mended(path, expected, (0, 1, 2), "meta/tasks.parquet cannot be read")


def test_tasks_that_nothing_says_are_asked_for(record, expected):
    path = record(LENGTHS)
    (path / "meta/tasks.parquet").unlink()
    (path / TABLE).unlink()
    before = files(path)
    with pytest.raises(DataError, match="task 0 of episode 0 was; give its text with --task '0=TEXT'"):
        repair(path)
    assert files(path) == before
    repair(path, tasks={0: "do task 0", 1: "do task 1"})
    mended(path, expected, (0, 1, 2))


def test_tasks_with_gaps_and_twins_are_numbered_again(record, expected):
    path = record(LENGTHS)
    edit(path / "meta/tasks.parquet", lambda t: t.set_column(0, "task_index", pa.array([0, 5])))
    for number in (0, 1, 2):
        file = path / f"data/chunk-000/file-{number:03d}.parquet"
        at = pq.read_schema(file).get_field_index("task_index")
        edit(file, lambda t, at=at: t.set_column(at, "task_index", pa.array([5 * n for n in t[at].to_pylist()])))
    mended(path, expected, (0, 1, 2), "has numbers [0, 5]", f"{DATA} is written again")


def test_rows_that_are_missing_cost_their_episode(record, expected):
    path = record(LENGTHS)
    edit(path / DATA, lambda table: table.slice(1))
    mended(path, expected, (0, 2), f"episode 1 is left out: {DATA} lacks some of its rows")


def test_leftovers_are_moved_aside(record, expected):
    path = record(LENGTHS, video=True)
    leftovers = ("videos/film-3.mp4.tmp", "images/observation.images.front/episode-000003/frame-000000.png")
    for name in leftovers:
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(b"half")
    mended(path, expected, (0, 1, 2), *leftovers, lossy=True)
    assert not any((path / name).exists() for name in leftovers)


def test_an_episode_is_cut_out_of_files_that_it_shares(record, expected, tmp_path):
    path, shared = record(LENGTHS, video=True), tmp_path / "shared"
    copy_episodes(path, shared)
    before = LeRobotDataset(shared).frame("observation.images.wrist", 9)
    file = shared / "data/chunk-000/file-000.parquet"
    edit(file, lambda table: pa.concat_tables([table.slice(0, 4), table.slice(5)]))
    mended(shared, expected, (0, 2), "episode 1 is left out", "front/chunk-000/file-000.mp4 is written", lossy=True)
    np.testing.assert_array_equal(LeRobotDataset(shared).frame("observation.images.wrist", 4), before)


def test_frames_that_a_recorder_dropped_cost_their_episode_and_shift_no_other(record, expected, tmp_path):
    """The time stamps of lerobot's own recorder say how many frames each episode got."""
    path, shared = record(LENGTHS, video=True), tmp_path / "shared"
    copy_episodes(path, shared)
    file = shared / VIDEO.replace("001", "000")
    index = read_index(file)
    spans = [Span(path=file, first=first, length=length) for first, length in ((0, 3), (3, 4), (8, 4))]
    write_frames(spans, {file: index}, tmp_path / "short.mp4", fps=10)
    shutil.move(tmp_path / "short.mp4", file)
    prefix = "videos/observation.images.front/"

    def restamp(table: pa.Table) -> pa.Table:
        for name, values in (("from_timestamp", [0.0, 0.3, 0.7]), ("to_timestamp", [0.3, 0.7, 1.1])):
            table = table.set_column(table.schema.get_field_index(prefix + name), prefix + name, pa.array(values))
        return table

    edit(shared / TABLE, restamp)
    mended(shared, expected, (0, 2), "has 4 frames of it for 5 rows", lossy=True)


def test_the_command(record, capsys):
    path = record(LENGTHS)
    assert main(["data", "repair", str(path)]) == 0
    assert capsys.readouterr().out.endswith(f"{path} is sound\n")
    cut(path / DATA)
    for options in (["--dry-run"], []):
        assert main(["data", "repair", str(path), *options]) == 0
        said = capsys.readouterr().out
        assert "episode 1 is left out" in said and ("nothing was changed" in said) == bool(options)
    assert main(["data", "repair", str(path), "--task", "first=go"]) == 1
    assert "give the task's number" in capsys.readouterr().err
    (path / "meta/info.json").write_text("{")
    assert main(["data", "repair", str(path)]) == 1
    assert "meta/info.json is not valid JSON" in capsys.readouterr().err


def test_nothing_to_save_is_said_and_changes_nothing(record):
    path = record((3,))
    cut(path / "data/chunk-000/file-000.parquet")
    before = files(path)
    with pytest.raises(DataError, match="no episode is whole"):
        repair(path)
    assert files(path) == before


KILLED = """
import os, signal, sys
from pathlib import Path
from fla_plugins.lerobot import journal
from fla_plugins.lerobot.repair import repair

rename, count = os.replace, 0

def deadly(*arguments):
    global count
    if count == int(sys.argv[2]):
        os.kill(os.getpid(), signal.SIGKILL)
    count += 1
    rename(*arguments)

os.replace = deadly
repair(Path(sys.argv[1]))
"""


def test_a_repair_that_is_killed_is_finished_by_the_next(record, expected, tmp_path):
    path = record(LENGTHS)
    edit(path / DATA, lambda table: table.slice(1))
    points = (0, 1, 2, 3, 5, 7)
    processes = [
        subprocess.Popen([sys.executable, "-c", KILLED, str(shutil.copytree(path, tmp_path / f"{n}")), f"{n}"])
        for n in points
    ]
    for number, process in zip(points, processes, strict=True):
        assert process.wait(timeout=300) == -signal.SIGKILL
        repair(tmp_path / str(number))
        mended(tmp_path / str(number), expected, (0, 2))
        assert not (tmp_path / str(number) / journal.FOLDER).exists()
        kept = {name.split("/", 2)[2] for name in files(tmp_path / str(number)) if name.startswith("damaged/")}
        assert {DATA, "meta/info.json", TABLE, "meta/tasks.parquet"} <= kept


def test_images_in_a_file_that_was_never_closed(record, expected):
    """What a recorder leaves that keeps one file open for all episodes: row groups without a footer."""
    path = record(LENGTHS)
    shared = path.with_name("shared")
    copy_episodes(path, shared)
    file = shared / "data/chunk-000/file-000.parquet"
    size = int.from_bytes(file.read_bytes()[-8:-4], "little")
    file.write_bytes(file.read_bytes()[: -8 - size])
    (shared / TABLE).write_bytes(b"PAR1")
    mended(shared, expected, (0, 1, 2), "12 rows were found in it")
