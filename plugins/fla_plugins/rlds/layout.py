"""The folder of a dataset: which version, which splits, which shards.

<name>/<version>/features.json
<name>/<version>/dataset_info.json                                splits and episodes per shard; may be missing
<name>/<version>/<prefix>-<split>.tfrecord-00000-of-00031         the prefix need not be the folder's name
"""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs

from fla_sdk.errors import DataError, UnknownNameError

FEATURES, INFO = "features.json", "dataset_info.json"

_SHARD = re.compile(r"(?P<prefix>.+)-(?P<split>[^-]+)\.tfrecord-(?P<number>\d{5,})-of-(?P<total>\d{5,})")
_VERSION = re.compile(r"\d+\.\d+\.\d+")


@attrs.frozen(kw_only=True)
class ShardFile:
    path: Path
    episodes: int | None
    """How many it should hold, where that is known."""


@attrs.frozen(kw_only=True)
class Layout:
    root: Path
    name: str
    split: str
    shards: tuple[ShardFile, ...]


def looks_like_rlds(path: Path) -> bool:
    """Whether this is the folder of a dataset, or of its versions. Reads names only."""
    return any(
        next(folder.glob("*.tfrecord-*"), None) is not None
        or ((folder / FEATURES).is_file() and (folder / INFO).is_file())
        for folder in (path, *_versions(path))
    )


def read_layout(path: Path, *, split: str, partial: bool) -> Layout:
    """The shards of one split, in order; those that are missing too, unless `partial`.

    `path` is the folder with the shards, or of the versions, of which the newest is taken. Raises `DataError`, and
    `UnknownNameError` for a split that is not there.
    """
    root = path
    if not (path / FEATURES).exists() and (versions := _versions(path)):
        root = versions[-1]
    found: dict[str, dict[int, Path]] = {}
    names: dict[str, set[tuple[str, int]]] = {}
    for file in sorted(root.glob("*.tfrecord-*")):
        if match := _SHARD.fullmatch(file.name):
            found.setdefault(match["split"], {})[int(match["number"])] = file
            names.setdefault(match["split"], set()).add((match["prefix"], int(match["total"])))
    info = _read_info(root)
    try:
        lengths = {
            s["name"]: [int(n) for n in s["shardLengths"]] for s in info.get("splits", ()) if "shardLengths" in s
        }
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"{root / INFO} is damaged ({error!r}); copy it again, or delete it") from error
    if not found:
        written = f" (they are {info['fileFormat']} files)" if info.get("fileFormat", "tfrecord") != "tfrecord" else ""
        raise DataError(f"there are no TFRecord shards in {root}{written}; give the folder that holds them")
    if split not in found:
        raise UnknownNameError(f"split of {root}", split, found)
    if len(names[split]) > 1:
        these = " and ".join(f"{prefix} in {total}" for prefix, total in sorted(names[split]))
        raise DataError(f"{root} holds the shards of several datasets ({these}); give each a folder of its own")
    ((prefix, total),) = names[split]
    expected = lengths.get(split)
    if expected is not None and len(expected) != total:
        raise DataError(
            f"{root}: {INFO} says that split {split!r} has {len(expected)} shards, the files' names say {total}; "
            "they are from different copies: copy the dataset again"
        )
    shards = tuple(
        ShardFile(
            path=root / f"{prefix}-{split}.tfrecord-{number:05d}-of-{total:05d}",
            episodes=None if expected is None else expected[number],
        )
        for number in range(total)
        if number in found[split] or not partial
    )
    return Layout(root=root, name=info.get("name") or prefix, split=split, shards=shards)


def _versions(path: Path) -> list[Path]:
    if not path.is_dir():
        return []
    folders = [folder for folder in path.iterdir() if _VERSION.fullmatch(folder.name) and folder.is_dir()]
    return sorted(folders, key=lambda folder: [int(part) for part in folder.name.split(".")])


def _read_info(root: Path) -> Mapping[str, Any]:
    path = root / INFO
    try:
        return json.loads(path.read_text())
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise DataError(f"{path} is damaged ({error}); copy it again, or delete it") from error
