"""Who may come in without a token."""

import urllib.error
import urllib.request
from typing import Any

import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from fla_sdk.serving.access import why_not_this_page


@pytest.mark.parametrize("host", ["localhost:8000", "LOCALHOST", "127.0.0.1:8000", "[::1]:8000", "192.168.1.5:8000"])
def test_robots_and_the_status_page_come_in(host: str) -> None:
    assert why_not_this_page([host], [], local=True) is None
    assert why_not_this_page([host], [f"http://{host}"], local=True) is None


@pytest.mark.parametrize("host", ["evil.example:8000", "localhost.evil.example", "127.0.0.1.evil.example", "["])
def test_a_name_that_somebody_made_mean_this_machine_does_not(host: str) -> None:
    assert "open it as localhost" in str(why_not_this_page([host], [], local=True))
    assert why_not_this_page([host], [], local=False) is None


@pytest.mark.parametrize("origin", ["https://evil.example", "http://localhost:3000", "null", ""])
def test_pages_of_others_do_not(origin: str) -> None:
    assert "may not talk to this server" in str(why_not_this_page(["localhost:8000"], [origin], local=False))


def test_the_server_asks(many_server: Any) -> None:
    with pytest.raises(InvalidStatus, match="403"):
        connect(many_server.url, origin="https://evil.example")  # type: ignore[arg-type]
    page = many_server.url.replace("ws", "http")
    elsewhere = {"Host": "evil.example"}
    for path in ("/", "/status.json", "/metrics"):
        with pytest.raises(urllib.error.HTTPError, match="403") as refused:
            urllib.request.urlopen(urllib.request.Request(page + path, headers=elsewhere), timeout=60)
        with refused.value as page_refused:
            assert b"was called evil.example" in page_refused.read()
    with urllib.request.urlopen(urllib.request.Request(f"{page}/healthz", headers=elsewhere), timeout=60) as response:
        assert response.status == 200
