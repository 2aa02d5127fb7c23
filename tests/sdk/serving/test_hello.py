"""What client and server tell each other before the first observation."""

import copy
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from fla_sdk.serving.sessions import KEPT_S, Sessions

STATE = np.array([0.5, -1.0, 0.25], np.float32)


def test_the_greeting_says_what_can_be_asked(robot: Callable[[], Any]) -> None:
    fla = robot().greeting["fla"]
    assert fla["protocol"] == 1
    assert fla["features"] == ["deadline", "guidance", "images", "rest"]
    assert fla["limits"] == {
        "message_bytes": 2_000_000,
        "arrays": 512,
        "items": 20_000,
        "connections": None,
        "requests_per_s": None,
    }
    arm = fla["embodiments"]["arm"]
    assert (arm["rest_mode"], arm["prompt"], len(arm["schema"])) == ("guided", None, 16)


def test_a_hello_is_answered_with_the_robot_it_will_be(robot: Callable[[], Any]) -> None:
    one = robot()
    before_s = time.time()
    answer = one.hello(client="tests 1", embodiment="arm", schema=one.greeting["fla"]["embodiments"]["arm"]["schema"])
    assert answer["embodiment"] == "arm"
    assert answer["robot"] == one.greeting["fla"]["embodiments"]["arm"]
    assert {key: answer[key] for key in ("features", "limits")} == {
        key: one.greeting["fla"][key] for key in ("features", "limits")
    }
    assert answer["resumed"] is False
    assert len(answer["session"]) == 16
    assert before_s <= answer["now_s"] <= time.time()
    assert "warnings" not in answer


def test_a_client_that_said_hello_is_told_more(robot: Callable[[], Any]) -> None:
    greeted, silent = robot(), robot()
    session = greeted.hello(guidance=1.5)["session"]
    marks = {"request": 7, "observed_s": 12.5, "deadline_ms": 60_000.0}
    reply = greeted.observe(fla=marks)
    assert reply["fla"] == {"request": 7, "observed_s": 12.5}
    assert set(reply["server_timing"]) == {"infer_ms", "queue_ms", "decode_ms", "batch"}
    assert reply["server_timing"]["batch"] == 1
    assert (reply["heard"]["session"], reply["heard"]["guidance"]) == (session, 1.5)
    assert greeted.observe(fla={"guidance": 2.5})["heard"]["guidance"] == 2.5
    reply = silent.observe()
    assert set(reply["server_timing"]) == {"infer_ms"}
    assert "fla" not in reply
    assert reply["heard"]["guidance"] is None
    assert set(silent.observe()["server_timing"]) == {"infer_ms", "prev_total_ms"}


def test_a_session_is_resumed(robot: Callable[[], Any]) -> None:
    first = robot()
    session = first.hello(embodiment="arm")["session"]
    first.connection.close()
    back = robot()
    answer = back.hello(embodiment="arm", session=session)
    assert (answer["session"], answer["resumed"]) == (session, True)
    stranger = robot().hello(session="0" * 16)
    assert stranger["session"] not in (session, "0" * 16)
    assert stranger["resumed"] is False


def test_sessions_are_forgotten_a_while_after_their_last_connection_ended() -> None:
    sessions = Sessions()
    one, _ = sessions.open(None, now_s=0.0, embodiment="arm")
    sessions.open(one.id, now_s=1.0, embodiment="arm")  # faster than the news of the old connection's end
    sessions.leave(one, now_s=2.0)
    assert sessions.open(one.id, now_s=1000.0, embodiment="arm") == (one, True)
    sessions.leave(one, now_s=1000.0)
    sessions.leave(one, now_s=1000.0)
    again, resumed = sessions.open(one.id, now_s=1000.0 + KEPT_S, embodiment="arm")
    assert (again, resumed) == (one, True)
    sessions.leave(one, now_s=2000.0)
    assert sessions.open(one.id, now_s=2000.1 + KEPT_S, embodiment="arm")[1] is False
    assert len(sessions) == 1


# --- What does not fit ------------------------------------------------------------------------------------------------


def test_an_unknown_embodiment(robot: Callable[[], Any]) -> None:
    one = robot()
    error = one.hello(embodiment="harm")
    assert error["code"] == "embodiment"
    assert error["message"] == "unknown embodiment for this server 'harm'; did you mean 'arm'? (known: arm)"
    assert one.hello(embodiment="arm")["embodiment"] == "arm"  # the same connection


