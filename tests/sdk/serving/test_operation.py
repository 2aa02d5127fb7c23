"""What those who operate a server ask it and tell it, over HTTP and by signals."""

import json
import re
import signal
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from fla_sdk import wire
from fla_sdk.serving.metrics import Histogram
from fla_sdk.serving.rate import Rate
from fla_sdk.serving.refusal import Refusal

STATE = np.array([0.5, -1.0, 0.25], np.float32)
LIMIT_S = 120


def _get(server: Any, path: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(server.url.replace("ws", "http") + path, timeout=LIMIT_S) as response:
            return response.status, response.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


@contextmanager
def _dial(server: Any) -> Generator[ClientConnection, None, None]:
    with connect(server.url, compression=None) as robot:
        robot.recv(LIMIT_S)
        yield robot


def _tell(robot: ClientConnection, entries: dict[str, Any]) -> Any:
    robot.send(wire.pack(entries))
    reply = robot.recv(LIMIT_S)
    return reply if isinstance(reply, str) else wire.unpack(reply)


HELLO = {"fla": {"hello": {"protocol": 1, "embodiment": "arm"}}}


def _wait_for(what: Callable[[], bool]) -> None:
    until_s = time.monotonic() + LIMIT_S
    while not what():
        assert time.monotonic() < until_s
        time.sleep(0.01)


# --- Pages ------------------------------------------------------------------------------------------------------------


def test_metrics_count_what_happens(start_server: Callable[..., Any]) -> None:
    server, begun_s = start_server(robots=1), time.monotonic()
    with _dial(server) as openpi, _dial(server) as ours:
        _tell(openpi, {"state": STATE})
        _tell(openpi, {"state": STATE, "embodiment": 'made\n"up" 1'})
        _tell(openpi, {"prompt": "no state"})
        _tell(ours, HELLO)
        for _ in range(3):
            _tell(ours, {"state": STATE})
        status, text = _get(server, "/metrics")
    took_s = time.monotonic() - begun_s
    values = dict(line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
    assert status == 200
    assert values['fla_requests_total{embodiment="arm"}'] == "3"
    assert values['fla_requests_total{embodiment="other"}'] == "2"
    assert values['fla_errors_total{code="observation"}'] == "1"
    assert values["fla_connections"] == "2"
    assert values['fla_sessions{embodiment="arm"}'] == "1"
    assert values["fla_queue_length"] == "0"
    assert values['fla_batch_size_bucket{le="1"}'] == "5"
    for stage in ("decode", "queue", "infer", "encode"):
        buckets = [int(v) for k, v in values.items() if k.startswith(f'fla_stage_seconds_bucket{{stage="{stage}"')]
        assert buckets == sorted(buckets)
        assert buckets[-1] == int(values[f'fla_stage_seconds_count{{stage="{stage}"}}']) == 5
        assert 0 < float(values[f'fla_stage_seconds_sum{{stage="{stage}"}}']) <= took_s
    assert "made" not in text
    # Every family is announced before its values.
    for name in values:
        family = re.sub(r"(_bucket|_sum|_count)?(\{.*)?$", "", name)
        assert f"# TYPE {family} " in text


@given(st.lists(st.floats(0, 1e9)), st.floats(0.01, 1))
def test_a_histogram_bounds_its_quantiles(values: list[float], share: float) -> None:
    histogram = Histogram([1.0, 10.0, 1000.0])
    for value in values:
        histogram.add(value)
    bound = histogram.quantile(share)
    assert histogram.total == len(values)
    assert (bound is None) == (not values)
    if bound is not None:
        assert sum(value <= bound for value in values) >= share * len(values)


# --- Limits -----------------------------------------------------------------------------------------------------------


@given(st.lists(st.floats(0, 3), max_size=60), st.floats(0.5, 20))
def test_no_more_requests_than_the_rate(waits: list[float], per_s: float) -> None:
    rate, now_s, taken = Rate(per_s), 0.0, 0
    for wait_s in waits:
        now_s += wait_s
        try:
            rate.check(now_s)
        except Refusal as refusal:
            now_s += (refusal.retry_after_s or 0.0) + 1e-9
            rate.check(now_s)  # after the time that it names there is room
        taken += 1
    assert taken <= max(per_s, 1) + per_s * now_s + 1e-6


def test_a_robot_that_asks_too_often_is_told_when_to_ask_again(start_server: Callable[..., Any]) -> None:
    server = start_server(robots=1, requests_per_s=0.001)
    with _dial(server) as robot, _dial(server) as other:
        assert "hello" in _tell(robot, HELLO)["fla"]
        error = _tell(robot, {"state": STATE})["fla"]["error"]
        assert error["code"] == "rate"
        assert 0 < error["retry_after_ms"] <= 1e6
        assert "takes 0.001 requests per second of a robot: ask again in" in error["message"]
        assert "actions" in _tell(other, {"state": STATE})


def test_a_full_server_says_so_until_somebody_leaves(start_server: Callable[..., Any]) -> None:
    server = start_server(connections=1)
    with _dial(server):
        with pytest.raises(InvalidStatus) as refused, _dial(server):
            pass
        assert refused.value.response.status_code == 503
        assert b"takes 1 connections, and all are taken" in refused.value.response.body
        assert _get(server, "/metrics")[0] == 200  # who looks takes no robot's place

    def there_is_room() -> bool:
        try:
            with _dial(server) as robot:
                return "actions" in _tell(robot, {"state": STATE})
        except InvalidStatus:
            return False

    _wait_for(there_is_room)


# --- The end ----------------------------------------------------------------------------------------------------------


@contextmanager
def _thinking(server: Any, folder: Path) -> Generator[ClientConnection, None, None]:
    """A robot whose answer comes when `folder/go` exists."""
    with _dial(server) as robot:
        robot.send(wire.pack({"state": STATE, "prompt": f"wait {folder}"}))
        _wait_for((folder / "started").exists)
        yield robot


def test_a_server_that_is_stopped_finishes_what_it_has_begun(start_server: Callable[..., Any], tmp_path: Path) -> None:
    server = start_server(robots=1, drain_s=LIMIT_S)
    assert _get(server, "/readyz") == (200, "ready\n")
    with _dial(server) as other, _thinking(server, tmp_path) as robot:
        _tell(other, HELLO)
        server.process.send_signal(signal.SIGTERM)
        _wait_for(lambda: _get(server, "/readyz") == (503, "draining\n"))
        assert _get(server, "/healthz") == (200, "OK\n")
        error = _tell(other, {"state": STATE})["fla"]["error"]
        assert (error["code"], error["retry_after_ms"]) == ("draining", 1000)
        (tmp_path / "go").touch()
        np.testing.assert_array_equal(wire.unpack(bytes(robot.recv(LIMIT_S)))["actions"][0], STATE)  # type: ignore[arg-type]
        with pytest.raises(ConnectionClosed):
            robot.recv(LIMIT_S)
    assert server.process.wait(LIMIT_S) == 0
    assert server.stderr() == ""


def test_it_does_not_wait_for_ever(start_server: Callable[..., Any], tmp_path: Path) -> None:
    server = start_server(drain_s=0.2)
    with _thinking(server, tmp_path) as robot:
        server.process.send_signal(signal.SIGTERM)
        with pytest.raises(ConnectionClosed):
            robot.recv(LIMIT_S)
        (tmp_path / "go").touch()
    assert server.process.wait(LIMIT_S) == 0


def test_a_second_signal_ends_it_at_once(start_server: Callable[..., Any], tmp_path: Path) -> None:
    server = start_server(drain_s=LIMIT_S)
    with _thinking(server, tmp_path):
        server.process.send_signal(signal.SIGTERM)
        _wait_for(lambda: _get(server, "/readyz")[0] == 503)
        assert server.stop() == -signal.SIGTERM


# --- The log ----------------------------------------------------------------------------------------------------------


def test_a_log_for_machines(start_server: Callable[..., Any]) -> None:
    server = start_server(robots=1, log="debug")
    with _dial(server) as robot:
        _tell(robot, {"fla": {"hello": {"protocol": 1, "client": 'evil\n{"level": "error"}'}}})
        _tell(robot, {"state": STATE})
        _tell(robot, {"state": STATE, "prompt": "fail\nnow"})
    assert server.stop() == 0
    lines = [json.loads(line) for line in server.stderr().splitlines()]
    ours = [line for line in lines if "connection" in line]
    assert [line["event"] for line in ours] == ["connected", "hello", "answered", "refused", "disconnected"]
    assert ours[1]["client"] == 'evil\n{"level": "error"}'
    assert ours[2]["infer_ms"] >= 0
    assert (ours[3]["code"], ours[3]["embodiment"]) == ("failed", "arm")
    assert any("ValueError: boom" in line.get("traceback", "") for line in lines)
