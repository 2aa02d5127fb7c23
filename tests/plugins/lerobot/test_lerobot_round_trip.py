"""What was recorded is what is read."""

import json
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import av
import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fla_plugins.lerobot.plugin import fla_datasets, fla_open_dataset
from fla_plugins.lerobot.reader import LeRobotDataset
from fla_plugins.lerobot.video_reader import VideoFiles
from fla_plugins.lerobot.writer import EPISODES_PER_TABLE, LeRobotWriter

CAMERAS = ("front", "wrist")


@settings(max_examples=20, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    lengths=st.lists(st.integers(1, 5), min_size=1, max_size=4),
    width=st.integers(1, 4),
    size=st.tuples(st.integers(1, 9), st.integers(1, 9)),
    tasks=st.lists(
        st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=9).filter(str.strip),
        min_size=1,
        max_size=3,
    ),
)
def test_recording_and_reading_is_the_identity(seed, lengths, width, size, tasks):
    rng = np.random.default_rng(seed)
    rows = [
        {
            "images/eye": rng.integers(0, 256, (*size, 3), np.uint8),
            "state": rng.normal(size=width).astype(np.float32),
            "task": tasks[rng.integers(len(tasks))],
            "action": rng.normal(size=width).astype(np.float32),
        }
        for _ in range(sum(lengths))
    ]
    names = tuple(f"joint{i}" for i in range(width))
    with tempfile.TemporaryDirectory() as folder:
        with LeRobotWriter(
            Path(folder), robot="r", fps=7.5, state_names=names, action_names=names, cameras=("eye",)
        ) as writer:
            remaining = iter(rows)
            for length in lengths:
                for _ in range(length):
                    row = next(remaining)
                    writer.add(row, row["action"])
                writer.save_episode()
        dataset = LeRobotDataset(Path(folder))
        ends = np.cumsum(lengths)
        assert dataset.episode_bounds.tolist() == [[end - n, end] for end, n in zip(ends, lengths, strict=True)]
        assert dataset.fps == 7.5 and len(dataset) == len(rows)
        assert dataset.features["observation.state"].names == names
        np.testing.assert_array_equal(dataset.column("observation.state"), [row["state"] for row in rows])
        np.testing.assert_array_equal(dataset.column("action"), [row["action"] for row in rows])
        for i, row in enumerate(rows):
            assert dataset.task(i) == row["task"]
            np.testing.assert_array_equal(dataset.frame("observation.images.eye", i), row["images/eye"])


def test_bookkeeping_columns_count_rows_and_restart_per_episode(record):
    dataset = LeRobotDataset(record((2, 3)))
    assert dataset.column("index").tolist() == [[0], [1], [2], [3], [4]]
    assert dataset.column("frame_index").tolist() == [[0], [1], [0], [1], [2]]
    assert dataset.column("episode_index").tolist() == [[0], [0], [1], [1], [1]]
    np.testing.assert_array_equal(dataset.column("timestamp")[:, 0], np.array([0, 0.1, 0, 0.1, 0.2], np.float32))


def test_the_fingerprint_follows_contents_not_files(record, tmp_path):
    path = record((3, 5, 4))
    fingerprint = LeRobotDataset(path).fingerprint
    assert LeRobotDataset(record((3, 5, 4), name="again")).fingerprint == fingerprint
    assert LeRobotDataset(record((3, 5, 4), video=True, name="video")).fingerprint == fingerprint
    assert LeRobotDataset(record((3, 4, 5), name="bounds")).fingerprint != fingerprint
    tasks = path / "meta/tasks.parquet"
    table = pq.read_table(tasks)
    pq.write_table(table.set_column(1, "task", [["do task 0", "do another"]]), tasks)
    assert LeRobotDataset(path).fingerprint != fingerprint


@pytest.mark.parametrize("video", [False, True])
def test_a_discarded_episode_leaves_no_trace(tmp_path, expected, video):
    path = tmp_path / "set"
    names = {"state_names": ("a", "b", "c"), "action_names": ("a", "b"), "cameras": CAMERAS}
    with LeRobotWriter(path, robot="arm", fps=10, video=video, **names) as writer:
        for keep, episode in ((True, 0), (False, 7), (True, 1), (False, 8)):
            for frame in range(3):
                writer.add(*expected(episode, frame))
            if keep:
                writer.save_episode()
            elif episode == 7:
                writer.discard_episode()  # episode 8 is still open when the writer closes
    dataset = LeRobotDataset(path)
    assert dataset.column("action")[:, 0].tolist() == [0, 0, 0, 1, 1, 1]
    assert not list(path.rglob("*.tmp"))
    assert len(list(path.rglob("data/*/*.parquet"))) == 2
    assert len(list(path.rglob("*.mp4"))) == (4 if video else 0)


def test_video_frames_are_close_to_the_recorded_ones_and_in_step_with_the_rows(record, expected):
    dataset = LeRobotDataset(record((3, 5, 4), video=True))
    for episode, (start, end) in enumerate(dataset.episode_bounds):
        for row in range(start, end):
            for camera in CAMERAS:
                image = expected(episode, row - start)[0][f"images/{camera}"]
                error = np.abs(dataset.frame(f"observation.images.{camera}", row).astype(int) - image).mean()
                assert error < 12  # lossy; the next frame differs by about 16