@pytest.mark.parametrize(("spoken", "whose"), [(2, "server"), (0, "client"), ("1", "client"), (None, "client")])
def test_an_unknown_version_of_the_protocol(robot: Callable[[], Any], spoken: Any, whose: str) -> None:
    error = robot().hello(protocol=spoken)
    assert error["code"] == "protocol"
    assert error["message"] == (
        f"this server speaks version 1 of the protocol, the client asked for {spoken}: update the {whose}"
    )


def test_swapped_names_of_the_state(robot: Callable[[], Any]) -> None:
    one = robot()
    told = copy.deepcopy(one.greeting["fla"]["embodiments"]["arm"])
    told["state"][0]["names"] = ["elbow", "shoulder"]
    error = one.hello(embodiment="arm", robot=told)
    assert error["code"] == "schema"
    assert error["message"] == (
        "arm is described differently by server and client:\n"
        "  state: the server expects shoulder, elbow, gripper; the client has elbow, shoulder, gripper, "
        "the same names in another order\n"
        "Install the same version of the robot's plugin on both sides, or send the numbers as the server expects them."
    )
    # Names alone are a description too.
    error = one.hello(robot={"state": [{"names": ["elbow", "shoulder", "gripper"]}]})
    assert "the same names in another order" in error["message"]


def test_other_units_limits_and_cameras(robot: Callable[[], Any]) -> None:
    one = robot()
    told = copy.deepcopy(one.greeting["fla"]["embodiments"]["arm"])
    told["action"][0]["unit"] = "deg"
    told["state"][0]["limits"] = [-180.0, 180.0]
    told["cameras"] = [{"name": "top", "required": True}, {"name": "front", "required": True}]
    lines = one.hello(robot=told)["message"].splitlines()
    assert lines[1:-1] == [
        "  state shoulder, limits: the server expects -3 to 3; the client has -180 to 180",
        "  state elbow, limits: the server expects -3 to 3; the client has -180 to 180",
        "  action shoulder, unit: the server expects rad; the client has deg",
        "  action elbow, unit: the server expects rad; the client has deg",
        "  cameras: the server expects top, wrist (optional); the client has front, top",
    ]


def test_another_hash_and_nothing_to_compare(robot: Callable[[], Any]) -> None:
    error = robot().hello(schema="0123456789abcdef")
    assert error["code"] == "schema"
    assert "and client (0123456789abcdef)" in error["message"]
    assert "state: shoulder, elbow (rad, absolute); gripper (open_fraction, absolute)" in error["message"]


@pytest.mark.parametrize(("off_s", "side"), [(-37, "behind"), (3600, "ahead of")])
def test_a_clock_that_is_off(robot: Callable[[], Any], off_s: float, side: str) -> None:
    one, before_s = robot(), time.time()
    answer = one.hello(now_s=before_s + off_s)
    took_s = time.time() - before_s
    (warning,) = answer["warnings"]
    assert warning.startswith("the robot's clock is ")
    assert warning.endswith(
        f" s {side} the server's: set it, for example by NTP. Deadlines are not affected, times in recordings are"
    )
    assert abs(float(warning.split()[4]) - abs(off_s)) <= took_s + 1  # it is rounded


@pytest.mark.parametrize(
    ("entries", "reason"),
    [
        ({"embodiment": 5}, "'embodiment' in a hello is text, got a int"),
        ({"robot": [1]}, "'robot' in a hello is a map, got a list"),
        ({"robot": {"state": 3}}, "'state' in the description of a robot must be a list of maps"),
        ({"robot": {"state": [{"names": "elbow"}]}}, "each field of 'state' needs 'names', a list of text"),
        ({"now_s": "noon"}, "'now_s' must be a finite number, got 'noon'"),
        ({"guidance": float("nan")}, "'guidance' must be a finite number, got 'nan'"),
    ],
)
def test_a_hello_that_makes_no_sense(robot: Callable[[], Any], entries: dict[str, Any], reason: str) -> None:
    assert robot().hello(**entries)["message"] == reason


def test_what_is_no_map(robot: Callable[[], Any]) -> None:
    one = robot()
    error = one.ask({"fla": {"hello": 7}})["fla"]["error"]
    assert (error["code"], error["message"]) == ("protocol", "a hello is a map, got a int")
    assert one.ask({"fla": 7, "state": STATE}) == "the entry 'fla' of a request is a map, got a int"
