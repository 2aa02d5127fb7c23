"""The conversation with a server of ours, frame by frame, without a socket."""

import logging
from typing import Any

import numpy as np
import pytest

from fla_sdk import wire
from fla_sdk.client import Session
from fla_sdk.client.images import jpeg_encoder
from fla_sdk.embodiment import Camera, Embodiment
from fla_sdk.errors import ConfigError, ConnectionLost, Overloaded, ProtocolError, ServerError
from fla_sdk.schema import describe, schema_of
from fla_sdk.space import Space, gripper, joints

ARM = Embodiment(
    name="arm",
    state=Space(joints("shoulder", "elbow", limits=(-3.0, 3.0)), gripper()),
    action=Space(joints("shoulder", "elbow"), gripper()),
    cameras=(Camera("top", slot="base_0_rgb"),),
    control_hz=20,
)
STATE = np.array([0.5, -1.0, 0.25], np.float32)
FEATURES = ["deadline", "guidance", "images", "rest"]


def greeting(**changes: Any) -> bytes:
    block = {**describe(ARM), "horizon": 8, "rest_mode": "guided", "schema": schema_of(ARM), "prompt": None}
    fla = {
        "version": "0.1.0",
        "protocol": 1,
        "embodiments": {"arm": block},
        "default_embodiment": "arm",
        "features": FEATURES,
        "limits": {"message_bytes": 1000, "connections": None},
    }
    return wire.pack({"name": "box", "fla": fla | changes})


def welcome(**changes: Any) -> bytes:
    return wire.pack(
        {"fla": {"hello": {"session": "0123456789abcdef", "embodiment": "arm", "resumed": False} | changes}}
    )


def error(code: str, **more: Any) -> bytes:
    return wire.pack({"fla": {"error": {"code": code, "message": "because", "retry_after_ms": None} | more}})


def begun(**options: Any) -> Session:
    session = Session("ws://box:8000", **dict[str, Any]({"embodiment": ARM} | options))
    session.greet(greeting())
    assert session.hello() is not None
    session.welcome(welcome())
    return session


def test_the_hello_says_who_we_are() -> None:
    session = Session("ws://box:8000", embodiment=ARM, execution="asynchronous", guidance=2.0)
    session.greet(greeting())
    hello = wire.unpack(session.hello() or b"")["fla"]["hello"]
    now_s = hello.pop("now_s")
    assert now_s > 1.7e9
    assert hello.pop("client").startswith("fla-sdk ")
    assert hello == {
        "protocol": 1,
        "embodiment": "arm",
        "schema": schema_of(ARM),
        "capabilities": [],
        "session": None,
        "execution": "asynchronous",
        "guidance": 2.0,
        "robot": describe(ARM),
    }


def test_a_new_connection_resumes_the_session() -> None:
    session = begun(embodiment="arm")
    assert not session.resumed
    session.greet(greeting())
    hello = wire.unpack(session.hello() or b"")["fla"]["hello"]
    assert (hello["session"], hello["schema"], hello["robot"]) == ("0123456789abcdef", None, None)
    session.welcome(welcome(resumed=True))
    assert session.resumed


def test_an_openpi_server_and_one_of_before_are_sent_no_hello_and_no_entry() -> None:
    old: dict[str, Any] = {"version": "0.0.9", "embodiments": {"arm": {"horizon": 3}}, "default_embodiment": "arm"}
    for metadata in ({}, {"fla": old}):
        session = Session("ws://box:8000", embodiment="arm")
        session.greet(wire.pack(metadata))
        assert session.hello() is None
        assert "fla" not in wire.unpack(session.request({"state": STATE}, deadline_ms=50))
        assert not session.continues
        with pytest.raises(ConfigError, match=r"cannot continue a chunk.*without a rest"):
            session.request({"state": STATE}, rest=np.zeros((2, 3)), delay=1)


def test_a_request_carries_the_rest_and_the_answer_must_be_its_own() -> None:
    session = begun()
    rest = np.arange(6, dtype=np.float32).reshape(2, 3)
    sent = wire.unpack(session.request({"state": STATE}, rest=rest, delay=1, deadline_ms=80))
    assert sent["embodiment"] == "arm"
    assert sent["fla"].pop("observed_s") > 0
    np.testing.assert_array_equal(sent["fla"].pop("rest"), rest)
    assert sent["fla"] == {"request": 1, "delay": 1, "deadline_ms": 80.0}
    answer = session.answer(wire.pack({"actions": rest, "fla": {"request": 1}}))
    np.testing.assert_array_equal(answer["actions"], rest)
    session.request({"state": STATE})
    with pytest.raises(ProtocolError, match="answered request 1 when asked for 2"):
        session.answer(wire.pack({"actions": rest, "fla": {"request": 1}}))


