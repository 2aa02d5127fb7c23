"""The control loop: what it asks, sends, tells and keeps."""

import threading
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from fla_sdk.client import ChunkExecutor, EpisodeReport, Runtime, SafetyFilter, Step
from fla_sdk.embodiment import Embodiment
from fla_sdk.errors import ConfigError, ServerError
from fla_sdk.space import Space, joints

ARM = Embodiment(
    name="arm",
    state=Space(joints("a", "b")),
    action=Space(joints("a", "b", limits=(-1.0, 1.0))),
    cameras=(),
    control_hz=1000,
)


class _Arm:
    """Counts; says what the test wants it to say."""

    def __init__(self, **said: Mapping[str, Any]) -> None:
        """`said`: `at3={"done": True}` is said in the fourth step."""
        self.said = said
        self.resets = self.looks = 0
        self.actions: list[NDArray[np.floating]] = []

    def reset(self) -> None:
        self.resets += 1

    def observe(self) -> dict[str, Any]:
        self.looks += 1
        return {"state": np.zeros(2, np.float32), "step": len(self.actions)}

    def act(self, action: NDArray[np.floating]) -> Mapping[str, Any] | None:
        self.actions.append(action)
        return self.said.get(f"at{len(self.actions) - 1}")


class _Policy:
    """Chunks of 4: the number of the observation, in both joints, in thousandths, rising by one."""

    metadata: Mapping[str, Any] = {}

    def __init__(self) -> None:
        self.observations: list[Mapping[str, Any]] = []

    def infer(self, observation: Mapping[str, Any]) -> dict[str, Any]:
        self.observations.append(observation)
        return {"actions": np.repeat(observation["step"] + np.arange(4.0)[:, None], 2, axis=1) / 1000}


class _Tape:
    """A recorder in memory."""

    def __init__(self) -> None:
        self.rows: list[tuple[int, float, bool, bool]] = []
        self.ends: list[bool] = []

    def add(self, observation: Any, action: Any, *, success: bool, intervention: bool) -> None:
        self.rows.append((observation["step"], float(action[0]), success, intervention))

    def end(self, *, success: bool) -> None:
        self.ends.append(success)


def test_an_episode_runs_until_the_robot_says_so() -> None:
    arm, policy = _Arm(at5={"success": True}, at6={"done": True}), _Policy()
    steps: list[Step] = []
    reports: list[EpisodeReport] = []
    runtime = Runtime(arm, policy, rate_hz=1000, task="wave", on_step=[steps.append], on_episode=[reports.append])
    report = runtime.run_episode()
    assert (report.steps, report.end, report.success) == (7, "done", True)
    assert reports == [report]
    np.testing.assert_array_equal([action[0] for action in arm.actions], np.arange(7) / 1000)
    assert [o["step"] for o in policy.observations] == [0, 4]
    assert arm.looks == 2  # cameras rest while a chunk is executed
    assert [o["task"] for o in policy.observations] == ["wave", "wave"]
    assert [step.success for step in steps] == [False] * 5 + [True] * 2
    assert [step.observation is not None for step in steps] == [True, False, False, False, True, False, False]
    assert report.jitter.max_ms >= 0


def test_limits_and_stop_end_it_too() -> None:
    runtime = Runtime(_Arm(), _Policy(), rate_hz=1000)
    assert runtime.run_episode(limit_steps=3).end == "limit"
    assert runtime.run_episode(limit_s=0.02).end == "limit"
    with pytest.raises(ConfigError, match="limit_steps is 0"):
        runtime.run_episode(limit_steps=0)


def test_another_thread_may_stop_it() -> None:
    moving = threading.Event()
    runtime = Runtime(_Arm(), _Policy(), rate_hz=1000, on_step=[lambda step: moving.set()])

    def stop() -> None:
        assert moving.wait(300)
        runtime.stop()

    thread = threading.Thread(target=stop)
    thread.start()
    assert runtime.run_episode(limit_s=300).end == "stopped"
    thread.join(300)


def test_every_step_is_recorded_with_what_was_executed() -> None:
    moved = {"intervention": True, "action": [0.5, 0.5]}
    arm = _Arm(at1=moved, at2={"intervention": True}, at5={"success": True, "done": True})
    tape, policy = _Tape(), _Policy()
    report = Runtime(arm, ChunkExecutor(policy, replan=4), rate_hz=1000, recorder=tape).run_episode()
    # A person moves the arm in steps 1 and 2, and has let go in step 3.
    assert [o["step"] for o in policy.observations] == [0, 4]
    assert tape.rows == [
        (0, 0.0, False, False),
        (1, 0.5, False, True),
        (2, 0.5, False, True),
        (3, 0.5, False, False),
        (4, 0.004, False, False),
        (5, 0.005, True, False),
    ]
    assert tape.ends == [True]
    assert report.interventions == 2


def test_a_callable_may_say_that_a_person_intervenes() -> None:
    pressed = iter([False, True, False])
    tape = _Tape()
    runtime = Runtime(_Arm(), _Policy(), rate_hz=1000, recorder=tape, intervention=lambda: next(pressed))
    runtime.run_episode(limit_steps=3)
    assert [row[3] for row in tape.rows] == [False, True, False]


def test_the_safety_filter_stands_between() -> None:
    safety = SafetyFilter(ARM, velocity={"rad": 0.5})
    arm = _Arm()
    steps: list[Step] = []
    report = Runtime(arm, _Policy(), rate_hz=1000, safety=safety, on_step=[steps.append]).run_episode(limit_steps=4)
    np.testing.assert_allclose([action[0] for action in arm.actions], [0, 0.0005, 0.001, 0.0015])
    np.testing.assert_allclose([step.wanted[0] for step in steps], [0, 0.001, 0.002, 0.003])
    assert report.safety is not None
    assert report.safety.clamped["a"]["velocity"] == 3


def test_what_ends_an_episode_early_is_raised_after_saving() -> None:
    class Failing(_Policy):
        def infer(self, observation: Mapping[str, Any]) -> dict[str, Any]:
            if self.observations:
                raise ServerError("gone")
            return super().infer(observation)

    tape = _Tape()
    reports: list[EpisodeReport] = []
    with pytest.raises(ServerError, match="gone"):
        Runtime(_Arm(), Failing(), rate_hz=1000, recorder=tape, on_episode=[reports.append]).run_episode()
    assert [row[0] for row in tape.rows] == [0, 1, 2, 3]
    assert tape.ends == [False]
    assert reports[0].end == "ServerError: gone"


def test_a_subscriber_that_fails_stops_nothing(caplog: pytest.LogCaptureFixture) -> None:
    def fail(step: Step) -> None:
        raise RuntimeError("no display")

    assert Runtime(_Arm(), _Policy(), rate_hz=1000, on_step=[fail]).run_episode(limit_steps=3).steps == 3
    assert caplog.text.count("RuntimeError: no display") == 3
