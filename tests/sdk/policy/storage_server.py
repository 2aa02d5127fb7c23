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
REPOSITORIES = ("/api/models/lab/weights", "/api/datasets/lab/set")


class Storage:
    """What the server has, how it misbehaves, and what it was asked."""

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}
        """Of bucket `models`, by name; of the repositories `lab/weights` and, for data, `lab/set` too."""

        self.tags: list[str] = []
        self.private: bool | None = None
        """Of the repository that was created last."""

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
        elif path.startswith(REPOSITORIES):
            self._repository(path)
        elif match := re.fullmatch(rf"/(?:lab/weights|datasets/lab/set)/resolve/{COMMIT}/(.*)", path):
            etag = f'"{hashlib.sha1(storage.objects[match[1]]).hexdigest()}"'
            self._content(match[1], {"ETag": etag, "X-Repo-Commit": COMMIT})
        else:
            self._send(404, b"{}", {"X-Error-Code": "RepoNotFound", "X-Error-Message": "no such repository"})

    def do_POST(self) -> None:
        """What publishing a dataset asks for; every file is small enough to be sent with its commit."""
        storage, path = self.storage, unquote(urlsplit(self.path).path)
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if storage.status:
            self._send(storage.status.pop(0), b"no")
        elif path == "/api/repos/create":
            asked = json.loads(body)
            assert (asked["type"], asked["organization"], asked["name"]) == ("dataset", "lab", "set")
            storage.private = asked.get("private") or asked.get("visibility") == "private"
            self._json({"url": f"{storage.url}/datasets/lab/set"})
        elif path == "/api/validate-yaml":
            self._json({"errors": [], "warnings": []})
        elif path == "/api/datasets/lab/set/preupload/main":
            names = [file["path"] for file in json.loads(body)["files"]]
            self._json({"files": [{"path": n, "uploadMode": "regular", "shouldIgnore": False} for n in names]})
        elif path == "/api/datasets/lab/set/commit/main":
            for line in map(json.loads, body.splitlines()):
                about = line["value"]
                if line["key"] == "file":
                    storage.objects[about["path"]] = base64.b64decode(about["content"])
                elif line["key"] == "deletedFile":
                    del storage.objects[about["path"]]
            url = f"{storage.url}/datasets/lab/set/commit/{COMMIT}"
            self._json({"success": True, "commitUrl": url, "commitOid": COMMIT})
        elif path == "/api/datasets/lab/set/tag/main":
            storage.tags.append(json.loads(body)["tag"])
            self._json({})
        else:
            self._send(404, b"{}", {"X-Error-Code": "RepoNotFound", "X-Error-Message": "no such repository"})

    def do_DELETE(self) -> None:
        tag = unquote(urlsplit(self.path).path).removeprefix("/api/datasets/lab/set/tag/")
        if tag in self.storage.tags:
            self.storage.tags.remove(tag)
            self._json({})
        else:
            self._send(404, b"{}", {"X-Error-Code": "RevisionNotFound", "X-Error-Message": "no such revision"})

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
        elif "/revision/" in path and not path.endswith(("/main", "/v1", "/v3.0", COMMIT)):
            self._send(404, b"{}", {"X-Error-Code": "RevisionNotFound", "X-Error-Message": "no such revision"})
        else:
            siblings = [{"rfilename": name} for name in self.storage.objects]
            self._json({"id": "/".join(path.split("/")[3:5]), "sha": COMMIT, "siblings": siblings})

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
