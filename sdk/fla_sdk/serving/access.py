"""Who may reach the server: where it binds, and which requests it lets through."""

import hmac
import ipaddress
from collections.abc import Iterable
from http import HTTPStatus

from websockets.asyncio.server import ServerConnection
from websockets.http11 import Request, Response

from fla_sdk.errors import ConfigError

HEALTH_PATH = "/healthz"


def check_bind(host: str, *, token: str | None, allow_public: bool) -> None:
    """Raise `ConfigError` when the network could reach the server and nobody said that this is meant."""
    if token is not None and (not token or not token.isascii() or not token.isprintable() or " " in token):
        raise ConfigError("the token must be printable ASCII without spaces, and not empty: it travels in a header")
    if not (is_loopback(host) or token is not None or allow_public):
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


def admit(connection: ServerConnection, request: Request, *, token: str | None) -> Response | None:
    """Answer the health check and turn strangers away; None lets the websocket handshake go on.

    The token is accepted as `Authorization: Api-Key <token>`, openpi-compatible, or `Authorization: Bearer <token>`.
    """
    if request.path == HEALTH_PATH:
        return connection.respond(HTTPStatus.OK, "OK\n")
    if token is None or presents(request.headers.get_all("Authorization"), token):
        return None
    response = connection.respond(HTTPStatus.UNAUTHORIZED, "This server wants 'Authorization: Api-Key <token>'.\n")
    response.headers["WWW-Authenticate"] = "Api-Key"
    return response


def presents(authorizations: Iterable[str], token: str) -> bool:
    """Whether one of a request's `Authorization` headers has the token."""
    for value in authorizations:
        scheme, _, presented = value.partition(" ")
        # Takes the same time whichever character is wrong.
        if scheme.lower() in ("api-key", "bearer") and hmac.compare_digest(presented.encode(), token.encode()):
            return True
    return False
