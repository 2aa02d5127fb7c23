"""What a robot does under a policy, on disk."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fla_sdk.client import Runtime
from fla_sdk.data.recorder import DatasetRecorder
from fla_sdk.embodiment import Camera, Embodiment
from fla_sdk.errors import DataError, ObservationError
from fla_sdk.space import Space, joints

ARM = Embodiment(
    name="arm",
    state=Space(joints("a", "b")),
    action=Space(joints("a", "b")),
    cameras=(Camera("front", slot="base_0_rgb", aliases=("camera",)), Camera("side", slot=None, required=False)),
    control_hz=100,
)


class _Arm:
    def __init__(self) -> None:
        self.steps = 0

    def reset(self) -> None:
        self.steps = 0

    def observe(self) -> dict[str, Any]:
        image = np.full((16, 16, 3), 10 * self.steps, np.uint8)
        return {"camera": image, "state": np.full(2, self.steps, np.float32), "task": "count"}

    def act(self, action: Any) -> dict[str, Any]:
        self.steps += 1
        return {"done": self.steps == 5, "intervention": self.steps == 3}


class _Policy:
    def infer(self, observation: Any) -> dict[str, Any]:
        return {"actions": observation["state"][None] + np.arange(3)[:, None]}


def test_episodes_have_marks_of_success_and_of_people(registry: Any, tmp_path: Path) -> None:
    with DatasetRecorder.create(registry, tmp_path / "run", ARM) as recorder:
        runtime = Runtime(_Arm(), _Policy(), rate_hz=100, recorder=recorder)
        runtime.run_episode()
        # What the operator says at the end counts for the last row.
        for _ in range(2):
            recorder.add(_Arm().observe(), np.zeros(2), success=False, intervention=False)
        recorder.end(success=True)
        recorder.add(_Arm().observe(), np.zeros(2), success=False, intervention=False)
        recorder.discard()
    dataset = registry.open_dataset(str(tmp_path / "run"))
    np.testing.assert_array_equal(dataset.episode_bounds, [[0, 5], [5, 7]])
    np.testing.assert_array_equal(dataset.column("success").ravel(), [0, 0, 0, 0, 0, 0, 1])
    np.testing.assert_array_equal(dataset.column("intervention").ravel(), [0, 0, 1, 0, 0, 0, 0])
    np.testing.assert_array_equal(dataset.column("observation.state")[:5, 0], np.arange(5))
    np.testing.assert_array_equal(dataset.column("action")[:3, 0], np.arange(3))
    assert dataset.frame("observation.images.front", 4).mean() == 40
    assert (dataset.task(0), dataset.fps) == ("count", 100)
    with DatasetRecorder.create(registry, tmp_path / "run", ARM, append=True) as recorder:
        recorder.add(_Arm().observe(), np.zeros(2), success=False, intervention=True)
        recorder.end(success=False)
    assert len(registry.open_dataset(str(tmp_path / "run")).episode_bounds) == 3


def test_what_goes_wrong_in_the_thread_is_raised(registry: Any, tmp_path: Path) -> None:
    recorder = DatasetRecorder.create(registry, tmp_path / "run", ARM)
    recorder.add({"state": np.zeros(2), "task": "x"}, np.zeros(2), success=False, intervention=False)
    with pytest.raises((ObservationError, DataError), match="camera 'front' is missing"):
        recorder.end(success=True)
    recorder.close()