def test_a_robot_whose_model_cannot_continue_is_not_asked_to() -> None:
    session = Session("ws://box:8000", embodiment="arm")
    session.greet(greeting(embodiments={"arm": {**describe(ARM), "rest_mode": "none"}}))
    assert not session.continues
    assert begun().continues


def test_what_the_server_can_do() -> None:
    session = begun()
    assert session.features == set(FEATURES)
    assert session.limits == {"message_bytes": 1000, "connections": None}
    assert session.horizon == 8
    assert session.robot is not None
    assert session.robot["control_hz"] == 20.0
    session.welcome(welcome(features=["images"], limits={"message_bytes": 5}, robot={"horizon": 4}))
    assert (session.features, session.limits, session.horizon) == ({"images"}, {"message_bytes": 5}, 4)


@pytest.mark.parametrize(
    ("code", "kind"),
    [("observation", ServerError), ("schema", ServerError), ("failed", ServerError), ("draining", ConnectionLost)],
)
def test_an_error_has_its_code(code: str, kind: type[ServerError]) -> None:
    with pytest.raises(kind, match="ws://box:8000 answered: because") as raised:
        begun().answer(error(code))
    assert raised.value.code == code
    assert type(raised.value) is kind


@pytest.mark.parametrize("code", ["overloaded", "rate"])
def test_an_overloaded_server_says_when_to_ask_again(code: str) -> None:
    with pytest.raises(Overloaded) as raised:
        begun().answer(error(code, retry_after_ms=250.0))
    assert (raised.value.retry_after_s, raised.value.code) == (0.25, code)


def test_a_hello_may_be_refused_or_answered_with_nonsense() -> None:
    session = Session("ws://box:8000", embodiment=ARM)
    session.greet(greeting())
    with pytest.raises(ServerError, match="because"):
        session.welcome(error("schema"))
    with pytest.raises(ProtocolError, match="answered a hello with something else"):
        session.welcome(wire.pack({"actions": STATE}))


def test_another_version_of_the_protocol_says_what_to_update() -> None:
    for version, what in ((2, "client"), (0, "server")):
        with pytest.raises(ProtocolError, match=f"version {version} of FLA's protocol.*update the {what}"):
            Session("ws://box:8000").greet(greeting(protocol=version))


def test_warnings_of_the_server_are_logged(caplog: pytest.LogCaptureFixture) -> None:
    session = Session("ws://box:8000")
    session.greet(greeting())
    with caplog.at_level(logging.WARNING, logger="fla_sdk.client"):
        session.welcome(welcome(warnings=["the robot's clock is 37 s behind"]))
    assert "clock is 37 s behind" in caplog.text


@pytest.mark.parametrize("library", ["simplejpeg", "PIL"])
def test_images_travel_as_jpeg_when_the_server_takes_them(library: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from io import BytesIO

    from PIL import Image

    if library == "PIL":
        monkeypatch.setitem(__import__("sys").modules, "simplejpeg", None)
    session = begun(encode=jpeg_encoder())
    ramp = np.broadcast_to(np.arange(64, dtype=np.uint8)[:, None, None] * 3, (64, 48, 3))
    mask = np.zeros((4, 4), np.uint8)
    sent = wire.unpack(session.request({"images": {"top": ramp}, "state": STATE, "mask": mask}))
    image = sent["images"]["top"]
    assert (image[b"__image__"], image[b"format"]) == (True, "jpeg")
    decoded = np.asarray(Image.open(BytesIO(image[b"data"])))
    assert decoded.shape == (64, 48, 3)
    assert np.abs(decoded.astype(int) - ramp).max() < 8
    np.testing.assert_array_equal(sent["mask"], mask)
    session.greet(greeting(features=["rest"]))
    session.welcome(welcome())
    assert isinstance(wire.unpack(session.request({"top": ramp}))["top"], np.ndarray)


def test_without_a_library_for_jpeg_the_error_names_one(monkeypatch: pytest.MonkeyPatch) -> None:
    for library in ("simplejpeg", "PIL"):
        monkeypatch.setitem(__import__("sys").modules, library, None)
    with pytest.raises(ConfigError, match="needs simplejpeg or pillow: pip install"):
        jpeg_encoder()


def test_the_way_of_execution_must_be_known() -> None:
    with pytest.raises(ConfigError, match="execution is 'async', must be one of synchronous, receding"):
        Session("ws://box:8000", execution="async")
