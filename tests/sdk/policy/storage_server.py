"""A server with the few endpoints of Google Cloud Storage and of the Hugging Face Hub that fetching uses."""

import base64
import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Storage:
    """What the server has, how it misbehaves, and what it was asked."""

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}
        """Of bucket `models`, by name; of repository `lab/weights` too."""

        self.checksum: dict[str, dict[str, str]] = {}
        """Name -> `{"md5Hash": ...}` to tell instead of the true one."""

        self.cut: list[int] = []
        """Each download takes one: it ends after so many bytes."""

        self.status: list[int] = []
        """Each request takes one and fails with it."""

        self.asked: list[tuple[str, str | None]] = []
        """Path and range of every request for content."""

        self.gated = False
        self.url = ""

    def about(self, name: str) -> dict[str, str]:
        data = self.objects[name]
        md5 = base64.b64encode(hashlib.md5(data).digest()).decode()
        checksum = self.checksum.get(name, {"md5Hash": md5})
        return {"name": name, "size": str(len(data)), "generation": "7", **checksum}


@contextmanager
def serve() -> Iterator[Storage]:
    """A server on a free port of this machine."""
    storage = Storage()
    handler = type("Handler", (_Handler,), {"storage": storage})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    storage.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield storage
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class _Handler(BaseHTTPRequestHandler):
    storage: Storage
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        pass

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        storage, url = self.storage, urlsplit(self.path)
        query = {key: values[0] for key, values in parse_qs(url.query).items()}
        path = unquote(url.path)
        if storage.status:
            self._send(storage.status.pop(0), b"no")
        elif match := re.fullmatch(r"/storage/v1/b/models/o(?:/(.*))?", path):
            self._bucket(match[1], query)
        elif path.startswith("/api/models/lab/weights"):
            self._repository(path)
        elif match := re.fullmatch(rf"/lab/weights/resolve/{COMMIT}/(.*)", path):
            etag = f'"{hashlib.sha1(storage.objects[match[1]]).hexdigest()}"'
            self._content(match[1], {"ETag": etag, "X-Repo-Commit": COMMIT})
        else:
            self._send(404, b"{}", {"X-Error-Code": "RepoNotFound", "X-Error-Message": "no such repository"})

    def _bucket(self, name: str | None, query: dict[str, str]) -> None:
        storage = self.storage
        if name is None:
            self._listing(query)
        elif name not in storage.objects:
            self._send(404, b"{}")
        elif query.get("alt") == "media":
            assert query["generation"] == "7"
            self._content(name, {})
        else:
            self._json(storage.about(name))

    def _listing(self, query: dict[str, str]) -> None:
        """Two items a page, so that there are several."""
        prefix, start = query.get("prefix", ""), int(query.get("pageToken", 0))
        names = sorted(name for name in self.storage.objects if name.startswith(prefix))
        page: dict[str, Any] = {}
        if "delimiter" in query:
            below = [name.removeprefix(prefix) for name in names]
            page["prefixes"] = sorted({f"{prefix}{name.split('/')[0]}/" for name in below if "/" in name})
            names = [name for name in names if "/" not in name.removeprefix(prefix)]
        if names[start : start + 2]:
            page["items"] = [self.storage.about(name) for name in names[start : start + 2]]
        if names[start + 2 :]:
            page["nextPageToken"] = str(start + 2)
        self._json(page)

    def _repository(self, path: str) -> None:
        if self.storage.gated:
            self._send(403, b"{}", {"X-Error-Code": "GatedRepo", "X-Error-Message": "ask first"})
        elif "/tree/" in path:
            self._json(
                [
                    {"type": "file", "path": name, "size": len(data), "oid": hashlib.sha1(data).hexdigest()}
                    for name, data in self.storage.objects.items()
                ]
            )
        elif "/revision/" in path and not path.endswith(("/main", "/v1", COMMIT)):
            self._send(404, b"{}", {"X-Error-Code": "RevisionNotFound", "X-Error-Message": "no such revision"})
        else:
            siblings = [{"rfilename": name} for name in self.storage.objects]
            self._json({"id": "lab/weights", "sha": COMMIT, "siblings": siblings})

    def _content(self, name: str, headers: dict[str, str]) -> None:
        data, asked = self.storage.objects[name], self.headers.get("Range")
        status = 200
        if self.command == "GET":
            self.storage.asked.append((name, asked))
            if asked and (match := re.fullmatch(r"bytes=(\d+)-", asked)):
                data, status = data[int(match[1]) :], 206
        self._send(status, data, headers, cut=bool(self.storage.cut) and self.command == "GET")

    def _json(self, value: Any) -> None:
        self._send(200, json.dumps(value).encode(), {"Content-Type": "application/json"})

    def _send(self, status: int, data: bytes, headers: dict[str, str] | None = None, *, cut: bool = False) -> None:
        self.send_response(status)
        for key, value in {"Content-Length": str(len(data)), **(headers or {})}.items():
            self.send_header(key, value)
        self.end_headers()
        if self.command == "HEAD":
            return
        if cut:
            self.wfile.write(data[: self.storage.cut.pop(0)])
            self.close_connection = True
        else:
            self.wfile.write(data)
