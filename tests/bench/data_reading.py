"""What one sample costs to read, in random order: three cameras and a chunk of 50 actions, against LeRobot's dataset.

    .venv/bin/python tests/bench/data_reading.py [--seconds N] [--rounds N] [--keep FOLDER]

Nothing is resized, encoded or cached on either side, and both hand out bytes: here the reader alone, in two threads;
there a DataLoader with two worker processes and torchcodec. Cases take turns. `torchcodec` is the bare decoder on the
same files, and `in order` every frame once as it lies in the files, which is the least that decoding can cost.
"""

import argparse
import itertools
import os
import statistics
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from data_loading import BATCH, SPEC, WORKERS, Rate, in_order, lerobot, measure
from ffmpeg import lend_to_torchcodec
from recordings import CAMERAS, make_recording

from fla_plugins.lerobot.reader import LeRobotDataset

KEYS = tuple(f"observation.images.{camera}" for camera in CAMERAS)
RECORDINGS: dict[str, tuple[str, int, tuple[int, int], float]] = {
    "480x640 AV1, key frame every 2": ("libsvtav1", 2, (480, 640), 1.5),
    "480x640 H.264, key frame every 30": ("libx264", 30, (480, 640), 1.0),
    "224x224 PNG": ("png", 1, (224, 224), 30.0),
}
"""Name -> codec, frames from one key frame to the next, size, and how many times less than LeRobot it shall cost."""


def ours(path: Path) -> Iterator[int]:
    """Endless batches of the reader; gives how many samples each has."""
    dataset = LeRobotDataset(path)
    actions, ends = dataset.column("action"), dataset.episode_bounds[:, 1]

    def sample(row: int) -> tuple[list[np.ndarray], np.ndarray]:
        last = ends[np.searchsorted(ends, row, side="right")] - 1
        chunk = actions[np.minimum(row + np.arange(SPEC.horizon), last)]
        return [dataset.frame(key, row) for key in KEYS], chunk

    with ThreadPoolExecutor(WORKERS) as pool:
        for rows in batches_of_rows(len(dataset)):
            images = np.stack([images for images, _ in pool.map(sample, rows)])
            yield len(images)


def torchcodec(path: Path) -> Iterator[int]:
    """The decoder alone: one per file, kept open, as LeRobot keeps them."""
    import torch
    from torchcodec.decoders import VideoDecoder

    torch.set_num_threads(1)
    make = partial(VideoDecoder, seek_mode="approximate", num_ffmpeg_threads=1, dimension_order="NHWC")
    files: list[list[Any]] = [[make(str(f)) for f in sorted((path / "videos" / key).glob("*/*.mp4"))] for key in KEYS]
    length = len(files[0][0])
    for rows in batches_of_rows(length * len(files[0])):
        yield len([[decoders[row // length][row % length] for decoders in files] for row in rows])


def batches_of_rows(count: int) -> Iterator[list[int]]:
    rng = np.random.default_rng(0)
    while True:
        yield from (rows.tolist() for rows in np.array_split(rng.permutation(count), count // BATCH))


def compare(name: str, path: Path, *, target: float, seconds: float, rounds: int) -> None:
    """Print the median of each case, and how it compares with LeRobot's."""
    cases: dict[str, Callable[[], Iterator[int]]] = {"LeRobot": lambda: lerobot(path), "ours": lambda: ours(path)}
    if (path / "videos").exists():
        cases["torchcodec"] = lambda: torchcodec(path)
    found: dict[str, list[Rate]] = {case: [] for case in cases}
    for _, (case, start) in itertools.product(range(rounds), cases.items()):
        found[case].append(measure(start(), seconds=seconds))
    ratios = [theirs.cpu_ms / own.cpu_ms for theirs, own in zip(found["LeRobot"], found["ours"], strict=True)]
    print(f"{name}: target x {target:g}; processor time in each round: x {', '.join(f'{r:.2f}' for r in ratios)}")
    for case, rates in {**found, "in order": [in_order(LeRobotDataset(path))]}.items():
        rate, cpu = map(statistics.median, zip(*rates, strict=True))
        print(f"  {case:12} {cpu:8.2f} ms of processor time per sample, {rate:7.1f} samples/s", flush=True)


def main() -> None:
    lend_to_torchcodec()
    os.environ["HF_HUB_OFFLINE"] = "1"
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=5.0, help="of each case in each round")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--keep", type=Path, help="folder for the recordings, which may have them already")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        for name, (codec, group, size, target) in RECORDINGS.items():
            path = (args.keep or Path(scratch)) / f"{codec}-{group}"
            if not path.exists():
                make_recording(path, frames=600, size=size, codec=codec, group=group)
            compare(name, path, target=target, seconds=args.seconds, rounds=args.rounds)


if __name__ == "__main__":
    main()
