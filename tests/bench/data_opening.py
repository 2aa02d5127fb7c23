"""What it takes to open a very large LeRobot dataset: DROID's size by default, made of metadata and empty videos.

    python tests/bench/data_opening.py [--episodes 100000] [--length 270] [--columns]

The data files are real but say nothing new, so that they compress to little. `--columns` also reads a column for the
first time, which copies all of them to a folder where they are mapped from, and then again from the copy.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from fla_plugins.lerobot.layout import BOOKKEEPING, DATA_TEMPLATE, VIDEO_TEMPLATE
from fla_plugins.lerobot.reader import LeRobotDataset

CAMERAS = tuple(f"observation.images.{name}" for name in ("left", "right", "wrist"))
ROWS_PER_FILE, FRAMES_PER_VIDEO, TABLE = 1_000_000, 33_000, 5_000
V2_DATA = "data/chunk-{episode_chunk:03d}/episode_{episode_index:06d}.parquet"
V2_VIDEO = "videos/chunk-{episode_chunk:03d}/{video_key}/episode_{episode_index:06d}.mp4"


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--episodes", type=int, default=100_000)
    parser.add_argument("--length", type=int, default=270, help="frames per episode")
    parser.add_argument("--columns", action="store_true", help="also the first and the second reading of a column")
    parser.add_argument("--measure", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.measure:
        measure(args.measure, columns=args.columns)
        return
    for version, make in (("3.0", make_v3), ("2.1", make_v2)):
        with tempfile.TemporaryDirectory(prefix="fla-bench-") as folder:
            root = Path(folder) / "set"
            make(root, args.episodes, args.length)
            print(f"v{version}: {args.episodes} episodes, {args.episodes * args.length:.2e} rows", flush=True)
            command = [sys.executable, __file__, "--measure", str(root)]
            if args.columns and version == "3.0":
                command.append("--columns")
            subprocess.run(command, check=True, env=os.environ | {"FLA_DATA_HOME": folder})


def measure(root: Path, *, columns: bool) -> None:
    """In a process of its own, for its peak memory."""
    say("imports")
    began = time.perf_counter(), time.process_time()
    dataset = LeRobotDataset(root)
    say("open", began)
    for what in ("copy the columns, read an action", "read an action from the copy") if columns else ():
        began = time.perf_counter(), time.process_time()
        assert LeRobotDataset(root).column("action")[len(dataset) // 2].shape == (7,)
        say(what, began)


def say(what: str, began: tuple[float, float] | None = None) -> None:
    """Seconds, and MiB of this process: the most so far, and what is its own now (mapped files are not)."""
    wall, cpu = (time.perf_counter() - began[0], time.process_time() - began[1]) if began else (0, time.process_time())
    lines = Path("/proc/self/status").read_text().splitlines()
    size = {line.split(":")[0]: int(line.split()[1]) / 1024 for line in lines if line.endswith(" kB")}
    memory = f"peak {size['VmHWM']:5.0f} MiB  own {size['RssAnon']:5.0f} MiB"
    print(f"  {what:32} {wall:6.2f} s wall {cpu:6.2f} s cpu   {memory}", flush=True)


def make_v3(root: Path, episodes: int, length: int) -> None:
    number = np.arange(episodes)
    at = number * length
    row: dict[str, Any] = {
        "episode_index": number,
        "length": np.full(episodes, length),
        "dataset_from_index": at,
        "dataset_to_index": at + length,
        "tasks": pa.array([[f"task {i % 1000}"] for i in number]),
        **{f"stats/action/{stat}": pa.array([[0.5] * 7] * episodes) for stat in ("min", "max", "mean", "std")},
    }
    data_file = at // ROWS_PER_FILE
    places = {"data": data_file} | {f"videos/{camera}": at // FRAMES_PER_VIDEO for camera in CAMERAS}
    for prefix, file in places.items():
        row |= {f"{prefix}/chunk_index": file // 1000, f"{prefix}/file_index": file % 1000}
    for camera in CAMERAS:
        begin = (at % FRAMES_PER_VIDEO) / 15
        row |= {f"videos/{camera}/from_timestamp": begin, f"videos/{camera}/to_timestamp": begin + length / 15}
    table = pa.table(row)
    for i in range(-(-episodes // TABLE)):
        path = root / f"meta/episodes/chunk-000/file-{i:03d}.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(table.slice(i * TABLE, TABLE), path, row_group_size=100)
    tasks = pa.table({"task_index": pa.array(range(1000)), "task": [f"task {i}" for i in range(1000)]})
    pq.write_table(tasks, root / "meta/tasks.parquet")
    for camera in CAMERAS:
        for file in range(int(places[f"videos/{camera}"][-1]) + 1):
            touch(root / VIDEO_TEMPLATE.format(video_key=camera, chunk_index=file // 1000, file_index=file % 1000))
    for file in range(int(data_file[-1]) + 1):
        held = number[data_file == file]
        path = root / DATA_TEMPLATE.format(chunk_index=0, file_index=file)
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(rows(held, length), path, row_group_size=100_000)
    write_info(root, "v3.0", episodes, length, DATA_TEMPLATE, VIDEO_TEMPLATE)


def rows(episodes: np.ndarray, length: int) -> pa.Table:
    count = len(episodes) * length
    step = np.tile(np.arange(length), len(episodes))
    vector = pa.FixedSizeListArray.from_arrays(pa.array(np.zeros(7 * count, np.float32)), 7)
    return pa.table(
        {
            "observation.state": vector,
            "action": vector,
            "timestamp": (step / 15).astype(np.float32),
            "frame_index": step,
            "episode_index": np.repeat(episodes, length),
            "index": np.arange(count) + episodes[0] * length,
            "task_index": np.repeat(episodes % 1000, length),
        }
    )


def make_v2(root: Path, episodes: int, length: int) -> None:
    for i in range(episodes):
        keys = {"episode_chunk": i // 1000, "episode_index": i}
        touch(root / V2_DATA.format(**keys))
        for camera in CAMERAS:
            touch(root / V2_VIDEO.format(video_key=camera, **keys))
    lines = (json.dumps({"episode_index": i, "tasks": [f"task {i % 1000}"], "length": length}) for i in range(episodes))
    (root / "meta").mkdir()
    (root / "meta/episodes.jsonl").write_text("\n".join(lines))
    (root / "meta/tasks.jsonl").write_text(
        "\n".join(json.dumps({"task_index": i, "task": f"{i}"}) for i in range(1000))
    )
    write_info(root, "v2.1", episodes, length, V2_DATA, V2_VIDEO)


def touch(path: Path) -> None:
    try:
        path.touch()
    except FileNotFoundError:
        path.parent.mkdir(parents=True)
        path.touch()


def write_info(root: Path, version: str, episodes: int, length: int, data: str, video: str) -> None:
    cameras = {camera: {"dtype": "video", "shape": [180, 320, 3], "names": None} for camera in CAMERAS}
    vectors = {name: {"dtype": "float32", "shape": [7], "names": None} for name in ("observation.state", "action")}
    counts = {name: {"dtype": dtype, "shape": [1], "names": None} for name, dtype in BOOKKEEPING.items()}
    info = {"codebase_version": version, "fps": 15, "features": vectors | cameras | counts, "chunks_size": 1000}
    info |= {"total_episodes": episodes, "total_frames": episodes * length, "data_path": data, "video_path": video}
    (root / "meta/info.json").write_text(json.dumps(info))


if __name__ == "__main__":
    main()
