"""`RldsDataset`: a folder of TFRecord shards as the SDK's `Dataset`."""

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import attrs
import numpy as np
from numpy.typing import NDArray

from fla_plugins.rlds.columns import Columns
from fla_plugins.rlds.frames import Frames
from fla_plugins.rlds.index import Index, build_index, digest
from fla_plugins.rlds.known import LANGUAGE, droid_actions, rate
from fla_plugins.rlds.layout import FEATURES, Layout, read_layout
from fla_plugins.rlds.options import Options
from fla_plugins.rlds.ranges import name_leaves, read_ranges, starts
from fla_plugins.rlds.schema import Leaf, Schema, read_schema
from fla_sdk.data.dataset import Feature
from fla_sdk.errors import DataError, EpisodeError, UnknownNameError
from fla_sdk.home import data_home


class RldsDataset:
    """Reads one split of a local RLDS dataset at random, without TensorFlow.

    The first opening reads the heads of all records (`index.py`), and a column is gathered when it is first asked for;
    both are kept in the data home. A frame is one read and one decoding. Nothing is fetched but a file of ranges,
    and nothing is created beside the dataset. Raises `DataError` when nothing of it can be read.
    """

    def __init__(self, path: Path, options: Options | None = None) -> None:
        options = options or Options()
        layout = read_layout(path, split=options.split, partial=options.partial)
        schema = read_schema(layout.root / FEATURES)
        self._leaves = {leaf.name: leaf for leaf in schema.steps}
        fps = options.fps or rate(layout.name, self._leaves)
        if fps is None:
            raise DataError(f"{path}: RLDS does not record how many steps a second has; say it: rlds://{path}?fps=10")
        ranges = None if options.ranges is None else read_ranges(options.ranges)
        named = [] if ranges is None else name_leaves(schema, layout.root)
        home = data_home()
        index = build_index(layout, schema, home=home, verify=options.verify)
        damage = index.damage
        if damage.all():
            reason = next(map(str, damage), "there are no episodes")
            raise DataError(f"nothing of {layout.root} can be read: {reason}")

        chosen = _matching(layout, schema, index, options, home)
        key = digest(index.key.encode(), np.ascontiguousarray(chosen).data.tobytes())
        ends = np.cumsum(index.steps[chosen])
        self.path = path
        self.fps: float = fps
        self.episode_bounds: NDArray[np.int64] = np.stack([ends - index.steps[chosen], ends], axis=1)
        self.damaged: Mapping[int, str] = {
            episode: str(damage[chosen[episode]]) for episode in np.flatnonzero(damage[chosen] != "").tolist()
        }
        self._unsupported = schema.unsupported
        self._index, self._chosen = index, chosen
        self._columns = Columns(index, schema, chosen, folder=home / "rlds" / "columns" / key)
        self._frames = Frames(index, schema)
        self._actions = droid_actions(self._leaves)
        self._language, self._in_turn = _language(self._leaves), options.language == "all"
        self.starts = None if ranges is None else starts(ranges, self._columns, named, self.episode_bounds)
        """Rows that samples may begin at; None for all."""
        self.features: Mapping[str, Feature] = self._features()
        self._checksums = index.rows["crc"][chosen].tobytes()
        self.fingerprint: str = _fingerprint(self, self._checksums, options)

    def __len__(self) -> int:
        return int(self.episode_bounds[-1, 1])

    def column(self, name: str) -> NDArray[Any]:
        """`[N, *shape]`, mapped from disk; texts as objects in memory. Raises `DataError` for cameras and others."""
        if name in self._actions:
            return self._columns.numbers(name, self._actions[name])
        leaf = self._leaves.get(name)
        if leaf is None:
            if name in self._unsupported:
                raise DataError(f"{self.path}: {name!r} cannot be read: {self._unsupported[name]}")
            raise UnknownNameError(f"column of {self.path}", name, (*self._actions, *self._leaves))
        if leaf.holds == "image":
            raise DataError(f"{self.path}: {name!r} is a camera, not a column of numbers; use frame({name!r}, row)")
        if leaf.holds == "text":
            return self._columns.spoken(leaf)
        return self._columns.numbers(name, (leaf,))

    def frame(self, name: str, row: int) -> NDArray[np.uint8]:
        """RGB `[H, W, 3]`."""
        leaf = self._leaves.get(name)
        if leaf is None or leaf.holds != "image":
            cameras = [leaf.name for leaf in self._leaves.values() if leaf.holds == "image"]
            raise UnknownNameError(f"camera of {self.path}", name, cameras)
        if not leaf.is_colour:
            raise DataError(
                f"{self.path}: {name!r} is of {leaf.dtype} {list(leaf.shape)}, such as depth, and cannot be read as "
                "colour; leave it out"
            )
        if not 0 <= row < len(self):
            raise IndexError(f"row {row} of {self.path}, which has rows 0 to {len(self) - 1}")
        episode = int(np.searchsorted(self.episode_bounds[:, 1], row, side="right"))
        if episode in self.damaged:
            raise EpisodeError(self.damaged[episode], episode=episode)
        try:
            return self._frames.frame(leaf, int(self._chosen[episode]), row - int(self.episode_bounds[episode, 0]))
        except DataError as error:
            raise EpisodeError(f"{error} (episode {episode}, row {row})", episode=episode) from error

    def frames_fingerprint(self, name: str) -> str:
        """Over the checksums that the records carry, and how many rows each has."""
        return digest(name.encode(), self._checksums, self.episode_bounds.tobytes())

    def task(self, row: int) -> str:
        """The instruction of this row; empty when there is none."""
        found = (texts[int(numbers[row])] for numbers, texts in map(self._columns.texts, self._language))
        spoken = [text for text in found if text]
        if not spoken:
            return ""
        return spoken[row % len(spoken)] if self._in_turn else spoken[0]

    def _features(self) -> dict[str, Feature]:
        found = {name: leaf.feature for name, leaf in self._leaves.items()}
        for name, leaves in self._actions.items():
            found[name] = Feature(dtype="float32", shape=(sum(leaf.width for leaf in leaves),))
        whole = next(row for e, (row, _) in enumerate(self.episode_bounds.tolist()) if e not in self.damaged)
        for leaf in self._leaves.values():
            if leaf.is_colour and -1 in leaf.shape:
                with suppress(EpisodeError):  # it says so when that frame is asked for
                    found[leaf.name] = attrs.evolve(found[leaf.name], shape=self.frame(leaf.name, whole).shape)
        return found


