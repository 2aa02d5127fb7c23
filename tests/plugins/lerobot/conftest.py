"""Small recordings whose every number follows from (episode, frame)."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fla_plugins.lerobot.writer import LeRobotWriter

from .killed import Killed, kill_recorders

STATE, ACTION, CAMERAS = ("shoulder", "elbow", "gripper"), ("shoulder", "elbow"), ("front", "wrist")


def moment(episode: int, frame: int, size: tuple[int, int] = (64, 96)) -> tuple[dict[str, Any], np.ndarray]:
    """Observation and action of one moment; images are smooth, so that video codecs keep them nearly."""
    y, x = np.indices(size)
    images = {
        f"images/{camera}": np.stack(
            [(3 * x + 20 * episode + 40 * i) % 256, (5 * y + 6 * frame) % 256, np.full_like(x, 10 * frame % 256)], -1
        ).astype(np.uint8)
        for i, camera in enumerate(CAMERAS)
    }
    state = np.array([episode + 0.1 * frame, -frame, 0.25], np.float32)
    return images | {"state": state, "task": f"do task {episode % 2}"}, np.array([episode, 0.5 * frame], np.float32)


@pytest.fixture(scope="session")
def killed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Killed]:
    """Recordings of 4 rows per episode whose recorders were killed. Only copies of them may be changed."""
    return kill_recorders(tmp_path_factory.mktemp("killed"))


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    """`lerobot.datasets.LeRobotDataset`, offline, with caches of its own."""
    cache = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        for name, folder in {"HF_HOME": "home", "HF_DATASETS_CACHE": "arrow", "HF_LEROBOT_HOME": "lerobot"}.items():
            patch.setenv(name, str(cache / folder))
        patch.setenv("HF_HUB_OFFLINE", "1")
        yield pytest.importorskip("lerobot.datasets", reason="needs the extra `lerobot`").LeRobotDataset


Record = Callable[..., Path]


@pytest.fixture
def record(tmp_path: Path) -> Record:
    """`record(lengths, video=False)` -> folder of a finished recording."""

    def make(lengths: Sequence[int] = (3, 5, 4), *, video: bool = False, name: str = "set", fps: float = 10) -> Path:
        path = tmp_path / name
        with LeRobotWriter(
            path, robot="arm", fps=fps, state_names=STATE, action_names=ACTION, cameras=CAMERAS, video=video
        ) as writer:
            for episode, length in enumerate(lengths):
                for frame in range(length):
                    writer.add(*moment(episode, frame))
                writer.save_episode()
        return path

    return make


@pytest.fixture
def expected() -> Callable[[int, int], tuple[dict[str, Any], np.ndarray]]:
    """`expected(episode, frame)` -> the observation and action that were recorded there."""
    return moment
