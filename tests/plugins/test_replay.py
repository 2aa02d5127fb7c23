"""`replay`: a dataset that answers like a policy."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fla_embodiments.planar import PLANAR2
from fla_plugins import replay
from fla_plugins.lerobot.writer import LeRobotWriter
from fla_plugins.replay import EpisodeReplay, Options
from fla_sdk.client import ChunkExecutor, PolicyClient
from fla_sdk.data.demonstrations import Demonstrations
from fla_sdk.errors import ConfigError, DataError, FlaError, ObservationError
from fla_sdk.evaluation.server_process import server_process
from fla_sdk.plugins import load_plugins
from fla_sdk.policy.interface import Request
from fla_sdk.policy.opening import open_policy

HORIZON = Options().horizon
_IMAGE = np.zeros((64, 64, 3), np.uint8)


def _record(path: Path, *, robot: str) -> Path:
    """Two episodes of 20 and 4 rows, one task each; joint1 counts rows, actions are the state and a half."""
    names = PLANAR2.state.names
    writer = LeRobotWriter(path, robot=robot, fps=10, state_names=names, action_names=names, cameras=("front",))
    for task, rows in (("reach the red target", 20), ("reach the blue target", 4)):
        for row in range(rows):
            state = np.array([row / 10, 0], np.float32)
            writer.add({"images/front": _IMAGE, "state": state, "task": task}, state + np.float32(0.5))
        writer.save_episode()
    writer.close()
    return path


def _ask(policy: object, task: str, joint1: float) -> np.ndarray:
    state = np.array([joint1, 0], np.float32)
    observation = {"images/front": _IMAGE, "state": state, "task": task}
    return policy.infer(observation)["actions"]  # pyright: ignore[reportAttributeAccessIssue]


def test_the_nearest_moment_of_the_same_task_answers(tmp_path: Path) -> None:
    policy = open_policy(_record(tmp_path / "data", robot="planar2"), load_plugins())
    assert policy.metadata["default_embodiment"] == "planar2"
    red = _ask(policy, "reach the red target", 0.21)
    assert (red.shape, red.dtype) == ((HORIZON, 2), np.float32)
    np.testing.assert_allclose(red[:, 0], np.arange(2, 2 + HORIZON) / 10 + 0.5, rtol=1e-6)
    blue = _ask(policy, "reach the blue target", 0.21)
    # Two moments are left of that episode; the last action is held.
    np.testing.assert_allclose(blue[:, 0], [0.7, *[0.8] * (HORIZON - 1)], rtol=1e-6)
    other = _ask(policy, "fold the towel", 1.9)
    np.testing.assert_allclose(other[:, 0], [2.4] * HORIZON, rtol=1e-6)


def test_a_wrong_observation(tmp_path: Path) -> None:
    policy = open_policy(_record(tmp_path / "data", robot="planar2"), load_plugins())
    with pytest.raises(ObservationError, match="state must have shape"):
        policy.infer({"images/front": _IMAGE, "state": np.zeros(5), "task": "reach the red target"})


def test_a_dataset_that_does_not_name_its_robot(tmp_path: Path) -> None:
    path = _record(tmp_path / "data", robot="")
    with pytest.raises(DataError, match="does not say which robot recorded it"):
        open_policy(path, load_plugins())


# --- One episode, from its beginning to its end -----------------------------------------------------------------------

# Out, a wait, back the same way, and a little on: no state says alone what comes next.
_WAY = np.array([*np.linspace(0, 0.9, 10), *[0.9] * 20, *np.linspace(0.9, -0.5, 15)], np.float32)


@pytest.fixture(scope="module")
def there_and_back(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Episode 0 is something else, episode 1 goes along `_WAY`: each action is where the next state is."""
    path = tmp_path_factory.mktemp("replay") / "data"
    names = PLANAR2.state.names
    writer = LeRobotWriter(path, robot="planar2", fps=10, state_names=names, action_names=names, cameras=("front",))
    for way in (np.full(5, 2.0, np.float32), _WAY):
        for here, there in zip(way, [*way[1:], way[-1]], strict=True):
            writer.add(_seen(float(here)), np.array([there, 0], np.float32))
        writer.save_episode()
    writer.close()
    return path


def _seen(joint1: float) -> dict[str, Any]:
    return {"images/front": _IMAGE, "state": np.array([joint1, 0], np.float32), "task": "there and back"}


def _episode(path: Path, **options: Any) -> Any:
    return open_policy(path, load_plugins(), model_options={"episode": 1, **options})


