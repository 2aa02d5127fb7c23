"""Who may reach the server: where it binds, and with which certificate."""

import ipaddress
import ssl
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
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


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
