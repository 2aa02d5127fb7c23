"""A public bucket of Google Cloud Storage, read without credentials through its JSON API.

`STORAGE_EMULATOR_HOST` names another server, as in Google's own libraries.
"""

import base64
import http.client
import json
import os
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import attrs

from fla_sdk.errors import CheckpointError

WAIT_LIMIT_S = 30.0
"""For an answer, and for each piece of it."""

ATTEMPTS = 5
"""Without any progress, before giving up."""

PAUSE_S = 0.5
"""Before the second attempt; doubled before each further one."""

_PIECE = 2**20
_BROKEN = (urllib.error.URLError, http.client.HTTPException, ConnectionError, TimeoutError)
_LATER = {408, 429, 500, 502, 503, 504}


class Unreachable(CheckpointError):
    """The server does not answer, or stops in the middle, however often it is asked."""


@attrs.frozen(kw_only=True)
class Object:
    """A file in a bucket."""

    name: str
    size: int
    generation: str
    """Changes with the content."""

    md5: str | None
    """Hexadecimal; large objects have none."""

    crc32c: int | None

    @classmethod
    def of(cls, item: Mapping[str, Any]) -> "Object":
        """From the JSON of the API."""
        md5, crc32c = item.get("md5Hash"), item.get("crc32c")
        return cls(
            name=item["name"],
            size=int(item["size"]),
            generation=str(item.get("generation", "")),
            md5=base64.b64decode(md5).hex() if md5 else None,
            crc32c=int.from_bytes(base64.b64decode(crc32c), "big") if crc32c else None,
        )


class Bucket:
    """One bucket."""

    def __init__(self, name: str) -> None:
        host = os.environ.get("STORAGE_EMULATOR_HOST") or "https://storage.googleapis.com"
        self._url = f"{host if '://' in host else f'http://{host}'}/storage/v1/b/{urllib.parse.quote(name, safe='')}/o"
        self.name = name

    def find(self, path: str) -> list[Object]:
        """The object at `path`, or all objects below the folder `path`; none when there is neither."""
        # A checkpoint is a folder and a tokenizer a file: ask for the likelier one first.
        looks = [self._object, self._below]
        if "." not in path.rsplit("/", 1)[-1]:
            looks.reverse()
        return looks[0](path) or looks[1](path)

    def siblings(self, path: str) -> list[str]:
        """Names of files and folders beside `path`."""
        parent = path.rpartition("/")[0]
        prefix = f"{parent}/" if parent else ""
        pages = self._pages({"prefix": prefix, "delimiter": "/"})
        names = [name for page in pages for name in page.get("prefixes", [])]
        names += [item["name"] for page in pages for item in page.get("items", [])]
        return [name.removeprefix(prefix).rstrip("/") for name in names]

    def _object(self, path: str) -> list[Object]:
        item = self._json(f"{self._url}/{urllib.parse.quote(path, safe='')}")
        return [] if item is None else [Object.of(item)]

    def _below(self, path: str) -> list[Object]:
        items = [item for page in self._pages({"prefix": f"{path}/"}) for item in page.get("items", [])]
        return [Object.of(item) for item in items if not item["name"].endswith("/")]

    def _pages(self, query: Mapping[str, str]) -> list[Mapping[str, Any]]:
        pages: list[Mapping[str, Any]] = []
        token: dict[str, str] = {}
        while True:
            page = self._json(f"{self._url}?{urllib.parse.urlencode({**query, **token})}")
            if page is None:
                return pages
            pages.append(page)
            if not (following := page.get("nextPageToken")):
                return pages
            token = {"pageToken": following}

    def _json(self, url: str) -> Any:
        """The answer to a GET; None when there is no such thing."""

        def read() -> Any:
            with urllib.request.urlopen(url, timeout=WAIT_LIMIT_S) as response:
                return json.load(response)

        try:
            return self._patiently(read)
        except urllib.error.HTTPError as error:
            if error.code == 404:
                return None
            raise self._refusal(error) from error

    def download(self, found: Object, file: Path, *, on_bytes: Callable[[int], None]) -> None:
        """Write the object's content to `file`, or what is missing at its end.

        `on_bytes` is told of every piece, and may raise to stop. Raises `CheckpointError`; the file then holds all that
        arrived.
        """
        url = f"{self._url}/{urllib.parse.quote(found.name, safe='')}?alt=media"
        if found.generation:
            url += f"&generation={found.generation}"

        def received() -> int:
            return file.stat().st_size if file.exists() else 0

        def read() -> bool:
            if received() > found.size:
                file.unlink()
            present = received()
            if present == found.size and file.exists():
                return True
            request = urllib.request.Request(url, headers={"Range": f"bytes={present}-"} if present else {})
            with urllib.request.urlopen(request, timeout=WAIT_LIMIT_S) as response, file.open("ab") as out:
                if present and response.status != 206:  # a server without ranges begins again
                    out.truncate(0)
                while piece := response.read(_PIECE):
                    out.write(piece)
                    on_bytes(len(piece))
            return received() >= found.size

        try:
            self._patiently(read, progress=received)
        except urllib.error.HTTPError as error:
            raise self._refusal(error) from error

    def _patiently(self, read: Callable[[], Any], *, progress: Callable[[], int] = lambda: 0) -> Any:
        """`read()` again after a broken connection or an overloaded server; False from it counts as broken."""
        attempt, before = 0, progress()
        while True:
            reason: object = "the connection ended early"
            try:
                if (answer := read()) is not False:
                    return answer
            except urllib.error.HTTPError as error:
                error.close()
                if error.code not in _LATER:
                    raise
                reason = f"HTTP {error.code}"
            except _BROKEN as error:
                reason = getattr(error, "reason", None) or error
            attempt = 1 if progress() > before else attempt + 1
            before = progress()
            if attempt >= ATTEMPTS:
                raise Unreachable(f"gs://{self.name} cannot be read from {self._url.split('/storage/')[0]}: {reason}")
            time.sleep(PAUSE_S * 2 ** (attempt - 1))

    def _refusal(self, error: urllib.error.HTTPError) -> CheckpointError:
        why = "it is not public, and fla sends no credentials" if error.code in (401, 403) else error.reason
        return CheckpointError(
            f"gs://{self.name} refuses to be read (HTTP {error.code}): {why}. Copy it yourself with gsutil, and give "
            "the local path"
        )
