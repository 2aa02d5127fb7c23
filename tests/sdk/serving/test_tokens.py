"""Which tokens a server takes, and until when."""

import os
import subprocess
import urllib.error
import urllib.request
from base64 import b64encode
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fla_sdk.client import PolicyClient
from fla_sdk.errors import ConfigError, FlaError
from fla_sdk.serving.access import tls
from fla_sdk.serving.tokens import Token, Tokens, read_tokens

STATE = np.array([0.5, -1.0, 0.25], np.float32)
NOON = datetime(2027, 1, 1, 12, tzinfo=timezone.utc)


def test_a_file_of_tokens(tmp_path: Path) -> None:
    file = tmp_path / "tokens"
    file.write_text(
        "# robots\nalpha\n\nbeta#1 name=lab   # the left bench\ngamma expires=2027-01-01T12:00:00Z name=guest\n"
    )
    found = read_tokens(file)
    assert [(token.secret, token.name) for token in found] == [("alpha", None), ("beta#1", "lab"), ("gamma", "guest")]
    assert found[2].expires == NOON
    assert "gamma" not in repr(found)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("# nobody\n", "there is no token in it"),
        ("secret until=tomorrow", "line 1: after the token may come name=.* and expires="),
        ("good\nsecret expires=tomorrow", "line 2: expires=tomorrow is no time such as 2027"),
        ("secret expires=2027-01-01T00:00:00", "line 1: .*in which time zone"),
        ("sécret", "line 1: the token must be printable ASCII"),
    ],
)
def test_a_file_that_says_something_else(tmp_path: Path, text: str, reason: str) -> None:
    file = tmp_path / "tokens"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match=reason) as caught:
        Tokens(file=file)
    assert "secret" not in str(caught.value)
    with pytest.raises(ConfigError, match=r"nothing.*cannot be read"):
        read_tokens(tmp_path / "nothing")


def test_who_is_let_in() -> None:
    tokens = Tokens([Token(secret="always"), Token(secret="today", expires=NOON)])
    before, after = NOON - timedelta(seconds=1), NOON
    for good in ("Api-Key always", "bearer always", f"Basic {b64encode(b'anyone:always').decode()}"):
        assert tokens.why_not(["Digest nothing", good], now=after) is None
    for bad in ("always", "Api-Key alway", "Api-Key ", "Basic always", f"Basic {b64encode(b'always').decode()}", ""):
        assert "wants 'Authorization" in str(tokens.why_not([bad], now=after))
    assert tokens.why_not(["Api-Key today"], now=before) is None
    expired = "This token has expired, on 2027-01-01 at 12:00:00 UTC: ask for a new one."
    assert tokens.why_not(["Api-Key today"], now=after) == expired
    assert tokens.why_not(["Api-Key today", "Api-Key always"], now=after) is None


def test_tokens_change_while_the_server_runs(start_server: Callable[..., Any], tmp_path: Path) -> None:
    file = tmp_path / "tokens"
    file.write_text("old\nstale expires=2020-01-01T00:00:00Z\n")
    server = start_server(token_file=file)

    def asks(token: str) -> Any:
        with PolicyClient(server.url, token=token, connect_timeout_s=120) as policy:
            return policy.infer({"state": STATE})

    asks("old")
    with pytest.raises(FlaError, match="This token has expired, on 2020-01-01 at 00:00:00 UTC"):
        asks("stale")
    file.write_text("new name=left\n")
    asks("new")
    with pytest.raises(FlaError, match="Api-Key <token>"):
        asks("old")
    file.write_text("half expires=")  # nobody is locked out by a slip
    asks("new")
    assert "tokens that were read before stay good" in server.stderr()
    for path in ("/metrics", "/", "/status.json"):
        page = server.url.replace("ws", "http") + path
        for headers in ({}, {"Authorization": f"Basic {b64encode(b'me:old').decode()}"}):
            with pytest.raises(urllib.error.HTTPError, match="401"):
                urllib.request.urlopen(urllib.request.Request(page, headers=headers), timeout=120)
        with pytest.raises(urllib.error.HTTPError, match="401"):
            urllib.request.urlopen(f"{page}?token=new", timeout=120)
        good = urllib.request.Request(page, headers={"Authorization": f"Basic {b64encode(b'me:new').decode()}"})
        with urllib.request.urlopen(good, timeout=120) as response:
            assert response.status == 200


def test_tls(start_server: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    certificate, key = tmp_path / "certificate.pem", tmp_path / "key.pem"
    command = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=localhost"
    names = ["-addext", "subjectAltName=IP:127.0.0.1,DNS:localhost"]
    files = ["-keyout", str(key), "-out", str(certificate)]
    subprocess.run(["openssl", *command.split(), *names, *files], check=True, capture_output=True, timeout=300)
    server = start_server(certificate=certificate, key=key, token="sesame")
    assert server.url.startswith("wss://")
    with pytest.raises(FlaError, match="certificate"):
        PolicyClient(server.url, token="sesame", connect_timeout_s=120)
    monkeypatch.setitem(os.environ, "SSL_CERT_FILE", str(certificate))
    with PolicyClient(server.url, token="sesame") as policy:
        np.testing.assert_array_equal(policy.infer({"state": STATE})["actions"][1], 2 * STATE)
    with pytest.raises(ConfigError, match=r"--tls-cert .*key.pem.*PEM files"):
        tls(key, certificate)
