"""Our client and our server: hello, mismatch, continued chunks, compressed images."""

import asyncio
import time
from collections.abc import Callable
from typing import Any

import attrs
import numpy as np
import pytest

from fla_sdk.client import AsynchronousExecutor, AsyncPolicyClient, PolicyClient
from fla_sdk.embodiment import Camera, Embodiment
from fla_sdk.errors import ServerError
from fla_sdk.space import Space, gripper, joints

ARM = Embodiment(
    name="arm",
    state=Space(joints("shoulder", "elbow", limits=(-3.0, 3.0)), gripper()),
    action=Space(joints("shoulder", "elbow", predict="relative"), gripper()),
    cameras=(Camera("top", slot="base_0_rgb"), Camera("wrist", slot="left_wrist_0_rgb", required=False)),
    control_hz=20,
)
STATE = np.array([0.5, -1.0, 0.25], np.float32)
CHUNK = np.stack([STATE, 2 * STATE, 3 * STATE])
OBSERVATION = {"state": STATE, "task": "pick", "images/top": np.full((32, 32, 3), 100, np.uint8)}


@pytest.fixture
def many(start_server: Callable[..., Any]) -> Any:
    """A server whose policy continues chunks and says what it heard."""
    return start_server(robots="many")


def test_both_sides_know_each_other(many: Any) -> None:
    with PolicyClient(many.url, embodiment=ARM, guidance=1.5) as policy:
        assert {"rest", "guidance", "images", "deadline"} <= policy.features
        assert policy.continues
        assert policy.horizon == 3
        assert policy.session_id is not None
        answer = policy.infer(OBSERVATION, deadline_ms=60_000)
        np.testing.assert_array_equal(answer["actions"], CHUNK)
        assert answer["heard"]["guidance"] == 1.5
        session = policy.session_id
        policy.close()
        policy.infer(OBSERVATION)
        assert policy.session_id == session
        assert policy._session.resumed


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_the_rest_of_a_chunk_arrives(many: Any, kind: str) -> None:
    rest = np.array([[1, 2, 3], [4, 5, 6]], np.float32)
    if kind == "sync":
        with PolicyClient(many.url, embodiment="arm") as policy:
            heard = policy.infer(OBSERVATION, rest=rest, delay=1)["heard"]
    else:

        async def ask() -> Any:
            async with AsyncPolicyClient(many.url, embodiment="arm") as policy:
                return await policy.infer(OBSERVATION, rest=rest, delay=1)

        heard = asyncio.run(ask())["heard"]
    np.testing.assert_array_equal(heard["rest"], rest)
    assert heard["delay"] == 1


def test_a_robot_that_means_something_else_is_refused_with_both_sides(many: Any) -> None:
    degrees = Space(joints("shoulder", "elbow", unit="deg", limits=(-3.0, 3.0)), gripper())
    with pytest.raises(
        ServerError, match=r"state shoulder, unit: the server expects rad; the client has deg"
    ) as refused:
        PolicyClient(many.url, embodiment=attrs.evolve(ARM, state=degrees, action=degrees))
    assert refused.value.code == "schema"


def test_a_wrong_observation_has_its_code_and_keeps_the_connection(many: Any) -> None:
    with PolicyClient(many.url, embodiment="arm") as policy:
        connection = policy._connection
        with pytest.raises(ServerError, match="camera 'top' is missing") as refused:
            policy.infer({"state": STATE, "task": "pick"})
        assert refused.value.code == "observation"
        policy.infer(OBSERVATION)
        assert policy._connection is connection


def test_compressed_images_arrive(many: Any) -> None:
    with PolicyClient(many.url, embodiment="arm", images="jpeg") as policy:
        assert policy.infer(OBSERVATION)["image_sum"] == pytest.approx(32 * 32 * 3 * 100, rel=0.02)


def test_chunks_are_continued_while_they_are_executed(many: Any) -> None:
    """The golden policy answers with multiples of the state, so every action says which of a chunk it was."""
    with PolicyClient(many.url, embodiment=ARM, execution="asynchronous") as policy:
        with AsynchronousExecutor(policy, replan=1, lost_after_s=300) as executor:
            while executor.counts.chunks < 4:
                assert executor.act(lambda: OBSERVATION)[0] / STATE[0] in (1, 2, 3)
                time.sleep(0.005)
            assert executor.counts.failures == 0
        executor._thread.join(120)  # closing does not wait that long for an answer under way
        assert policy.infer(OBSERVATION)["heard"]["rest"] is None


def test_an_example_of_the_description_alone_is_accepted(many: Any) -> None:
    from fla_sdk.client.description import example

    with PolicyClient(many.url) as policy:
        assert policy.robot is not None
        assert policy.infer(example(policy.robot))["prompt"] == "do something"
