"""Where every feature of every episode lies, from one pass over the heads of the records; kept for the next time.

    <data home>/rlds/index/<key>.npy        the episodes of one shard; the key changes when the file does

Images and numbers are skipped, so the pass reads less than a hundredth of a dataset. A pass that was stopped goes on at
the next shard.
"""

import hashlib
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import attrs
import numpy as np
from numpy.typing import NDArray

from fla_plugins.rlds.example import Region, Window, boundaries, features, integers
from fla_plugins.rlds.layout import FEATURES, Layout, ShardFile
from fla_plugins.rlds.schema import Leaf, Schema
from fla_plugins.rlds.shard import Record, Shard
from fla_sdk.errors import DataError
from fla_sdk.terminal import progress

_FORMAT = b"1"
"""Changes when what is kept on disk does."""

_THREADS = 8
"""The pass waits for the disk most of the time."""

_LARGE_BYTES = 2**30
"""From here on progress is shown."""


@attrs.frozen(kw_only=True)
class Index:
    """Episodes in the order of their shards, the unreadable ones included."""

    shards: tuple[Path, ...]
    shard: NDArray[np.int64]
    """`[E]`: which shard it is in."""

    number: NDArray[np.int64]
    """`[E]`: which record of the shard it is."""

    rows: NDArray[Any]
    """`[E]` of `row_type`."""

    key: str
    """Changes when a file or what is known of it does."""

    @property
    def steps(self) -> NDArray[np.int64]:
        return self.rows["steps"]

    @property
    def damage(self) -> NDArray[np.str_]:
        """`[E]`: why an episode cannot be read; empty when it can."""
        return np.char.decode(self.rows["damage"], errors="replace")

    def path(self, episode: int) -> Path:
        return self.shards[int(self.shard[episode])]

    def where(self, episode: int) -> str:
        """For messages."""
        return f"{self.path(episode)}, record {self.number[episode]}"

    def record(self, episode: int) -> Record:
        row = self.rows[episode]
        return Record(start=int(row["start"]), size=int(row["size"]), crc=int(row["crc"]))

    def region(self, episode: int, leaf: Leaf, number: int) -> Region:
        """Of leaf `number` of the schema."""
        start, end = self.rows["regions"][episode, number].tolist()
        return Region(leaf.kind, start, end)


def row_type(schema: Schema) -> np.dtype[Any]:
    """What is kept of an episode: its record, its number of steps, from where to where each leaf lies (0, 0 where it
    is absent), and why it cannot be read, if so. An unreadable one counts one step.
    """
    return np.dtype(
        [
            ("start", "<i8"),
            ("size", "<i8"),
            ("crc", "<u4"),
            ("steps", "<i8"),
            ("regions", "<i8", (len(schema.leaves), 2)),
            ("damage", "S500"),
        ]
    )


def build_index(layout: Layout, schema: Schema, *, home: Path, verify: bool) -> Index:
    """From what is kept in `home`, and from the shards for the rest. `verify` compares every checksum once, for which
    all of the data is read. Raises `DataError` when a shard holds more than it should, or nothing can be kept.
    """
    declared = (layout.root / FEATURES).read_bytes()
    keys = [_key(shard, declared, verify=verify) for shard in layout.shards]
    folder = home / "rlds" / "index"
    kept = {place: np.load(path) for place, key in enumerate(keys) if (path := folder / f"{key}.npy").exists()}
    missing = [place for place in range(len(keys)) if place not in kept]

    def read(place: int) -> NDArray[Any]:
        rows = _read_shard(layout.shards[place], schema, verify=verify)
        keep(folder / f"{keys[place]}.npy", rows)
        return rows

    if missing:
        pool = ThreadPoolExecutor(_THREADS)
        files = [path for place in missing if (path := layout.shards[place].path).exists()]
        large = sum(path.stat().st_size for path in files) >= _LARGE_BYTES
        with shown(f"indexing {layout.name}", len(missing), large=large) as advance:
            try:
                for place, rows in zip(missing, pool.map(read, missing), strict=True):
                    kept[place] = rows
                    advance()
            finally:
                pool.shutdown(cancel_futures=True)
    parts = [kept[place] for place in range(len(keys))]
    return Index(
        shards=tuple(shard.path for shard in layout.shards),
        shard=np.repeat(np.arange(len(parts)), [len(part) for part in parts]),
        number=np.concatenate([np.arange(len(part)) for part in parts]),
        rows=np.concatenate(parts),
        key=digest(*(key.encode() for key in keys)),
    )


