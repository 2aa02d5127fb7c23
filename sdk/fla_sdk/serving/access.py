"""Who may reach the server: where it binds, and with which certificate."""

import ipaddress
import re
import ssl
from collections.abc import Sequence
from pathlib import Path

from fla_sdk.errors import ConfigError


def check_bind(host: str, *, has_token: bool, allow_public: bool) -> None:
    """Raise `ConfigError` when the network could reach the server and nobody said that this is meant."""
    if not (is_loopback(host) or has_token or allow_public):
        raise ConfigError(
            f"host {host!r} lets the whole network drive the robot: set a token, which clients must then send, "
            "or say allow_public=True (--allow-public) when the network itself is trusted. "
            "The default host 127.0.0.1 is reachable from this machine alone"
        )


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach `host`."""
    return host == "localhost" or (_is_address(host) and ipaddress.ip_address(host).is_loopback)


def why_not_this_page(hosts: Sequence[str], origins: Sequence[str], *, local: bool) -> str | None:
    """Why a browser that shows somebody's page may not come in without a token; None: it may, as robots may.

    `hosts` and `origins` are the request's headers of these names; robots send no `Origin`. A `local` server is called
    by an address or as localhost: under another name, a page of the web has made its own name mean this machine.
    """
    for origin in origins:
        if origin.partition("://")[2] not in hosts:
            return f"A page of {origin} may not talk to this server: give it a token, and send that."
    for host in hosts:
        name = re.sub(r":\d*$", "", host).strip("[]").lower()
        if local and name != "localhost" and not _is_address(name):
            return (
                f"This server is for its own machine, and was called {name}: open it as localhost, let the proxy "
                "before it send 'Host: localhost', or give it a token."
            )
    return None


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def tls(certificate: Path, key: Path) -> ssl.SSLContext:
    """For `wss://`. `certificate` holds the chain, PEM. Raises `ConfigError` when the two cannot be used."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        # Without a password one is asked for on the terminal, and a server waits for it forever.
        context.load_cert_chain(certificate, key, password="")
    except (OSError, ssl.SSLError, ValueError) as error:
        raise ConfigError(
            f"--tls-cert {certificate} with --tls-key {key}: {error}. Both are PEM files, the key without a password"
        ) from error
    return context
