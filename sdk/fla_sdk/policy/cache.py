"""Copies of what lies in buckets: complete or absent, whatever happens meanwhile.

    <home>/<bucket>/<path>                  the copy, where openpi looks for it
    <home>/<bucket>/<path>.manifest.json    sizes and checksums; only beside complete copies
    <home>/<bucket>/<path>.incoming/        a folder that is being fetched
    <home>/<bucket>/<path>.lock             held while it is

A copy that something else put there has no manifest: it is compared with the bucket, and completed where it lies.
"""

import hashlib
import json
import sys
import threading
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import attrs

from fla_sdk.errors import CheckpointError, nearest
from fla_sdk.home import locked, refuse_without_space
from fla_sdk.policy.bucket import Bucket, Object, Unreachable
from fla_sdk.terminal import progress

_THREADS = 4
_MIB = 2**20


def fetch_from_bucket(bucket: str, path: str, *, home: Path) -> Path:
    """The local copy of `gs://bucket/path`, made if need be. Raises `CheckpointError`."""
    uri, target = f"gs://{bucket}/{path}", home / bucket / path
    if _is_complete(target, home=home):
        return target
    source = Bucket(bucket)
    try:
        objects = source.find(path)
        siblings = [] if objects else source.siblings(path)
    except Unreachable as error:
        if target.exists():
            print(f"{target} could not be compared with {uri} and is used as it is ({error})", file=sys.stderr)
            return target
        raise CheckpointError(f"{uri} is not in the cache ({target}), and {error}") from error
    if not objects:
        parent = uri.rsplit("/", 1)[0]
        hint = f"; did you mean {parent}/{close}?" if (close := nearest(path.rsplit("/", 1)[-1], siblings)) else ""
        raise CheckpointError(f"there is nothing at {uri}{hint}")
    files = _relative(objects, path)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with locked(target, what=f"fetching {uri}", error=CheckpointError):
            if not _is_complete(target, home=home):
                _Copy(uri=uri, source=source, target=target, files=files).complete()
    except OSError as error:
        raise CheckpointError(f"{uri} cannot be kept at {target}: {error}") from error
    return target


def _relative(objects: list[Object], path: str) -> dict[str, Object]:
    """Objects by their path below `path`; `""` for the object at `path` itself."""
    files = {found.name.removeprefix(path).lstrip("/"): found for found in objects}
    for name in files:
        if any(part in ("..", ".") or "\\" in part for part in name.split("/")):
            raise CheckpointError(f"the bucket names a file {name!r}, which would be written outside the cache")
    return files


# --- Complete copies --------------------------------------------------------------------------------------------------


def _manifest(target: Path) -> Path:
    return target.with_name(f"{target.name}.manifest.json")


def _is_complete(target: Path, *, home: Path) -> bool:
    """Whether a manifest, of the copy or of a folder around it, says that it is all there.

    Raises `CheckpointError` naming the file that is no longer as it was fetched.
    """
    if not target.exists():
        return False
    for folder in (target, *target.parents):
        if folder == home:
            return False
        try:
            files: Mapping[str, Any] = json.loads(_manifest(folder).read_text())["files"]
        except FileNotFoundError:
            continue
        except (ValueError, KeyError, TypeError) as error:
            raise CheckpointError(
                f"{_manifest(folder)} is damaged ({error}); delete it, and the copy beside it is compared again"
            ) from error
        inside = {folder / name if name else folder: about["size"] for name, about in files.items()}
        inside = {file: size for file, size in inside.items() if file == target or target in file.parents}
        for file, size in inside.items():
            present = file.stat().st_size if file.is_file() else None
            if present != size:
                state = "is missing" if present is None else f"has {present:,} bytes instead of {size:,}"
                raise CheckpointError(
                    f"the copy of a fetched file was changed: {file} {state}. Delete {folder} and fetch it again"
                )
        if inside:
            return True
    return False


# --- Copies in the making ---------------------------------------------------------------------------------------------


