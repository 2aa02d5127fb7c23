"""What a robot's engineer reads when something is wrong with a request. Then the next good one is answered."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from websockets.exceptions import ConnectionClosed

from fla_sdk import wire

CHUNK = np.array([[0.5, -1.0, 0.25], [1.0, -2.0, 0.5], [1.5, -3.0, 0.75]], np.float32)
NO_CAMERA = (
    "arm: camera 'top' is missing; expected an image under 'images/top' or 'observation.images.top', "
    "got keys embodiment, prompt, state"
)


@pytest.fixture
def greeted(robot: Callable[[], Any]) -> Any:
    """A robot that said hello, and is answered before and after the test."""
    one = robot()
    assert one.hello()["embodiment"] == "arm"
    yield one
    np.testing.assert_array_equal(one.observe()["actions"], CHUNK)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (
            {"state": np.array([0.5, np.nan, np.inf], np.float32)},
            "arm: the state is not finite in elbow, gripper",
        ),
        (
            {"state": np.zeros(2, np.float32)},
            "arm: the state must have shape (3,) for shoulder, elbow, gripper; got shape (2,)",
        ),
        (
            {"images": {}},
            NO_CAMERA,
        ),
        (
            {"images": {"top": np.full((8, 12, 3), 127.0, np.float32)}},
            "arm: camera 'top' (key 'images/top'): a float image must lie in [0, 1]; send uint8 for 0 to 255",
        ),
        (
            {"images": {"top": np.zeros((1, 8, 12), np.uint8)}},
            "arm: camera 'top' (key 'images/top') must have shape [height, width, 3], got (1, 8, 12)",
        ),
        (
            {"images": {"top": np.zeros((8, 12, 3), np.int64)}},
            "arm: camera 'top' (key 'images/top') must be uint8, or float in [0, 1]; got int64",
        ),
        ({"prompt": None}, "arm: no task; send what to do as a string under 'task' or 'prompt'"),
    ],
)
def test_an_observation_that_does_not_fit(greeted: Any, change: dict[str, Any], reason: str) -> None:
    error = greeted.refused(**change, fla={"request": 3})
    assert error == {"code": "observation", "message": reason, "retry_after_ms": None, "request": 3}


def test_images_with_channels_first_or_as_fractions_are_understood(greeted: Any) -> None:
    rows = np.arange(8 * 12 * 3, dtype=np.uint8).reshape(8, 12, 3) % 100
    (total,) = {greeted.observe(images={"top": one})["image_sum"] for one in (rows, rows.transpose(2, 0, 1).copy())}
    assert total == rows.sum()
    assert greeted.observe(images={"top": np.ones((8, 12, 3), np.float32)})["image_sum"] == 255 * 8 * 12 * 3


@pytest.mark.parametrize(
    ("marks", "reason"),
    [
        ({"rest": np.zeros((4, 3), np.float32)}, "'rest' has 4 actions, more than the 3 of a chunk"),
        (
            {"rest": np.zeros((2, 4), np.float32)},
            "'rest' has 4 numbers per action, arm has 3 (shoulder, elbow, gripper)",
        ),
        (
            {"rest": np.array([[0, 0, 0], [0, np.nan, 0]], np.float32)},
            "'rest' is not finite in action 1, number 1 (elbow)",
        ),
        ({"rest": np.zeros(3, np.float32)}, "'rest' must be numbers [n, A], one row per action; got float32 of (3,)"),
        ({"rest": [[0.0, 1.0], [2.0]]}, "'rest' must be numbers [n, A], one row per action; got object of ()"),
        ({"rest": "none"}, "'rest' must be numbers [n, A], one row per action; got <U4 of ()"),
        (
            {"rest": np.zeros((2, 3), np.float32), "delay": 3},
            "'delay' is 3, must be from 0 to 2, the number of actions in 'rest'",
        ),
        ({"delay": 1}, "'delay' is 1, must be from 0 to 0, the number of actions in 'rest'"),
        ({"delay": -1}, "'delay' is -1, must be from 0 to 0, the number of actions in 'rest'"),
        ({"delay": 0.5}, "'delay' must be a whole number, got '0.5'"),
        ({"deadline_ms": 0}, "'deadline_ms' is 0, must be above 0 (milliseconds after arrival)"),
        ({"deadline_ms": float("inf")}, "'deadline_ms' must be a finite number, got 'inf'"),
        ({"guidance": "much"}, "'guidance' must be a finite number, got 'much'"),
        ({"request": "first"}, "'request' must be a whole number, got 'first'"),
    ],
)
def test_marks_that_make_no_sense(greeted: Any, marks: dict[str, Any], reason: str) -> None:
    assert greeted.refused(fla=marks)["message"] == reason


def test_the_rest_of_a_chunk_reaches_the_policy(greeted: Any) -> None:
    rest = np.arange(6, dtype=np.float32).reshape(2, 3)
    heard = greeted.observe(fla={"rest": rest, "delay": np.int64(2)})["heard"]
    np.testing.assert_array_equal(heard["rest"], rest)
    assert heard["delay"] == 2
    np.testing.assert_array_equal(greeted.observe(fla={"rest": rest.tolist()})["heard"]["rest"], rest)
    assert greeted.observe(fla={"rest": rest[:0]})["heard"]["rest"] is None


def test_what_a_policy_cannot_do_is_refused(server: Any) -> None:
    from websockets.sync.client import connect

    with connect(server.url, compression=None) as link:
        greeting = wire.unpack(link.recv(120, decode=False))
        assert greeting["fla"]["features"] == ["deadline", "images"]
        for marks, reason in (
            ({"rest": np.zeros((1, 3), np.float32)}, "this policy cannot continue a chunk: leave out 'rest', and wait"),
            ({"guidance": 2.0}, "this policy takes no weight of guidance: serve a model that was trained with adv"),
        ):
            link.send(wire.pack({"state": CHUNK[0], "fla": marks}))
            assert str(link.recv(120)).startswith(reason)


def test_bytes_that_are_no_message(greeted: Any) -> None:
    for message, reason in (
        ("{}", "an observation must come in a binary frame, this one was text"),
        (b"\xc1", "byte 0 of the message, 0xc1, begins no value of this protocol"),
        (wire.pack([1]), "an observation is a map of names to values, got a list"),
        (wire.pack({"state": list(range(30_000))}), "the message holds more than 20000 values"),
        (wire.pack({"state": [np.zeros(1)] * 600}), "the message holds more than 512 arrays"),
    ):
        error = greeted.ask(message)["fla"]["error"]
        assert (error["code"], error["message"]) == ("protocol", reason)


def test_a_message_that_is_too_long(robot: Callable[[], Any], greeted: Any) -> None:
    del greeted
    one = robot()
    one.connection.send(wire.pack({"images": {"top": np.zeros((1000, 1000, 3), np.uint8)}}))
    with pytest.raises(ConnectionClosed) as closed:
        one.connection.recv(120)
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 1009
    assert (
        closed.value.rcvd.reason.startswith("frame with 30000") and "limit of 2000000 bytes" in closed.value.rcvd.reason
    )


def test_clients_that_said_no_hello_get_text(robot: Callable[[], Any]) -> None:
    one = robot()
    assert one.observe("state") == (
        "arm: the state is missing; expected 'state' or 'observation.state', got keys images/top, prompt"
    )
    np.testing.assert_array_equal(one.observe()["actions"], CHUNK)
