"""The server is killed in the middle of an episode and started again: nobody has to do anything on the robot."""

import signal
import threading
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from fla_sdk.client import AsynchronousExecutor, PolicyClient, Runtime, SafetyFilter, Step, asynchronous
from fla_sdk.client.asynchronous import Counts
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

AT_ONCE: dict[str, Any] = {"connect_timeout_s": 60.0, "retry_interval_s": 600.0}
"""Of a client that has time to connect, but tells at once when there is nobody: the executor asks again."""


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
    when_late: Any, start_server: Callable[..., Any], free_port: int, registry: Any, tmp_path: Path
) -> None:
    first = start_server(port=free_port)
    arm = _Arm()
    chunks: list[int] = []
    lost: list[Counts] = []
    restarted: list[int] = []
    restart = threading.Thread(target=start_server, kwargs={"port": free_port})

    def bring_about(step: Step) -> None:
        counts = executor.counts
        chunks.append(counts.chunks)
        if step.number == 20:
            first.stop(signal.SIGKILL)
        elif not lost and counts.failures:
            lost.append(counts)
        elif lost and not restarted and counts.late >= lost[0].late + 20:
            restarted.append(step.number)
            restart.start()
        elif restarted and chunks[-1] > chunks[restarted[0]] + 5:
            runtime.stop()

    with (
        PolicyClient(first.url, **AT_ONCE) as policy,
        AsynchronousExecutor(policy, when_late=when_late, decelerate_steps=3, lost_after_s=300, robot=ARM) as executor,
        DatasetRecorder.create(registry, tmp_path / "run", ARM) as recorder,
    ):
        runtime = Runtime(arm, executor, rate_hz=50, safety=SafetyFilter(ARM), recorder=recorder, on_step=[bring_about])
        report = runtime.run_episode(limit_s=300)
    restart.join(300)
    assert report.end == "stopped"
    # Between the two servers the robot stands still.
    actions, still = np.array(arm.actions), slice(restarted[0] - 10, restarted[0] + 1)
    np.testing.assert_array_equal(actions[still], np.tile(actions[restarted[0]], (11, 1)))
    assert lost[0].chunks == chunks[restarted[0]]
    dataset = registry.open_dataset(str(tmp_path / "run"))
    np.testing.assert_array_equal(dataset.episode_bounds, [[0, report.steps]])
    np.testing.assert_allclose(dataset.column("action"), actions, rtol=1e-6)
    np.testing.assert_allclose(dataset.column("observation.state")[:, 0], np.arange(report.steps) / 1000, rtol=1e-6)
    assert [dataset.frame("observation.images.top", row).max() for row in (0, 25, report.steps - 1)] == [
        row % 256 for row in (0, 25, report.steps - 1)
    ]


def test_a_server_that_stays_away_ends_the_episode_and_what_was_recorded_stays(
    start_server: Callable[..., Any], registry: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server, arm = start_server(), _Arm()
    # The executor's clock ticks with the robot's steps.
    monkeypatch.setattr(asynchronous, "time", SimpleNamespace(monotonic=lambda: len(arm.actions) / 50))

    def kill(step: Step) -> None:
        if step.number == 5:
            server.stop(signal.SIGKILL)

    with (
        PolicyClient(server.url, **AT_ONCE) as policy,
        AsynchronousExecutor(policy, lost_after_s=0.3) as executor,
        DatasetRecorder.create(registry, tmp_path / "run", ARM) as recorder,
    ):
        runtime = Runtime(arm, executor, rate_hz=50, recorder=recorder, on_step=[kill])
        with pytest.raises(
            ConnectionLost, match=r"no actions for 0.3 s \(lost_after_s\); the robot was held meanwhile"
        ):
            runtime.run_episode(limit_s=300)
    dataset = registry.open_dataset(str(tmp_path / "run"))
    assert len(dataset) == len(arm.actions) > 20
    assert not dataset.column("success").any()
