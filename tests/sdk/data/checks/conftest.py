"""Recordings without a fault, for the tests to plant one in."""

from collections.abc import Callable
from typing import Any

import attrs
import numpy as np
import pytest
from numpy.typing import NDArray

import fla_sdk as fla
from fla_sdk.data.checks import Finding, check
from fla_sdk.testing import MemoryDataset

JOINTS = ("waist", "shoulder", "elbow")
ROBOT = fla.Embodiment(
    name="robot",
    state=fla.Space(fla.joints(*JOINTS, limits=(-2.0, 2.0)), fla.gripper()),
    action=fla.Space(fla.joints(*JOINTS, predict="relative", limits=(-2.0, 2.0)), fla.gripper()),
    cameras=(fla.Camera("front", slot="base_0_rgb"), fla.Camera("wrist", slot="left_wrist_0_rgb")),
    control_hz=20,
    image_shape=(24, 32),
)
FRONT, WRIST = "observation.images.front", "observation.images.wrist"


class Listed(MemoryDataset):
    """A `MemoryDataset` with a task per row, episodes that are damaged, and frames that cannot be read."""

    tasks: tuple[str, ...]
    unreadable: dict[int, Exception]

    def task(self, row: int) -> str:
        return self.tasks[int(self.column("task_index")[row, 0])]

    def frame(self, name: str, row: int) -> NDArray[np.uint8]:
        if row in self.unreadable:
            raise self.unreadable[row]
        return super().frame(name, row)


@attrs.define(slots=False)
class Recording:
    """Columns and frames to change before they become a dataset."""

    lengths: list[int]
    fps: float
    state: NDArray[np.float32]
    action: NDArray[np.float32]
    frames: dict[str, NDArray[np.uint8]]
    timestamp: NDArray[np.float32]
    task_index: NDArray[np.int64]
    tasks: list[str]
    robot: fla.Embodiment = ROBOT
    damaged: dict[int, str] = attrs.Factory(dict)
    unreadable: dict[int, Exception] = attrs.Factory(dict)
    named: bool = True

    def rows(self, episode: int) -> slice:
        start = sum(self.lengths[:episode])
        return slice(start, start + self.lengths[episode])

    def dataset(self) -> MemoryDataset:
        made = Listed(
            {
                "observation.state": self.state,
                "action": self.action,
                "timestamp": self.timestamp,
                "task_index": self.task_index,
            },
            lengths=self.lengths,
            fps=self.fps,
            cameras=self.frames,
            names=dict.fromkeys(("observation.state", "action"), (*JOINTS, "gripper")) if self.named else None,
        )
        made.tasks, made.damaged, made.unreadable = tuple(self.tasks), self.damaged, self.unreadable
        return made

    def findings(self, **options: Any) -> tuple[Finding, ...]:
        return check(self.dataset(), options.pop("robot", self.robot), **options)

    def found(self, **options: Any) -> list[tuple[str, str]]:
        """Check and severity of each finding."""
        return [(finding.check, finding.severity) for finding in self.findings(**options)]


def recording(seed: int = 0, *, episodes: int = 8, fps: float = 20.0, shortest: int = 60) -> Recording:
    """Smooth reaches with a grasp in the middle; the robot follows its commands after two rows; two cameras see it."""
    rng = np.random.default_rng(seed)
    lengths = rng.integers(shortest, 2 * shortest, episodes).tolist()
    commands = [_commands(rng, length, lag=2) for length in lengths]
    action = np.concatenate([command[2:] for command in commands]).astype(np.float32)
    state = np.concatenate([command[:-2] for command in commands]).astype(np.float32)
    state += rng.normal(0, 1e-4, state.shape).astype(np.float32)
    frame = np.concatenate([np.arange(length) for length in lengths])
    return Recording(
        lengths=lengths,
        fps=fps,
        state=state,
        action=action,
        frames={FRONT: _pictures(rng, state), WRIST: _pictures(rng, state)},
        timestamp=(frame / fps).astype(np.float32)[:, None],
        task_index=np.repeat(np.arange(episodes) % 2, lengths)[:, None],
        tasks=["pick up the cube", "put the cube down"],
    )


def _commands(rng: np.random.Generator, length: int, *, lag: int) -> NDArray[np.floating]:
    """`[length + lag, 4]`: through four random poses with rests between them; the gripper closes and opens."""
    times = np.linspace(0, 1, length + lag)
    poses = rng.uniform(-1.2, 1.2, (4, 3))
    joints = np.repeat(poses[:1], len(times), axis=0)
    for i, begin in enumerate((0.02, 0.33, 0.64)):
        joints += (poses[i + 1] - poses[i]) * _ease((times - begin) / 0.25)[:, None]
    gripper = 0.95 - 0.9 * _ease((times - 0.3) / 0.05) + 0.9 * _ease((times - 0.8) / 0.05)
    return np.concatenate([joints, gripper[:, None]], axis=1)


def _ease(progress: NDArray[np.floating]) -> NDArray[np.floating]:
    u = np.clip(progress, 0, 1)
    return u * u * (3 - 2 * u)


def _pictures(rng: np.random.Generator, state: NDArray[np.float32]) -> NDArray[np.uint8]:
    """`[N, 24, 32, 3]`: an orange block that moves with the joints over a table of its own."""
    table = rng.integers(60, 120, (24, 32, 3), dtype=np.uint8)
    frames = np.repeat(table[None], len(state), axis=0)
    down, right = np.mgrid[:24, :32]
    seen = state[:, :3] @ rng.permuted(np.array([[5, 2, -1], [1, -2, 5]]), axis=1).T
    y, x = (12 + seen[:, 0])[:, None, None], (16 + seen[:, 1])[:, None, None]
    distance = np.abs(down - y) + np.abs(right - x)
    cover = np.clip(5 - distance, 0, 1)[..., None]
    return (frames * (1 - cover) + np.array([220, 120, 20]) * cover).astype(np.uint8)


@pytest.fixture
def record() -> Callable[..., Recording]:
    """`record(seed=0, episodes=8, fps=20, shortest=60)`: a recording without a fault."""
    return recording