def keep(path: Path, rows: NDArray[Any]) -> None:
    """Write an array, whole or not at all."""
    scratch = scratch_of(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with scratch.open("wb") as file:
            np.save(file, rows, allow_pickle=False)
        scratch.replace(path)
    except OSError as error:
        raise DataError(f"the index cannot be kept at {path}: {error}. FLA_DATA_HOME names another place") from error


def scratch_of(path: Path) -> Path:
    """Where this thread may write before the file is moved to its place."""
    return path.with_name(f"{path.name}.{os.getpid()}-{threading.get_ident()}.partial")


def digest(*parts: bytes) -> str:
    found = hashlib.blake2b(digest_size=16)
    for part in parts:
        found.update(len(part).to_bytes(8, "little") + part)
    return found.hexdigest()


def shown(description: str, total: int, *, large: bool) -> AbstractContextManager[Any]:
    """Progress, of work that takes a while."""
    return progress(description, total) if large else nullcontext(lambda **_: None)


def _key(shard: ShardFile, declared: bytes, *, verify: bool) -> str:
    try:
        about = os.stat(shard.path)
        state = f"{about.st_size} {about.st_mtime_ns}"
    except FileNotFoundError:
        state = "missing"
    text = f"{shard.path.resolve()} {shard.episodes} {state} {verify}"
    return digest(_FORMAT, declared, text.encode())


# --- One shard --------------------------------------------------------------------------------------------------------


def _read_shard(file: ShardFile, schema: Schema, *, verify: bool) -> NDArray[Any]:
    found: list[NDArray[Any]] = []
    damage = ""
    if not file.path.exists():
        damage = f"missing file {file.path}; copy or download it again"
    else:
        shard = Shard(file.path)
        window = Window(shard)
        try:
            for record in shard.records():
                found.append(_read_record(window, record, schema, number=len(found), verify=verify))
        except DataError as error:
            damage = str(error)
    if file.episodes is not None and len(found) > file.episodes:
        raise DataError(
            f"{file.path} holds {len(found)} episodes, but dataset_info.json gives it {file.episodes}; "
            "they are from different copies: copy the dataset again"
        )
    lost = 0 if file.episodes is None else file.episodes - len(found)
    if lost and not damage:
        damage = f"{file.path} ends after {len(found)} of {file.episodes} episodes; copy or download it again"
    found += [_damaged(schema, damage)] * (lost or bool(damage))
    return np.stack(found) if found else np.empty(0, row_type(schema))


def _damaged(schema: Schema, damage: str) -> NDArray[Any]:
    row = np.zeros((), row_type(schema))
    row["damage"], row["steps"] = damage.encode(), 1
    return row


def _read_record(window: Window, record: Record, schema: Schema, *, number: int, verify: bool) -> NDArray[Any]:
    row = _damaged(schema, "")
    row["start"], row["size"], row["crc"] = record.start, record.size, record.crc
    where = f"{window.shard.path}, record {number}"
    if verify and not window.shard.is_intact(record):
        row["damage"] = f"{where}: the data fails its checksum; copy or download the file again".encode()
        return row
    try:
        regions = features(window, record)
        counts: dict[str, int] = {}
        for place, leaf in enumerate(schema.leaves):
            region = regions.get(leaf.key)
            of_step = place < len(schema.steps)
            if region is None:
                if of_step:
                    raise DataError(f"it has no {leaf.key!r}, which {FEATURES} declares")
                continue
            if region.kind != leaf.kind:
                raise DataError(f"{leaf.key!r} holds {region.kind}, {FEATURES} declares {leaf.kind}")
            row["regions"][place] = region.start, region.end
            if of_step and _is_cheap(leaf):
                counts[leaf.key] = _count(leaf, region)
        if not counts:
            leaf = schema.steps[0]
            counts[leaf.key] = _count_elements(window, leaf, regions[leaf.key])
        row["steps"] = _agreed(counts)
    except DataError as error:
        row["damage"] = f"{where} is damaged: {error}".encode()
    return row


def _is_cheap(leaf: Leaf) -> bool:
    """Whether the bytes say how many steps there are, without being read: a truth value is one byte, a float four."""
    return leaf.kind == "floats" or (leaf.kind == "integers" and leaf.dtype == "bool")


def _count(leaf: Leaf, region: Region) -> int:
    width = leaf.width * (4 if leaf.kind == "floats" else 1)
    count, rest = divmod(region.end - region.start, width)
    if rest:
        raise DataError(f"{leaf.key!r} has {region.end - region.start} bytes, which is no multiple of {width}")
    return count


def _count_elements(window: Window, leaf: Leaf, region: Region) -> int:
    if leaf.kind == "bytes":
        return len(boundaries(window, region)) - 1
    return len(integers(window.shard.read(region.start, region.end - region.start))) // leaf.width


def _agreed(counts: dict[str, int]) -> int:
    (first, steps), *_ = counts.items()
    for key, count in counts.items():
        if count != steps:
            raise DataError(f"{key!r} has {count} steps, {first!r} has {steps}")
    if not steps:
        raise DataError("it has no steps")
    return steps