def _language(leaves: Mapping[str, Leaf]) -> list[Leaf]:
    """The features that hold instructions, by preference."""
    found = [leaf for leaf in leaves.values() if leaf.holds == "text" and leaf.name.rsplit("/", 1)[-1] in LANGUAGE]
    return sorted(found, key=lambda leaf: LANGUAGE.index(leaf.name.rsplit("/", 1)[-1]))


def _matching(layout: Layout, schema: Schema, index: Index, options: Options, home: Path) -> NDArray[np.int64]:
    """Episodes of the index that `options.match` leaves; the damaged ones too, since nobody knows what they say."""
    everything = np.arange(len(index.rows))
    if options.match is None:
        return everything
    texts = [leaf for leaf in schema.episode if leaf.holds == "text"]
    columns = Columns(index, schema, everything, folder=home)
    spoken = [columns.of_episodes(leaf) for leaf in texts]
    kept = np.array([any(options.match in texts_of[e] for texts_of in spoken) for e in everything], np.bool_)
    if not kept.any():
        example = next((text for texts_of in spoken for text in texts_of if text), "no texts")
        raise DataError(f"{layout.root}: no episode's metadata contains {options.match!r}; the first has {example!r}")
    return np.flatnonzero(kept | (index.damage != ""))


def _fingerprint(dataset: RldsDataset, checksums: bytes, options: Options) -> str:
    """Over the checksums that the records carry: they change with every number, text and image of an episode."""
    declared = {name: (f.dtype, f.shape) for name, f in dataset.features.items()}
    starts = b"" if dataset.starts is None else dataset.starts.tobytes()
    about = repr((sorted(declared.items()), options.language)).encode()
    return digest(about, checksums, dataset.episode_bounds.tobytes(), starts)
