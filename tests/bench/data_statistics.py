"""How much sooner statistics are computed from columns than by reading samples, and how much memory that takes.

    .venv/bin/python tests/bench/data_statistics.py [--frames N] [--samples N] [--horizon N] [--absolute]

Fourteen dimensions (ALOHA, with its conversion), three cameras of 480x640, columns mapped from disk. The other way,
which openpi goes, is `Demonstrations[i]` and the codec for every sample: with camera frames, which are in memory
already (decoding would come on top), and without. A few samples are timed, and their share is multiplied.
"""

import argparse
import resource
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import attrs
import numpy as np

import fla_sdk as fla
from fla_sdk.codec import Codec
from fla_sdk.data.dataset import Feature
from fla_sdk.data.demonstrations import Demonstrations
from fla_sdk.data.statistics import collect
from fla_sdk.model import ModelSpec
from fla_sdk.testing import CharacterTokenizer

EPISODE = 500
SPEC = ModelSpec(
    image_slots=("base_0_rgb", "left_wrist_0_rgb", "right_wrist_0_rgb"),
    image_size=(224, 224),
    action_dim=32,
    horizon=50,
    max_tokens=400,
)


class Mapped:
    """Columns on disk and one frame in memory."""

    fingerprint = "bench"

    def __init__(self, folder: Path, robot: fla.Embodiment, frames: int) -> None:
        self.path, self.fps = folder, robot.control_hz
        self.damaged: Mapping[int, str] = {}
        self.episode_bounds = np.stack([np.arange(0, frames, EPISODE)] * 2, axis=1)
        self.episode_bounds[:, 1] = np.minimum(self.episode_bounds[:, 1] + EPISODE, frames)
        width = robot.state.width
        for name in ("observation.state", "action"):
            column = np.lib.format.open_memmap(folder / f"{name}.npy", "w+", np.float32, (frames, width))
            rng = np.random.default_rng(len(name))
            for start in range(0, frames, 65_536):
                part = column[start : start + 65_536]
                part[:] = rng.uniform(0, 1, part.shape)
            column.flush()
        self._columns = {f.stem: np.load(f, mmap_mode="r") for f in folder.glob("*.npy")}
        self._frame = np.random.default_rng(0).integers(0, 255, (480, 640, 3), dtype=np.uint8)
        cameras = [camera.keys[-1] for camera in robot.cameras]
        self.features: Mapping[str, Feature] = {
            **{name: Feature(dtype="float32", shape=(width,)) for name in self._columns},
            **{name: Feature(dtype="image", shape=(480, 640, 3)) for name in cameras},
        }

    def __len__(self) -> int:
        return int(self.episode_bounds[-1, 1])

    def column(self, name: str) -> np.ndarray:
        return self._columns[name]

    def frame(self, name: str, row: int) -> np.ndarray:
        return self._frame

    def frames_fingerprint(self, name: str) -> str:
        return ""

    def task(self, row: int) -> str:
        return "fold the towel"


def timed(work: Callable[[], Any]) -> tuple[Any, float, float]:
    """Result, wall and processor seconds."""
    wall, cpu = time.perf_counter(), time.process_time()
    result = work()
    return result, time.perf_counter() - wall, time.process_time() - cpu


def peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    """Print seconds, ratio and peak memory."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--frames", type=int, default=1_000_000)
    parser.add_argument("--samples", type=int, default=200, help="read one by one")
    parser.add_argument("--horizon", type=int, default=50)
    parser.add_argument("--absolute", action="store_true", help="actions predicted as they are")
    args = parser.parse_args()
    robot = fla.load_plugins(environment={}).embodiments["aloha"]
    if args.absolute:
        fields = [attrs.evolve(field, predict="as_is") for field in robot.action]
        robot = attrs.evolve(robot, action=fla.Space(*fields))
    with tempfile.TemporaryDirectory() as folder:
        part = Demonstrations(Mapped(Path(folder), robot, args.frames), robot, horizon=args.horizon)
        before = peak_mb()
        found, wall, cpu = timed(lambda: collect([part]))
        after = peak_mb()
        spec = attrs.evolve(SPEC, horizon=args.horizon)
        blind = attrs.evolve(robot, cameras=())
        readers = {"samples": part, "no images": Demonstrations(part.dataset, blind, horizon=args.horizon)}
        rows = np.random.default_rng(0).integers(0, len(part), args.samples)
        print(f"{args.frames:,} frames x {robot.action.width} dimensions x {args.horizon} steps; wall, processor time")
        print(f"  columns    {wall:8.1f} s  {cpu:8.1f} s   peak {after:.0f} MB, {after - before:.0f} MB more")
        for name, reader in readers.items():
            seconds = [share * args.frames / args.samples for share in read(reader, spec, found.norm_stats(), rows)]
            ratios = f"x {seconds[0] / wall:.0f}, x {seconds[1] / cpu:.0f}"
            print(f"  {name:9}  {seconds[0]:8.1f} s  {seconds[1]:8.1f} s   {ratios}  ({args.samples} timed)")


def read(part: Demonstrations, spec: ModelSpec, stats: fla.NormStats, rows: np.ndarray) -> tuple[float, float]:
    """Wall and processor seconds of reading and encoding samples one by one."""
    codec = Codec(embodiment=part.embodiment, spec=spec, stats=stats, tokenizer=CharacterTokenizer())
    codec.encode_example(part[0])
    return timed(lambda: [codec.encode_example(part[int(row)]) for row in rows])[1:]


if __name__ == "__main__":
    main()
