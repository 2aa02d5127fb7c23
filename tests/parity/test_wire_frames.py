"""The wire format and the server against bytes recorded from openpi's client and server."""

import asyncio
import re
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pytest
from websockets.exceptions import ConnectionClosedError
from websockets.sync.client import connect

from fla_sdk import wire
from fla_sdk.errors import ProtocolError
from fla_sdk.serving.server import PolicyServer

_RAISES = {
    "complex": np.zeros(2, np.complex64),
    "object": np.array([None], object),
    "structured": np.zeros(1, [("a", "<i4")]),
    "complex_scalar": np.complex64(1),
    "set": {1, 2},
}


@pytest.fixture(scope="module")
def frames(golden: Any) -> dict[str, Any]:
    return golden.npz("wire")


@pytest.fixture(scope="module")
def facts(golden: Any) -> dict[str, Any]:
    return golden.json("wire")


def _original(name: str, fact: Mapping[str, Any], frames: Mapping[str, Any]) -> Any:
    """The value that was packed, rebuilt from the stored array or JSON value."""
    if f"pack/{name}/value" not in frames:
        return bytes.fromhex(fact["value"]) if fact["type"] == "bytes" else fact["value"]
    value = frames[f"pack/{name}/value"].astype(fact["dtype"])
    if fact["type"] == "ndarray":
        return value
    return np.str_(value) if fact["type"] == "str_" else np.dtype(fact["dtype"]).type(value)


def test_every_value_has_the_recorded_bytes(frames: dict[str, Any], facts: dict[str, Any]) -> None:
    compared = 0
    for name, fact in facts["pack"].items():
        if "value" not in fact and f"pack/{name}/value" not in frames:
            continue  # only its bytes were recorded
        recorded = frames[f"pack/{name}/bytes"].tobytes()
        assert wire.pack(_original(name, fact, frames)) == recorded, name
        compared += 1
    assert compared


def test_every_recorded_value_is_read_as_openpi_reads_it(frames: dict[str, Any], facts: dict[str, Any]) -> None:
    for name, fact in facts["pack"].items():
        if "pack_error" in fact:
            continue
        recorded = frames[f"pack/{name}/bytes"].tobytes()
        value = wire.unpack(recorded)
        # numpy 2 calls the type `bool`.
        assert type(value).__name__ in (fact["unpacked_type"], fact["unpacked_type"].rstrip("_")), name
        assert wire.pack(value) == recorded, name
        if fact["unpacked_type"] == "ndarray":
            assert (value.dtype.str, list(value.shape)) == (fact["unpacked_dtype"], fact["unpacked_shape"]), name
            assert value.flags.writeable == fact["unpacked_writeable"], name
            if f"pack/{name}/value" in frames:
                np.testing.assert_array_equal(value, frames[f"pack/{name}/value"])


def test_what_openpi_refuses_to_pack_is_refused(facts: dict[str, Any]) -> None:
    for name, value in _RAISES.items():
        assert "pack_error" in facts["pack"][name]
        with pytest.raises(ProtocolError, match="no wire format"):
            wire.pack({"entry": value})


def test_jax_arrays_and_bfloat16_are_refused(facts: dict[str, Any]) -> None:
    import jax.numpy as jnp

    array = jnp.zeros(2, jnp.bfloat16)
    assert {"bfloat16", "jax_array"} <= {n for n, fact in facts["pack"].items() if "pack_error" in fact}
    with pytest.raises(ProtocolError, match=r"entry \['state'\].*ArrayImpl"):
        wire.pack({"state": array})
    with pytest.raises(ProtocolError, match=r"dtype bfloat16.*astype\(numpy.float32\)"):
        wire.pack({"state": np.asarray(array)})


@pytest.fixture(scope="module")
def observation(frames: dict[str, Any], facts: dict[str, Any]) -> dict[str, Any]:
    entries: dict[str, Any] = {}
    for key in facts["obs"]["key_order"]:
        kind = facts["obs"]["types"][key]
        prefix = f"obs/{key}/"
        if kind == "dict":
            entries[key] = {name[len(prefix) :]: value for name, value in frames.items() if name.startswith(prefix)}
        elif kind in ("str", "NoneType"):
            entries[key] = facts["obs"][key]
        else:
            stored = frames[f"obs/{key}"]
            entries[key] = stored if kind == "ndarray" else stored[()]
    return entries


