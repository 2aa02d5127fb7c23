"""The `lerobot` library as the oracle: it must read our recordings, and we must read its recordings, bit for bit."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fla_plugins.lerobot.language import STYLES, texts_in_force
from fla_plugins.lerobot.reader import LeRobotDataset
from fla_plugins.lerobot.writer import LeRobotWriter

pytestmark = pytest.mark.slow  # importing lerobot alone takes 10 s

FPS, CAMERAS, NAMES = 20, ("front", "wrist"), ("shoulder", "elbow", "gripper")
LENGTHS = (9, 4, 12, 1, 7, 6)
FUTURE, PAST = range(6), range(-2, 1)
DELTAS = {"action": [i / FPS for i in FUTURE], "observation.state": [i / FPS for i in PAST]}


def moments(size: tuple[int, int] = (64, 96)):
    """Per episode, rows of random states and noisy images; two tasks in the third episode."""
    rng = np.random.default_rng(0)
    for episode, length in enumerate(LENGTHS):
        yield [
            {
                "state": rng.normal(size=3).astype(np.float32),
                "action": rng.normal(size=2).astype(np.float32),
                "reward": np.array([frame], np.float32),
                "grid": rng.normal(size=(2, 3)).astype(np.float32),
                "done": np.array([frame == length - 1]),
                "level": rng.integers(-9, 9, 4).astype(np.int16),
                "cube": rng.normal(size=(2, 1, 3)),
                "phase": f"phase {frame // 3}",
                "task": f"task {episode % 3}" if (episode, frame) != (2, 5) else "another task",
                **{f"images/{camera}": rng.integers(0, 256, (*size, 3), np.uint8) for camera in CAMERAS},
            }
            for frame in range(length)
        ]


def check_against(library: Any, path: Path) -> None:
    """Every row as the library gives it and as we give it, and every frame in any order."""
    theirs = library("local/set", root=path, video_backend="pyav", delta_timestamps=DELTAS)
    ours = LeRobotDataset(path)
    assert len(ours) == len(theirs) and ours.fps == theirs.meta.fps
    assert len(ours.episode_bounds) == theirs.meta.total_episodes
    images: dict[tuple[str, int], np.ndarray] = {}
    for episode, (start, end) in enumerate(ours.episode_bounds):
        for row in range(start, end):
            item = theirs[row]
            assert ours.task(row) == item["task"]
            assert ours.column("episode_index")[row] == episode == item["episode_index"].item()
            for name, steps in (("action", FUTURE), ("observation.state", PAST)):
                wanted = np.array([row + step for step in steps])
                window = ours.column(name)[np.clip(wanted, start, end - 1)]
                np.testing.assert_array_equal(window, item[name].numpy())
                np.testing.assert_array_equal((wanted < start) | (wanted >= end), item[f"{name}_is_pad"].numpy())
            for name, feature in ours.features.items():
                if feature.is_camera:
                    images[name, row] = ours.frame(name, row)
                    image = images[name, row].astype(np.float32) / np.float32(255)
                    np.testing.assert_array_equal(image.transpose(2, 0, 1), item[name].numpy())
                elif feature.dtype == "string":
                    assert ours.column(name)[row, 0] == item[name]
                elif name not in DELTAS:
                    value, theirs_is = ours.column(name)[row], item[name].numpy()
                    value = value.astype(theirs_is.dtype)  # the library makes float32 of float64
                    np.testing.assert_array_equal(value if feature.shape != (1,) else value[0], theirs_is)
    for name, row in np.random.default_rng(0).permutation(list(images)).tolist():
        np.testing.assert_array_equal(ours.frame(name, int(row)), images[name, int(row)])


@pytest.mark.parametrize("kind", ["image", "video"])
def test_we_read_what_the_library_records(library, tmp_path, kind):
    path = tmp_path / "set"
    cameras = {f"observation.images.{camera}": {"dtype": kind, "shape": (64, 96, 3)} for camera in CAMERAS}
    features = {
        "observation.state": {"dtype": "float32", "shape": (3,), "names": list(NAMES)},
        "action": {"dtype": "float32", "shape": (2,), "names": list(NAMES[:2])},
        "reward": {"dtype": "float32", "shape": (1,), "names": None},
        "grid": {"dtype": "float32", "shape": (2, 3), "names": None},
        "done": {"dtype": "bool", "shape": (1,), "names": None},
        "level": {"dtype": "int16", "shape": (4,), "names": None},
        "cube": {"dtype": "float64", "shape": (2, 1, 3), "names": None},
        "phase": {"dtype": "string", "shape": (1,), "names": None},
        **{name: entry | {"names": ["height", "width", "channels"]} for name, entry in cameras.items()},
    }
    recorder = library.create(
        "local/set",
        FPS,
        features,
        root=path,
        robot_type="arm",
        use_videos=kind == "video",
        video_backend="pyav",
        data_files_size_in_mb=0.6 if kind == "image" else 0.003,
        video_files_size_in_mb=0.1,
    )
    recorder.meta.update_chunk_settings(chunks_size=2)
    for episode in moments():
        if len(episode) == 1:
            continue  # the library fails to pool the statistics of one-frame episodes
        for row in episode:
            frame = {name: row[name] for name in ("action", "reward", "grid", "done", "level", "cube", "phase", "task")}
            frame |= {f"observation.images.{camera}": row[f"images/{camera}"] for camera in CAMERAS}
            recorder.add_frame(frame | {"observation.state": row["state"]})
        recorder.save_episode(parallel_encoding=False)
    recorder.finalize()
    data = sorted(path.glob("data/*/*.parquet"))
    assert 1 < len(data) < len(LENGTHS)  # several files, and several episodes in one of them
    assert len({file.parent for file in data}) > 1
    if kind == "video":
        assert 1 < len(list(path.glob("videos/*front/*/*.mp4"))) < len(LENGTHS)
    check_against(library, path)
    for file in data:  # the converter from v2.1 writes one row group per file instead of one per episode
        pq.write_table(pq.read_table(file), file, row_group_size=1000)
    check_against(library, path)


@pytest.mark.parametrize("kind", ["image", "video"])
def test_the_library_reads_what_we_record(library, tmp_path, kind, caplog):
    path = tmp_path / "set"
    with LeRobotWriter(
        path,
        robot="arm",
        fps=FPS,
        state_names=NAMES,
        action_names=NAMES[:2],
        cameras=CAMERAS,
        video=kind == "video",
    ) as writer:
        for episode in moments():
            for row in episode:
                writer.add(row, row["action"])
            writer.save_episode()
    check_against(library, path)
    assert not caplog.messages
    meta = library("local/set", root=path, video_backend="pyav").meta
    assert meta.robot_type == "arm" and meta.total_tasks == 4
    assert meta.features["action"]["names"] == ["shoulder", "elbow"]
    assert set(meta.stats["action"]) == {"min", "max", "mean", "std", "count", "q01", "q10", "q50", "q90", "q99"}
    assert meta.stats["observation.images.front"]["mean"].shape == (3, 1, 1)
    assert meta.stats["action"]["q99"].shape == (2,)


def test_remarks_hold_when_the_library_says_so(library):
    from lerobot.datasets.language_render import active_at

    rng = np.random.default_rng(0)
    styles = STYLES["language_persistent"]
    cells = [
        [
            {"role": "assistant", "content": f"text {time}", "style": styles[rng.integers(5)], "timestamp": time / 8}
            for time in rng.permutation(16)[: rng.integers(0, 16)].tolist()
        ]
        for _ in range(60)
    ]
    times = rng.integers(0, 16, 60) / np.float32(8)
    table = pa.table({"language_persistent": cells, "timestamp": times.astype(np.float32)})
    for style in styles:
        found = texts_in_force(Path("file"), table, "language_persistent", style)
        held = [active_at(t, persistent=cell, style=style) for t, cell in zip(times.tolist(), cells, strict=True)]
        assert found.tolist() == [remark["content"] if remark else "" for remark in held]
