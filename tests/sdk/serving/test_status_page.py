"""The status page, in a real browser, and what it is made from."""

import io
import json
import re
import sys
import time
import urllib.request
from base64 import b64decode
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from websockets.sync.client import ClientConnection, connect

from fla_sdk import wire

sys.path.insert(0, str(Path(__file__).parent))
from browser import CHROMIUM, Tab, browser

LIMIT_S = 120
STATE = np.array([0.5, -1.0, 0.25], np.float32)
EVIL = '"><img src=x onerror="document.title=\'owned\'"><script>document.title="owned"</script>'

needs_browser = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here")


def _page(server: Any, path: str = "/") -> Any:
    return urllib.request.urlopen(server.url.replace("ws", "http") + path, timeout=LIMIT_S)


def _status(server: Any, client: str) -> Any:
    """What it says once it has an observation of `client`; it looks around once a second."""
    until_s = time.monotonic() + LIMIT_S
    while True:
        with _page(server, "/status.json") as response:
            told = json.load(response)
        told["robots"] = [one for one in told["robots"] if one["client"] == client and one["age_s"] is not None]
        if told["robots"]:
            return told
        assert time.monotonic() < until_s
        time.sleep(0.05)


def _robot(server: Any) -> AbstractContextManager[ClientConnection]:
    return connect(server.url, compression=None)


def _ask(robot: ClientConnection, **entries: Any) -> Any:
    robot.send(wire.pack(entries))
    reply = robot.recv(LIMIT_S)
    return reply if isinstance(reply, str) else wire.unpack(reply)


def _greet(robot: ClientConnection, **told: Any) -> None:
    robot.recv(LIMIT_S)
    assert "hello" in _ask(robot, fla={"hello": {"protocol": 1, "embodiment": "arm", **told}})["fla"]


def test_the_page_needs_nothing_from_elsewhere(server: Any) -> None:
    with _page(server) as response:
        page, policy = response.read().decode(), response.headers["Content-Security-Policy"]
    assert not re.findall(r"(?:src|href)=\"(?!data:)", page)
    assert "http" not in page.replace("http://www.w3.org/2000/svg", "")
    assert "unsafe" not in policy
    assert "innerHTML" not in page


def test_what_the_page_shows(server: Any) -> None:
    with _robot(server) as robot:
        _greet(robot, client="tester", execution="asynchronous")
        asked_s = time.monotonic()
        _ask(robot, state=STATE, prompt="pick")
        told = _status(server, "tester")
        passed_s = time.monotonic() - asked_s
    (shown,) = told["robots"]
    assert (shown["embodiment"], shown["client"], shown["execution"]) == ("arm", "tester", "asynchronous")
    assert 0 <= shown["age_s"] <= passed_s + 0.05  # it is rounded
    assert told["answers"] >= 1
    assert (shown["prompt"], shown["refusals"]) == ("pick", 0)
    assert [line["values"] for line in shown["chunk"]["lines"]] == [[0.5, 1, 1.5], [-1, -2, -3], [0.25, 0.5, 0.75]]
    assert [line["name"] for line in shown["chunk"]["lines"]] == ["shoulder", "elbow", "gripper"]
    assert set(told["stages"]) == {"decode", "queue", "infer", "encode"}


def test_pictures_are_small(server: Any) -> None:
    wide = np.zeros((300, 2000, 3), np.uint8)
    wide[:, 1000:] = 200
    with _robot(server) as robot:
        _greet(robot, client="painter")
        _ask(robot, state=STATE, image={"top": wide})
        (camera,) = _status(server, "painter")["robots"][0]["cameras"]
    with Image.open(io.BytesIO(b64decode(camera["data"].removeprefix("data:image/jpeg;base64,")))) as picture:
        small = np.asarray(picture)
    assert (camera["name"], camera["size"]) == ("image/top", [2000, 300])
    assert small.shape == (24, 160, 3)
    assert small[:, :70].max() < 20
    assert small[:, 90:].min() > 180


@needs_browser
def test_an_operator_keeps_it_open(start_server: Callable[..., Any], free_port: int, tmp_path: Path) -> None:
    server = start_server(robots=1, port=free_port)
    with browser(tmp_path / "profile") as tab:
        tab.open(server.url.replace("ws", "http"))
        tab.wait_for("document.querySelector('#state').textContent === 'serving'")
        assert tab.evaluate("document.querySelector('#nobody').checkVisibility()")
        with _robot(server) as robot:
            _greet(robot, client=EVIL, execution=EVIL)
            for factor in (1, 2):
                _ask(robot, state=STATE * factor, image={EVIL: np.full((48, 64, 3), 90, np.uint8)}, prompt=EVIL)
            tab.wait_for("document.querySelectorAll('.robot img').length === 1")
            tab.wait_for("document.querySelector('.robot img').naturalWidth === 64")
            tab.wait_for("document.querySelectorAll('.robot path').length === 3")  # shoulder, elbow and gripper
            assert "shoulder" in tab.evaluate("document.querySelector('.chunk').textContent")
            assert tab.evaluate("document.querySelector('.prompt').textContent") == f"“{EVIL}”"
            assert EVIL in tab.evaluate("document.querySelector('.client').textContent")
            assert tab.evaluate("document.querySelectorAll('script').length") == 1
            tab.wait_for("document.title === '1 connected'")
            # Nothing is made anew while nothing happens.
            tab.evaluate(
                "window.changes = 0; new MutationObserver(all => { for (const one of all) if (one.type === 'childList'"
                " && [...one.addedNodes].some(node => node.nodeType === 1)) window.changes += 1; })"
                ".observe(document.body, {childList: true, subtree: true}); window.polls = 0;"
                " const show0 = show; show = told => { show0(told); window.polls += 1; }; 0"
            )
            tab.wait_for("window.polls >= 3")
            assert tab.evaluate("window.changes") == 0
            _ask(robot, state=STATE, prompt="fail " + EVIL)
            tab.wait_for("document.querySelector('#errors').textContent === 'failed1'")
        tab.wait_for("document.querySelectorAll('.robot').length === 0")
        assert tab.console == []
        _restart(server, start_server, tab)


def _restart(server: Any, start_server: Callable[..., Any], tab: Tab) -> None:
    assert server.stop() == 0
    tab.wait_for(r"/^no answer since \d\d:\d\d:\d\d$/.test(document.querySelector('#state').textContent)")
    second = start_server(robots=1, port=server.port)
    tab.wait_for("document.querySelector('#state').textContent === 'serving'")
    with _robot(second) as robot:
        _greet(robot, client="the second")
        tab.wait_for("document.querySelector('.robot .client')?.textContent.includes('the second')")
