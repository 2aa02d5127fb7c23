"""What `fla serve --record` leaves behind."""

import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import pytest

from fla_sdk.cli import main
from fla_sdk.client import PolicyClient
from fla_sdk.data.demonstrations import Demonstrations
from fla_sdk.embodiment import Embodiment
from fla_sdk.policy.interface import Request
from fla_sdk.serving import recorder
from fla_sdk.serving.metrics import Metrics
from fla_sdk.serving.observer import Client, Exchange
from fla_sdk.serving.recorder import RequestRecorder


def test_recordings_can_be_shown_and_trained_on(
    fla_serve: Callable[..., Any], registry: Any, tmp_path: Path, capsys: Any
) -> None:
    folder = tmp_path / "recorded"
    server = fla_serve("scripted:sine", "--embodiment", "planar2", "--record", folder, "--record-hz", "5")
    observation = registry.embodiment("planar2").example_observation()
    ramp = np.linspace(0, 255, 64).astype(np.uint8)
    observation["images/front"] = np.stack(np.broadcast_arrays(ramp[:, None], ramp[None], np.uint8(90)), axis=-1)
    rng, answers = np.random.default_rng(0), []
    states = rng.uniform(-0.5, 0.5, (2, 12, 2)).astype(np.float32)
    for episode in states:
        with PolicyClient(server.url, embodiment="planar2") as robot:
            answers += [robot.infer(observation | {"state": state})["actions"][0] for state in episode]
    assert server.stop() == 0
    dataset = registry.dataset_format("lerobot").open(folder / "planar2")
    assert (len(dataset.episode_bounds), len(dataset), dataset.fps) == (2, 24, 5)
    np.testing.assert_array_equal(dataset.column("observation.state"), states.reshape(24, 2))
    np.testing.assert_allclose(dataset.column("action"), answers, rtol=1e-6)
    seconds = dataset.column("observed_s").reshape(2, 12)
    assert (seconds[:, 0] == 0).all()
    assert (np.diff(seconds) > 0).all()
    error = np.abs(dataset.frame("observation.images.front", 5).astype(int) - observation["images/front"])
    assert error.mean() < 12  # video is lossy
    assert dataset.task(0) == observation["task"]
    assert main(["data", "show", str(folder / "planar2")]) == 0
    assert "observed_s" in capsys.readouterr().out
    with pytest.warns(UserWarning, match="recorded at 5 Hz, embodiment 'planar2' is controlled at"):
        read = Demonstrations(dataset, registry.embodiment("planar2"), horizon=4)
    sample = read[13]
    np.testing.assert_array_equal(sample.state, states[1, 1])
    assert sample.actions is not None
    np.testing.assert_allclose(sample.actions, answers[13:17], rtol=1e-6)
    assert sample.images["front"].shape == (64, 64, 3)


class _Writer:
    """Keeps what is committed; waits for `gate` before each row."""

    def __init__(self, gate: threading.Event) -> None:
        self.episodes: list[list[Mapping[str, Any]]] = []
        self.gate, self.closed = gate, False
        self.written = threading.Semaphore(0)
        """Released by each row."""

    def begin(self) -> Any:
        writer, rows = self, []

        class Draft:
            def __init__(self) -> None:
                self.rows: list[Mapping[str, Any]] = rows

            def add_row(self, row: Mapping[str, Any], *, task: str) -> None:
                assert writer.gate.wait(120)
                self.rows.append(row)
                writer.written.release()

            def abort(self) -> None: ...

        return Draft()

    def commit(self, draft: Any) -> None:
        self.episodes.append(draft.rows)

    def close(self) -> None:
        self.closed = True


def _exchange(robot: Embodiment, client: Client) -> Exchange:
    request = Request(observation=robot.example_observation())
    return Exchange(client=client, embodiment=robot.name, request=request, answer={"actions": np.zeros((3, 2))})


def _recorder(folder: Path, robot: Embodiment, writer: Any, **options: Any) -> tuple[RequestRecorder, Metrics]:
    metrics = Metrics()
    known = {"robots": {robot.name: robot}, "metrics": metrics, "max_bytes": 1e9} | options
    return RequestRecorder(folder, lambda path, which: writer, **known), metrics


def test_what_the_disk_is_too_slow_for_is_dropped(registry: Any, tmp_path: Path) -> None:
    robot, gate = registry.embodiment("planar2"), threading.Event()
    writer = _Writer(gate)
    making, metrics = _recorder(tmp_path, robot, writer)
    with making as recording:
        for _ in range(200):
            recording.answered(_exchange(robot, Client(number=1, peer="", connected_s=0.0)))
        gate.set()
    assert writer.closed
    assert len(writer.episodes) == 1
    assert recorder.WAITING <= len(writer.episodes[0]) <= recorder.WAITING + 2
    assert len(writer.episodes[0]) + metrics.dropped_rows == 200


def test_a_full_folder_ends_the_recording(registry: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recorder, "MEASURE_EVERY_S", 0.0)
    robot, gate = registry.embodiment("planar2"), threading.Event()
    gate.set()
    writer = _Writer(gate)
    making, metrics = _recorder(tmp_path, robot, writer, max_bytes=1000)
    client = Client(number=1, peer="", connected_s=0.0)
    with making as recording:
        recording.answered(_exchange(robot, client))
        assert writer.written.acquire(timeout=120)
        (tmp_path / "large").write_bytes(bytes(1000))
        for _ in range(3):
            recording.answered(_exchange(robot, client))
    assert [len(episode) for episode in writer.episodes] == [1]
    assert metrics.dropped_rows == 3


def test_robots_are_kept_apart_and_pauses_split(registry: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    robot, gate = registry.embodiment("planar2"), threading.Event()
    gate.set()
    writer = _Writer(gate)
    making, metrics = _recorder(tmp_path, robot, writer)
    first, second = (Client(number=number, peer="", connected_s=0.0) for number in (1, 2))
    now_s = 100.0
    monkeypatch.setattr(time, "monotonic", lambda: now_s)
    with making as recording:
        for wait_s, client in ((0, first), (1, second), (1, first), (recorder.PAUSE_S + 1, first), (0, second)):
            now_s += wait_s
            recording.answered(_exchange(robot, client))
        stranger = attrs.evolve(_exchange(robot, second), embodiment="unknown")
        recording.answered(stranger)
        recording.disconnected(second)
    assert sorted(len(episode) for episode in writer.episodes) == [1, 1, 1, 2]
    assert metrics.dropped_rows == 1
