"""How fast batches come, with the frame cache and without, against LeRobot's dataset in a DataLoader.

    .venv/bin/python tests/bench/data_loading.py [--seconds N] [--rounds N] [--keep FOLDER]

Three cameras of 480x640, random order, chunks of 50 actions, batches of 8, two threads here and two worker processes
there. LeRobot decodes with torchcodec and hands out bytes of the recorded size; ours come fitted to 224x224, with
normalized actions and a prompt as tokens. Cases take turns in one run, each with fresh loaders; the first second of
each turn is not counted.
"""

import argparse
import itertools
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from ffmpeg import lend_to_torchcodec
from recordings import ROBOT, make_recording

from fla_plugins.lerobot.reader import LeRobotDataset
from fla_sdk.codec import Codec
from fla_sdk.data import statistics as norm_statistics
from fla_sdk.data.dataset import Dataset
from fla_sdk.data.demonstrations import Demonstrations
from fla_sdk.data.frame_cache import CachedFrames
from fla_sdk.data.mixture import Mixture, Part
from fla_sdk.model import ModelSpec
from fla_sdk.testing import CharacterTokenizer

SPEC = ModelSpec(
    image_slots=tuple(camera.slot for camera in ROBOT.cameras if camera.slot),
    image_size=(224, 224),
    action_dim=32,
    horizon=50,
    max_tokens=200,
)
BATCH, WORKERS = 8, 2
RECORDINGS = {"AV1, key frame every 2": ("libsvtav1", 2, 10.0), "H.264, key frame every 30": ("libx264", 30, 20.0)}
"""Name -> codec, frames from one key frame to the next, and how many times LeRobot's rate the cache shall reach."""


class Rate(NamedTuple):
    samples_per_s: float
    cpu_ms: float
    """Of all threads and worker processes, per sample."""


def lerobot(path: Path) -> Iterator[int]:
    """Endless batches of LeRobot's dataset; gives how many samples each has."""
    import torch
    from lerobot.datasets.lerobot_dataset import LeRobotDataset as Theirs

    torch.set_num_threads(1)
    chunk = {"action": [step / 30 for step in range(SPEC.horizon)]}
    dataset: Any = Theirs(
        "bench/recording", root=path, delta_timestamps=chunk, video_backend="torchcodec", return_uint8=True
    )
    loader: Any = torch.utils.data.DataLoader(dataset, batch_size=BATCH, shuffle=True, num_workers=WORKERS)
    for batch in itertools.chain.from_iterable(itertools.repeat(loader)):
        yield len(batch["action"])


def ours(dataset: Dataset) -> Iterator[int]:
    demonstrations = Demonstrations(dataset, ROBOT, horizon=SPEC.horizon)
    stats = norm_statistics.collect([demonstrations]).norm_stats()
    codec = Codec(embodiment=ROBOT, spec=SPEC, stats=stats, tokenizer=CharacterTokenizer())
    part = Part(demonstrations=demonstrations, codec=codec)
    for batch in Mixture([part], batch_size=BATCH, seed=0, threads=WORKERS):
        yield len(batch.actions)


def measure(batches: Iterator[int], *, seconds: float) -> Rate:
    begun = time.monotonic()
    while time.monotonic() - begun < 1:
        next(batches)
    wall, cpu, samples = time.monotonic(), _cpu_s(), 0
    while time.monotonic() - wall < seconds:
        samples += next(batches)
    return Rate(samples / (time.monotonic() - wall), (_cpu_s() - cpu) / samples * 1e3)


def _cpu_s() -> float:
    """Of this process and its children, also those of an epoch that has ended."""
    children = Path(f"/proc/{os.getpid()}/task").glob("*/children")
    total = sum(os.times()[:4])
    for child in (number for file in children for number in file.read_text().split()):
        fields = Path(f"/proc/{child}/stat").read_text().rsplit(")", 1)[1].split()
        total += (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return total


def in_order(dataset: Dataset) -> Rate:
    """The floor of what decoding costs: every frame once, in one thread, as it lies in the files."""
    cameras = [name for name, feature in dataset.features.items() if feature.is_camera]
    wall, cpu = time.monotonic(), time.process_time()
    for camera in cameras:
        for row in range(len(dataset)):
            dataset.frame(camera, row)
    return Rate(len(dataset) / (time.monotonic() - wall), (time.process_time() - cpu) / len(dataset) * 1e3)


def compare(name: str, path: Path, frames: Path, *, target: float, seconds: float, rounds: int) -> None:
    """Print the median of each case, and how it compares with LeRobot's."""
    dataset = LeRobotDataset(path)
    cameras = [key for key, feature in dataset.features.items() if feature.is_camera]
    jpeg = CachedFrames(dataset, cameras, size=SPEC.image_size, folder=frames)
    plain = CachedFrames(dataset, cameras, size=SPEC.image_size, quality=None, folder=frames)
    jpeg.build()
    plain.build()
    cases: dict[str, Callable[[], Iterator[int]]] = {
        "LeRobot": lambda: lerobot(path),
        "decoding": lambda: ours(dataset),
        "cache, JPEG 95": lambda: ours(jpeg),
        "cache, plain bytes": lambda: ours(plain),
    }
    rates: dict[str, list[Rate]] = {case: [] for case in cases}
    ratios: list[float] = []
    for _ in range(rounds):
        for case, start in cases.items():
            rates[case].append(measure(start(), seconds=seconds))
        ratios.append(rates["cache, JPEG 95"][-1].samples_per_s / rates["LeRobot"][-1].samples_per_s)
    base = Rate(*map(statistics.median, zip(*rates["LeRobot"], strict=True)))
    print(f"{name}: target x {target:g}, cache over LeRobot in each round: {', '.join(f'{r:.1f}' for r in ratios)}")
    for case, found in {**rates, "in order, one thread": [in_order(dataset)]}.items():
        rate, cpu = map(statistics.median, zip(*found, strict=True))
        print(
            f"  {case:22} {rate:8.1f} samples/s  x {rate / base.samples_per_s:5.2f}   {cpu:8.2f} ms of processor time "
            f"per sample  x {base.cpu_ms / cpu:5.2f}",
            flush=True,
        )


def main() -> None:
    """Make the recordings and their caches, then measure."""
    lend_to_torchcodec()
    os.environ["HF_HUB_OFFLINE"] = "1"
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=4.0, help="of each case in each round")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--keep", type=Path, help="folder for the recordings, which may have them already")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = args.keep or Path(scratch)
        for name, (codec, group, target) in RECORDINGS.items():
            path = folder / f"{codec}-{group}"
            if not path.exists():
                make_recording(path, codec=codec, group=group)
            compare(name, path, folder / "frames", target=target, seconds=args.seconds, rounds=args.rounds)


if __name__ == "__main__":
    main()