@attrs.frozen(kw_only=True)
class _Copy:
    uri: str
    source: Bucket
    target: Path
    files: Mapping[str, Object]
    """By path below `target`; the only key is `""` when `target` is a file."""

    def complete(self) -> None:
        """Fetch what is missing, then write the manifest. What has arrived stays when something goes wrong."""
        is_file = "" in self.files
        incoming = self.target.with_name(f"{self.target.name}.incoming")
        base = self.target if is_file or self.target.exists() else incoming
        missing = {base / name if name else base: found for name, found in self.files.items()}
        for file, found in list(missing.items()):
            if file.is_file():
                if file.stat().st_size != found.size:
                    raise CheckpointError(
                        f"{file} has {file.stat().st_size:,} bytes, {self.uri} has {found.size:,}: the copy is cut "
                        f"off, or of another version. Delete {self.target} and fetch it again"
                    )
                del missing[file]
        arrived = sum(part.stat().st_size for part in map(_part, missing) if part.exists())
        needed = sum(found.size for found in missing.values()) - arrived
        refuse_without_space(needed, self.target.parent, what=f"fetching {self.uri}", error=CheckpointError)
        self._fetch(missing, needed)
        about = {n: attrs.asdict(found, filter=lambda a, _: a.name != "name") for n, found in self.files.items()}
        text = json.dumps({"uri": self.uri, "files": about}, indent=2)
        manifest = _manifest(self.target)
        scratch = manifest.with_suffix(".partial")
        scratch.write_text(text)
        scratch.rename(manifest)
        if base == incoming:
            incoming.rename(self.target)

    def _fetch(self, missing: Mapping[Path, Object], needed: int) -> None:
        lock, stopped = threading.Lock(), threading.Event()
        received = 0

        def fetch(file: Path, found: Object) -> None:
            file.parent.mkdir(parents=True, exist_ok=True)
            self.source.download(found, _part(file), on_bytes=count)
            _verify(_part(file), found, uri=f"gs://{self.source.name}/{found.name}")
            _part(file).rename(file)

        with progress(f"fetching {self.uri} (MiB)", -(-needed // _MIB) or 1) as advance:

            def count(size: int) -> None:
                nonlocal received
                if stopped.is_set():
                    raise CheckpointError("stopped")
                with lock:
                    whole = received // _MIB
                    received += size
                    if more := received // _MIB - whole:
                        advance(by=more)

            with ThreadPoolExecutor(_THREADS) as pool:
                # Large files last would leave the other threads idle.
                order = sorted(missing.items(), key=lambda item: -item[1].size)
                tasks = [pool.submit(fetch, file, found) for file, found in order]
                try:
                    for task in tasks:
                        task.result()
                except BaseException:
                    stopped.set()
                    pool.shutdown(wait=False, cancel_futures=True)
                    raise


def _part(file: Path) -> Path:
    return file.with_name(f"{file.name}.part")


def _verify(file: Path, found: Object, *, uri: str) -> None:
    """Raise `CheckpointError`, and delete the file, unless it has the size and checksum of the object."""
    size = file.stat().st_size if file.exists() else 0
    wrong: str | None = None
    if size != found.size:
        wrong = f"{size:,} bytes arrived of {found.size:,}"
    elif found.md5 is not None:
        md5 = _md5(file)
        wrong = None if md5 == found.md5 else f"its MD5 is {md5}, the bucket says {found.md5}"
    elif found.crc32c is not None and (crc := _crc32c(file)) != found.crc32c:
        wrong = f"its CRC-32C is {crc:08x}, the bucket says {found.crc32c:08x}"
    if wrong:
        file.unlink(missing_ok=True)
        raise CheckpointError(f"{uri} was damaged on the way: {wrong}. What arrived of it was deleted; fetch it again")


def _md5(file: Path) -> str:
    digest = hashlib.md5()
    with file.open("rb") as content:
        while piece := content.read(_MIB):
            digest.update(piece)
    return digest.hexdigest()


def _crc32c(file: Path) -> int:
    import google_crc32c

    crc = 0
    with file.open("rb") as content:
        while piece := content.read(_MIB):
            crc = google_crc32c.extend(crc, piece)
    return crc
