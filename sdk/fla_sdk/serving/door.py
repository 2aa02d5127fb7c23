"""`Door`: what every request for a connection meets first. Pages are answered here, strangers turned away."""

import asyncio
import base64
import hashlib
import re
import time
from http import HTTPStatus
from pathlib import Path
from urllib.parse import urlsplit

from websockets.asyncio.server import ServerConnection
from websockets.datastructures import Headers
from websockets.http11 import Request, Response

from fla_sdk.serving.access import why_not_this_page
from fla_sdk.serving.metrics import Metrics
from fla_sdk.serving.service import Service
from fla_sdk.serving.status import Status
from fla_sdk.serving.tokens import Tokens

STATUS_EVERY_S = 0.9
"""However many look, pictures are made no more often."""

_TEXT, _JSON, _HTML = "text/plain; charset=utf-8", "application/json", "text/html; charset=utf-8"


class Door:
    """The `process_request` of a websocket server: None lets the handshake go on."""

    def __init__(
        self, service: Service, *, tokens: Tokens | None, local: bool, metrics: Metrics, status: Status
    ) -> None:
        """`local`: only this machine is meant to come."""
        self._service, self._tokens, self._metrics, self._status = service, tokens, metrics, status
        self._local = local
        self._page = Path(__file__).with_name("page.html").read_bytes()
        self._policy = _content_policy(self._page.decode())
        self._rendered: asyncio.Future[bytes] | None = None
        self._rendered_s = 0.0

    async def __call__(self, connection: ServerConnection, request: Request) -> Response | None:
        """`/healthz` and `/readyz` want no token: whoever starts and stops servers asks them."""
        path = urlsplit(request.path).path
        if path == "/healthz":
            return _response(HTTPStatus.OK, "OK\n")
        if path == "/readyz":
            if self._service.draining:
                return _response(HTTPStatus.SERVICE_UNAVAILABLE, "draining\n")
            return _response(HTTPStatus.OK, "ready\n")
        asks_page = "websocket" not in request.headers.get("Upgrade", "").lower()
        reason = self._tokens.why_not(request.headers.get_all("Authorization")) if self._tokens else None
        if reason is not None:
            response = _response(HTTPStatus.UNAUTHORIZED, f"{reason}\n")
            basic = 'Basic realm="FLA: the token is the password"'
            response.headers["WWW-Authenticate"] = basic if asks_page and path == "/" else "Api-Key"
            return response
        if self._tokens is None:
            hosts, origins = request.headers.get_all("Host"), request.headers.get_all("Origin")
            if (why_not := why_not_this_page(hosts, origins, local=self._local)) is not None:
                return _response(HTTPStatus.FORBIDDEN, f"{why_not}\n")
        if not asks_page:
            return self._full()
        if path == "/":
            return _response(HTTPStatus.OK, self._page, _HTML, {"Content-Security-Policy": self._policy})
        if path == "/status.json":
            return _response(HTTPStatus.OK, await self._status_json(), _JSON)
        if path == "/metrics":
            text = self._metrics.text(self._service)
            return _response(HTTPStatus.OK, text, "text/plain; version=0.0.4; charset=utf-8")
        return None  # "426 Upgrade Required", as openpi's server says

    def _full(self) -> Response | None:
        limit = self._service.limits.connections
        if limit is None or len(self._service.clients) < limit:
            return None
        text = f"This server takes {limit} connections, and all are taken: try again later.\n"
        return _response(HTTPStatus.SERVICE_UNAVAILABLE, text, headers={"Retry-After": "5"})

    async def _status_json(self) -> bytes:
        now_s = time.monotonic()
        if self._rendered is None or now_s - self._rendered_s > STATUS_EVERY_S:
            figures, robots = self._status.figures(self._service), self._status.robots()
            work = asyncio.get_running_loop().run_in_executor(None, self._status.render, figures, robots, self._service)
            self._rendered, self._rendered_s = work, now_s
        # Several may wait for one picture, and one of them may hang up.
        return await asyncio.shield(self._rendered)


def _response(
    status: HTTPStatus, body: "str | bytes", kind: str = _TEXT, headers: "dict[str, str] | None" = None
) -> Response:
    data = body.encode() if isinstance(body, str) else body
    entries = {
        "Content-Type": kind,
        "Content-Length": str(len(data)),
        "Connection": "close",
        "Cache-Control": "no-store",
        "X-Content-Type-Options": "nosniff",
        "X-Frame-Options": "DENY",
        "Referrer-Policy": "no-referrer",
        **(headers or {}),
    }
    return Response(status.value, status.phrase, Headers(entries), data)


def _content_policy(page: str) -> str:
    """The page's own script and style, and nothing else, whatever a client manages to put into it."""

    def hashed(tag: str) -> str:
        texts = re.findall(rf"<{tag}>(.*?)</{tag}>", page, re.DOTALL)
        return " ".join(f"'sha256-{base64.b64encode(hashlib.sha256(t.encode()).digest()).decode()}'" for t in texts)

    return (
        f"default-src 'none'; script-src {hashed('script')}; style-src {hashed('style')}; img-src data:; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