@given(replans=st.lists(st.integers(1, 6), min_size=50, max_size=50), lag=st.floats(0, 0.5))
def test_a_robot_goes_the_whole_way(there_and_back: Path, replans: list[int], lag: float) -> None:
    policy = _episode_of(there_and_back)
    joint, seen, ended = 0.0, [0.0], False
    for replan in replans:
        answer = policy.infer(_seen(joint))
        ended = answer["replay"]["ended"]
        for action in answer["actions"][:replan, 0]:
            joint += (1 - lag) * (action - joint)
            seen.append(joint)
    assert ended
    assert max(seen) > 0.8
    assert joint == pytest.approx(-0.5, abs=0.01)
    # It turned round once: each way was taken in one go.
    assert np.argmax(seen) <= np.argmin(seen)
    assert (np.diff(seen[np.argmax(seen) :]) <= 1e-3).all()


_OPENED: dict[Path, Demonstrations] = {}


def _episode_of(path: Path) -> EpisodeReplay:
    """A fresh one; the dataset is opened once."""
    if path not in _OPENED:
        dataset = load_plugins().open_dataset(str(path))
        assert dataset is not None
        _OPENED[path] = Demonstrations(dataset, PLANAR2, horizon=6, episodes=np.array([1]))
    return EpisodeReplay(_OPENED[path])


def test_chunks_by_position_and_the_end(there_and_back: Path) -> None:
    policy = _episode(there_and_back, horizon=4)
    assert policy.horizon == 4
    assert policy.metadata["replay"] == {"episode": 1, "frames": 45, "task": "there and back"}
    first = policy.infer(_seen(0.0))
    np.testing.assert_allclose(first["actions"][:, 0], _WAY[1:5])
    assert first["replay"] == {"episode": 1, "frames": 45, "frame": 0, "ended": False}
    assert policy.infer(_seen(0.2))["replay"]["frame"] == 2
    assert policy.infer(_seen(0.2))["replay"]["frame"] == 2  # it has not moved
    for joint in [*_WAY[3:30:3], 0.9, 0.9, 0.9, *_WAY[30:-1]]:
        assert not policy.infer(_seen(joint))["replay"]["ended"]
    answer = policy.infer(_seen(-0.5))
    np.testing.assert_allclose(answer["actions"][:, 0], -0.5, rtol=1e-6)
    assert answer["replay"] == {"episode": 1, "frames": 45, "frame": 44, "ended": True}
    assert policy.infer(_seen(0.0))["replay"]["frame"] == 0  # brought back


def test_each_robot_has_its_own_place(there_and_back: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    policy = _episode_of(there_and_back)

    def frames(*asked: tuple[str, float]) -> list[Any]:
        answers = policy.infer_many([Request(observation=_seen(joint), session=robot) for robot, joint in asked])
        return [answer if isinstance(answer, FlaError) else answer["replay"]["frame"] for answer in answers]

    assert frames(("a", 0.0), ("b", 0.0), ("a", 0.3), ("b", 0.1)) == [0, 0, 3, 1]
    assert frames(("a", 0.5), ("b", 0.2)) == [5, 2]
    far, near = frames(("c", 1.0), ("a", 0.6))
    assert str(far).startswith("planar2 is not where episode 1 begins: joint1 at 1 instead of 0. Bring it there first")
    assert (type(far), near) == (ObservationError, 6)
    monkeypatch.setattr(replay, "MOST_ROBOTS", 2)
    assert frames(("d", 0.0), ("a", 0.7), ("b", 0.0)) == [0, 7, 0]  # b was forgotten


def test_an_episode_over_the_network(there_and_back: Path) -> None:
    arguments = ("--model-option", "episode=1", "--model-option", "horizon=6")
    with server_process(there_and_back, arguments=arguments) as url:
        for _connection in range(2):  # each begins anew
            with PolicyClient(url, embodiment="planar2") as client:
                executor, way = ChunkExecutor(client, replan=5), [0.0]
                for _ in range(60):
                    way.append(float(executor.act(lambda: _seen(way[-1]))[0]))  # noqa: B023  # called at once
            assert max(way) == pytest.approx(0.9)
            assert way[-1] == pytest.approx(-0.5)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"episode": 2}, "episode is 2, .*/data has 2: 0 to 1"),
        ({"episode": -1}, "episode is -1"),
        ({"episode": "first"}, "expected int, got 'first'"),
        ({"horizon": 0}, "horizon is 0, must be above 0"),
        ({"epsiode": 1}, "Options has no field 'epsiode'; did you mean 'episode'"),
    ],
)
def test_options_that_make_no_sense(there_and_back: Path, options: dict[str, Any], reason: str) -> None:
    with pytest.raises(ConfigError, match=reason):
        open_policy(there_and_back, load_plugins(), model_options=options)