@pytest.fixture(scope="module")
def reordered_video(tmp_path_factory) -> tuple[Path, list[np.ndarray]]:
    """An H.264 file with few key frames and reordered (B) frames, with every frame as plain decoding gives it."""
    path = tmp_path_factory.mktemp("video") / "reordered.mp4"
    rng = np.random.default_rng(0)
    scene = rng.integers(0, 256, (48, 64, 3), np.uint8).repeat(2, 0).repeat(2, 1)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=30, options={"g": "12", "bf": "3", "x264-params": "b-adapt=0"})
        stream.width, stream.height, stream.pix_fmt = 128, 96, "yuv420p"
        for i in range(50):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.roll(scene, 3 * i, 1), format="rgb24")))
        container.mux(stream.encode())
    with av.open(str(path)) as container:
        packets = [packet.pts for packet in container.demux(video=0) if packet.pts is not None]
        assert packets != sorted(packets)  # otherwise the test would not test reordering
    frames: list[np.ndarray] = []
    with av.open(str(path)) as container:
        frames += [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    return path, frames


@settings(max_examples=10, deadline=None)
@given(rows=st.lists(st.integers(0, 49), min_size=1, max_size=40))
def test_random_access_gives_the_frames_of_plain_decoding(reordered_video, rows):
    path, frames = reordered_video
    videos = VideoFiles(max_idle=2)
    for row in rows:
        np.testing.assert_array_equal(videos.frame(path, row), frames[row])


def test_many_threads_may_read_one_video(reordered_video):
    path, frames = reordered_video
    videos = VideoFiles(max_idle=2)
    rows = np.random.default_rng(1).integers(0, 50, 200).tolist()
    with ThreadPoolExecutor(8) as pool:
        read = list(pool.map(lambda row: videos.frame(path, row), rows))
    for row, image in zip(rows, read, strict=True):
        np.testing.assert_array_equal(image, frames[row])


@pytest.mark.parametrize("group", [2, 5, 1000])
def test_any_row_groups_give_the_same_frames(record, expected, group):
    path = record((3, 5, 4))
    for file in path.glob("data/*/*.parquet"):
        pq.write_table(pq.read_table(file), file, row_group_size=group)
    dataset = LeRobotDataset(path, image_cache_bytes=1)  # every second look-up evicts the row group of another
    for episode, (start, end) in enumerate(dataset.episode_bounds):
        for row in (end - 1, start):
            image = expected(episode, row - start)[0]["images/wrist"]
            np.testing.assert_array_equal(dataset.frame("observation.images.wrist", row), image)


def test_more_episodes_than_one_table_holds(record):
    episodes = EPISODES_PER_TABLE + 3
    path = record([1] * episodes)
    assert len(list(path.glob("meta/episodes/*/*.parquet"))) == 2
    assert LeRobotDataset(path).column("action")[:, 0].tolist() == list(range(episodes))


def test_arrays_cannot_be_written_to(record):
    for video in (False, True):
        dataset = LeRobotDataset(record(video=video, name=f"video-{video}"))
        for array in (dataset.column("action"), dataset.frame("observation.images.front", 0)):
            with pytest.raises(ValueError, match="read-only"):
                array[:] = 0


def test_statistics_beside_the_data_are_those_of_the_data(record):
    path = record((3, 5, 4))
    dataset = LeRobotDataset(path)
    stats = json.loads((path / "meta/stats.json").read_text())
    state = dataset.column("observation.state").astype(float)
    np.testing.assert_allclose(stats["observation.state"]["std"], state.std(0))
    np.testing.assert_allclose(stats["observation.state"]["q90"], np.quantile(state, 0.9, axis=0))
    pixels = np.stack([dataset.frame("observation.images.front", row) for row in range(12)]).reshape(-1, 3) / 255
    front = stats["observation.images.front"]
    for name, value in (("mean", pixels.mean(0)), ("std", pixels.std(0)), ("min", pixels.min(0))):
        np.testing.assert_allclose(np.ravel(front[name]), value, atol=1e-9)
    np.testing.assert_allclose(np.ravel(front["q10"]), np.quantile(pixels, 0.1, axis=0, method="inverted_cdf"))
    assert np.shape(front["max"]) == (3, 1, 1) and front["count"] == [12]


def test_the_plugin_opens_what_looks_like_lerobot_and_nothing_else(record, tmp_path):
    path = record()
    (form,) = fla_datasets()
    assert form.name == "lerobot" and len(form.open(path)) == 12
    opened = fla_open_dataset(str(path))
    assert opened is not None and len(opened) == 12
    before = sorted(tmp_path.rglob("*"))
    for other in (tmp_path, tmp_path / "absent", "lerobot/pusht"):
        assert fla_open_dataset(str(other)) is None
    assert sorted(tmp_path.rglob("*")) == before
