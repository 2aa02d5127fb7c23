"""The server is killed in the middle of an episode and started again: nobody has to do anything on the robot."""

import signal
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from fla_sdk.client import AsynchronousExecutor, PolicyClient, Runtime, SafetyFilter, Step
from fla_sdk.data.recorder import DatasetRecorder
from fla_sdk.embodiment import Camera, Embodiment
from fla_sdk.errors import ConnectionLost
from fla_sdk.space import Space, gripper, joints

ARM = Embodiment(
    name="arm",
    state=Space(joints("shoulder", "elbow", limits=(-3.0, 3.0)), gripper()),
    action=Space(joints("shoulder", "elbow", limits=(-3.0, 3.0)), gripper()),
    cameras=(Camera("top", slot="base_0_rgb"),),
    control_hz=50,
)


class _Arm:
    """Drifts: the state is the number of the step in hundredths, so every moment can be told from the others."""

    def __init__(self) -> None:
        self.actions: list[NDArray[np.floating]] = []

    def reset(self) -> None:
        self.actions.clear()

    def observe(self) -> dict[str, Any]:
        image = np.full((8, 8, 3), len(self.actions) % 256, np.uint8)
        return {"images/top": image, "state": np.full(3, len(self.actions) / 1000, np.float32), "task": "x"}

    def act(self, action: NDArray[np.floating]) -> None:
        self.actions.append(action)


@pytest.mark.parametrize("when_late", ["hold", "decelerate"])
def test_the_robot_waits_and_goes_on_by_itself(
    when_late: Any, start_server: Callable[..., Any], registry: Any, tmp_path: Path
) -> None:
    first = start_server()
    arm = _Arm()
    killed_at: list[int] = []
    chunks: list[int] = []

    def bring_about(step: Step) -> None:
        counts = executor.counts
        chunks.append(counts.chunks)
        if step.number == 20:
            first.process.send_signal(signal.SIGKILL)
            killed_at.append(step.number)
        elif step.number == 40:
            threading.Thread(target=start_server, kwargs={"port": first.port}).start()
        elif step.number > 40 and chunks[-1] > chunks[40] + 5:
            runtime.stop()

    with (
        PolicyClient(first.url, retry_interval_s=0.02, retry_longest_s=0.1, connect_timeout_s=0.5) as policy,
        AsynchronousExecutor(policy, when_late=when_late, decelerate_steps=3, lost_after_s=60, robot=ARM) as executor,
        DatasetRecorder.create(registry, tmp_path / "run", ARM) as recorder,
    ):
        runtime = Runtime(arm, executor, rate_hz=50, safety=SafetyFilter(ARM), recorder=recorder, on_step=[bring_about])
        report = runtime.run_episode(limit_s=60)
        counts = executor.counts
    assert report.end == "stopped"
    assert killed_at == [20]
    assert counts.failures > 0
    assert counts.late > 10
    # Between the two servers the robot stands still.
    actions = np.array(arm.actions)
    np.testing.assert_array_equal(actions[32:40], np.tile(actions[32], (8, 1)))
    assert chunks[32] == chunks[40]
    dataset = registry.open_dataset(str(tmp_path / "run"))
    np.testing.assert_array_equal(dataset.episode_bounds, [[0, report.steps]])
    np.testing.assert_allclose(dataset.column("action"), actions, rtol=1e-6)
    np.testing.assert_allclose(dataset.column("observation.state")[:, 0], np.arange(report.steps) / 1000, rtol=1e-6)
    assert [dataset.frame("observation.images.top", row).max() for row in (0, 25, report.steps - 1)] == [
        row % 256 for row in (0, 25, report.steps - 1)
    ]


def test_a_server_that_stays_away_ends_the_episode_and_what_was_recorded_stays(
    start_server: Callable[..., Any], registry: Any, tmp_path: Path
) -> None:
    server = start_server()

    def kill(step: Step) -> None:
        if step.number == 5:
            server.process.send_signal(signal.SIGKILL)

    with (
        PolicyClient(server.url, retry_interval_s=0.02, connect_timeout_s=0.1) as policy,
        AsynchronousExecutor(policy, lost_after_s=0.3) as executor,
        DatasetRecorder.create(registry, tmp_path / "run", ARM) as recorder,
    ):
        arm = _Arm()
        runtime = Runtime(arm, executor, rate_hz=50, recorder=recorder, on_step=[kill])
        with pytest.raises(
            ConnectionLost, match=r"no actions for 0.3 s \(lost_after_s\); the robot was held meanwhile"
        ):
            runtime.run_episode(limit_s=60)
    dataset = registry.open_dataset(str(tmp_path / "run"))
    assert len(dataset) == len(arm.actions) > 10
    assert not dataset.column("success").any()