def test_an_observation_has_the_recorded_bytes(frames: dict[str, Any], observation: dict[str, Any]) -> None:
    assert wire.pack(observation) == frames["obs_packed"].tobytes()


# --- The server -------------------------------------------------------------------------------------------------------


class _GoldenPolicy:
    """What answered when the frames were recorded."""

    def __init__(self, metadata: Mapping[str, Any]) -> None:
        self.metadata = metadata

    def infer(self, observation: Mapping[str, Any]) -> dict[str, Any]:
        if observation["prompt"].startswith("fail"):
            raise ValueError(f"boom: {observation['prompt']}")
        return {
            "actions": observation["state"][None] * np.array([[1], [2], [3]], np.float32),
            "prompt": observation["prompt"],
            "image_sum": int(sum(image.sum(dtype=np.int64) for image in observation["image"].values())),
        }


@pytest.fixture(scope="module")
def url(frames: dict[str, Any]) -> Iterator[str]:
    """The server on an event loop of its own, as a program that embeds it would run it."""
    server = PolicyServer(_GoldenPolicy(wire.unpack(frames["server/metadata_frame"].tobytes())), port=0)
    started = threading.Event()
    address: list[str] = []
    loops: list[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = []

    async def main() -> None:
        stop = asyncio.Event()
        loops.append((asyncio.get_running_loop(), stop))

        def ready(url: str) -> None:
            address.append(url)
            started.set()

        await server.serve_until(stop, ready=ready)

    thread = threading.Thread(target=lambda: asyncio.run(main()))
    thread.start()
    assert started.wait(120)
    yield address[0]
    loop, stop = loops[0]
    loop.call_soon_threadsafe(stop.set)
    thread.join(120)
    assert not thread.is_alive()


def _timing_removed(response: bytes) -> bytes:
    """The response up to the timing, whose numbers differ at every run."""
    head, mark, _ = response.partition(b"server_timing")
    return head + mark


def test_a_recorded_conversation_is_answered_with_the_recorded_frames(
    url: str, frames: dict[str, Any], facts: dict[str, Any]
) -> None:
    with connect(url, compression=None, max_size=None, additional_headers={"Authorization": "Api-Key k123"}) as robot:
        assert robot.recv(120) == frames["server/metadata_frame"].tobytes()
        for i in range(2):
            robot.send(frames[f"server/request{i}"].tobytes())
            response = robot.recv(120)
            assert isinstance(response, bytes)
            assert _timing_removed(response) == _timing_removed(frames[f"server/response{i}"].tobytes())
            answer = wire.unpack(response)
            assert list(answer["server_timing"]) == facts[f"response{i}"]["server_timing_keys"]
            np.testing.assert_array_equal(answer["actions"], frames[f"server/response{i}_actions"])
        robot.send(frames["server/error_request"].tobytes())
        reason = robot.recv(120)
        assert reason == facts["error"]["text_last_line"]
        with pytest.raises(ConnectionClosedError) as closed:
            robot.recv(120)
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == facts["error"]["close_code"]


def test_garbage_gets_a_text_frame(url: str, facts: dict[str, Any]) -> None:
    assert facts["garbage_request"]["frame_type"] == facts["text_request"]["frame_type"] == "str"
    for garbage in (b"\xc1\xc1", "not binary"):
        with connect(url, compression=None) as robot:
            robot.recv(120)
            robot.send(garbage)
            assert isinstance(robot.recv(120), str)


def test_health_check(url: str, facts: dict[str, Any]) -> None:
    address = url.replace("ws://", "http://")
    with urllib.request.urlopen(f"{address}/healthz", timeout=120) as response:
        expected = facts["healthz"]
        assert (response.status, response.reason, response.read().decode()) == (
            expected["status"],
            expected["reason"],
            expected["body"],
        )
        for name in ("Connection", "Content-Length", "Content-Type"):
            assert response.headers[name] == expected["headers"][name]
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(f"{address}/other", timeout=120)
    with refused.value:
        assert refused.value.code == facts["plain_http_get_other_path"]["status"]
    assert re.match(r"ws://127\.0\.0\.1:\d+$", url)
