"""`Damage`: what the files of a dataset show about their state before anything in them is read."""

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import attrs
import numpy as np

from fla_plugins.lerobot.episodes import EpisodeTable, Placement
from fla_plugins.lerobot.layout import Layout
from fla_plugins.lerobot.parquet import open_parquet
from fla_sdk.errors import DataError

MOST_FOOTERS = 1000
"""Data files whose footers are read when a dataset is opened, which takes about a millisecond each; of more files
damage is found when their columns are read.
"""


@attrs.frozen(kw_only=True)
class Damage:
    """Nothing in it stops the dataset from being opened."""

    episodes: Mapping[int, str]
    """Episodes that cannot be read, and why."""

    data: frozenset[int]
    """Data files that cannot be read, as indices into their placement."""


def find_damage(layout: Layout, episodes: EpisodeTable) -> Damage:
    """Lists folders and reads footers. Raises `DataError` when no episode is left."""
    found: dict[int, str] = {}
    broken: set[int] = set()
    for episode in np.flatnonzero(episodes.lengths == 0).tolist():
        found[episode] = "it has no frames"
    for file, reason in _broken_data(layout, episodes.data):
        broken.add(file)
        found |= dict.fromkeys(episodes.data.episodes(file).tolist(), reason)
    for camera in sorted({*layout.videos} - layout.depth):
        placement = episodes.videos[camera]
        names = [layout.video_name(camera, *file) for file in placement.files.tolist()]
        for file in _absent(layout.root, names):
            for episode in placement.episodes(file).tolist():
                found.setdefault(episode, f"missing file {layout.root / names[file]}")
    if len(found) == layout.episodes:
        episode, reason = min(found.items())
        raise DataError(
            f"{layout.root}: all {layout.episodes} episodes are damaged, the first because of: {reason};"
            " the dataset is incomplete: copy or download it again"
        )
    return Damage(episodes=found, data=frozenset(broken))


def _broken_data(layout: Layout, placement: Placement) -> Iterator[tuple[int, str]]:
    names = [layout.data_name(*file) for file in placement.files.tolist()]
    absent = set(_absent(layout.root, names))
    looked_into = range(len(names)) if len(names) <= MOST_FOOTERS else absent
    for file in looked_into:
        path = layout.root / names[file]
        if file in absent:
            yield file, f"missing file {path}"
        else:
            try:
                rows = open_parquet(path).metadata.num_rows
            except DataError as error:
                yield file, str(error)
                continue
            if rows != placement.rows[file]:
                yield file, wrong_rows(path, rows, int(placement.rows[file]))


def wrong_rows(path: Path, rows: int, expected: int) -> str:
    return (
        f"{path} holds {rows} rows, but the episode table gives its episodes {expected}; the files are from different"
        " copies or the recording was cut short: copy the dataset again"
    )


def _absent(root: Path, names: Sequence[str]) -> list[int]:
    """Which files are not there. Lists each folder once, as asking for each file takes long where there are many."""
    listings: dict[str, frozenset[str]] = {}
    absent: list[int] = []
    for number, path in enumerate(names):
        folder, _, name = path.rpartition("/")
        if folder not in listings:
            listings[folder] = _listing(root / folder)
        if name not in listings[folder]:
            absent.append(number)
    return absent


def _listing(folder: Path) -> frozenset[str]:
    try:
        with os.scandir(folder) as entries:
            return frozenset(entry.name for entry in entries)
    except (FileNotFoundError, NotADirectoryError):
        return frozenset()
