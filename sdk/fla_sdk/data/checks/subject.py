"""`Subject`: what the checks look at: states and actions in blocks of whole episodes, with their meaning."""

from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import Any

import attrs
import numpy as np
from numpy.typing import NDArray

from fla_sdk.data.checks.block import STILL, Block, Bools, Dimension, Floats, Span
from fla_sdk.data.dataset import Dataset
from fla_sdk.embodiment import Embodiment
from fla_sdk.errors import DataError
from fla_sdk.space import Space, default_aliases

BLOCK_ROWS = 1 << 16
SAMPLE_ROWS = 50_000


class Subject:
    """A dataset, and its embodiment if that is known.

    Raises `DataError` when the embodiment's state or action is missing or has another width.
    """

    def __init__(self, dataset: Dataset, embodiment: Embodiment | None = None) -> None:
        self.dataset, self.embodiment = dataset, embodiment
        spaces = (embodiment.state, embodiment.action) if embodiment else (None, None)
        self.state = self._dimensions("state", spaces[0])
        self.action = self._dimensions("action", spaces[1])
        self.dimensions = {"state": self.state, "action": self.action}
        self.bounds = dataset.episode_bounds
        self.readable = [e for e in range(len(self.bounds)) if e not in dataset.damaged]
        """Episodes that have numbers."""

    @cached_property
    def unsound(self) -> Mapping[tuple[str, str], tuple[int, int, int]]:
        """`(state or action, dimension)` -> how many of its numbers are not finite, and the first one's episode and
        frame.
        """
        return self._soundness[0]

    @cached_property
    def sound(self) -> tuple[int, ...]:
        """Readable episodes whose states and actions are all finite: those that every other check looks at."""
        return self._soundness[1]

    @cached_property
    def pairs(self) -> tuple[tuple[Dimension, Dimension], ...]:
        """Action and state dimensions that are one joint: of the same name, or of the same place if none has one."""
        if not any(d.name in {s.name for s in self.state} for d in self.action) and len(self.state) == len(self.action):
            return tuple(zip(self.action, self.state, strict=True)) if self.embodiment is None else ()
        states = {dimension.name: dimension for dimension in self.state}
        return tuple((d, states[d.name]) for d in self.action if d.name in states)

    @cached_property
    def sample(self) -> Block:
        """About `SAMPLE_ROWS` rows of sound episodes, spread evenly over the dataset; all of them if there are fewer.

        Every episode that is in it is whole.
        """
        lengths = np.diff(self.bounds, axis=1)[list(self.sound), 0]
        share = min(1.0, SAMPLE_ROWS / max(int(lengths.sum()), 1))
        chosen = np.flatnonzero(np.diff(np.floor(np.arange(len(self.sound) + 1) * share + 1e-9)))
        blocks = list(self._read([self.sound[int(i)] for i in chosen]))
        return Block(
            **{f.name: np.concatenate([getattr(b, f.name) for b in blocks]) for f in attrs.fields(Block)}
            if blocks
            else _nothing(len(self.state), len(self.action))
        )

    @cached_property
    def ranges(self) -> Floats:
        """`[S]`: how far each state dimension moves, between its 1st and 99th percentile; at least `STILL`."""
        states = self.sample.state
        low, high = np.quantile(states, [0.01, 0.99], axis=0) if len(states) else np.zeros((2, len(self.state)))
        return np.maximum(high - low, STILL)

    @cached_property
    def spans(self) -> tuple[Span, ...]:
        """Of states, then actions: extremes of all sound rows, quantiles of the sample. Empty without sound rows."""
        return tuple(span for kind in self.dimensions for span in self._spans(kind)) if self.sound else ()

    def blocks(self) -> Iterator[Block]:
        """All sound episodes, `BLOCK_ROWS` rows or one episode at a time."""
        return self._read(self.sound)

    def block(self, episode: int) -> Block:
        """One episode."""
        return next(iter(self._read([episode])))

    def key(self, kind: str) -> str | None:
        """The column that holds whole states or actions under a usual name."""
        features = self.dataset.features
        return next((k for k in default_aliases(kind) if k in features and len(features[k].shape) == 1), None)

    def place(self, row: int) -> tuple[int, int]:
        """Episode and frame of a row of the dataset."""
        episode = int(np.searchsorted(self.bounds[:, 1], row, side="right"))
        return episode, row - int(self.bounds[episode, 0])

    @cached_property
    def _soundness(self) -> tuple[dict[tuple[str, str], tuple[int, int, int]], tuple[int, ...]]:
        found: dict[tuple[str, str], tuple[int, int, int]] = {}
        spoilt: set[int] = set()
        for block in self._read(self.readable):
            for kind, dimensions in self.dimensions.items():
                bad: Bools = ~np.isfinite(getattr(block, kind))
                for dimension in dimensions:
                    if len(rows := np.flatnonzero(bad[:, dimension.index])):
                        first = int(block.episode[rows[0]]), int(block.frame[rows[0]])
                        count, *place = found.get((kind, dimension.name), (0, *first))
                        found[kind, dimension.name] = (count + len(rows), place[0], place[1])
                        spoilt |= {int(e) for e in np.unique(block.episode[rows])}
        return found, tuple(e for e in self.readable if e not in spoilt)

    def _spans(self, kind: str) -> Iterator[Span]:
        dimensions = self.dimensions[kind]
        width = len(dimensions)
        low, high = np.full(width, np.inf), np.full(width, -np.inf)
        places = np.zeros((2, width, 2), np.int64)
        for block in self.blocks():
            values: Floats = getattr(block, kind)
            for side, (extreme, better, at) in enumerate(
                ((low, np.less, values.argmin(axis=0)), (high, np.greater, values.argmax(axis=0)))
            ):
                new = values[at, np.arange(width)]
                improved = better(new, extreme)
                extreme[improved] = new[improved]
                places[side, improved] = np.stack([block.episode[at], block.frame[at]], axis=1)[improved]
        q01, q99 = np.quantile(getattr(self.sample, kind), [0.01, 0.99], axis=0)
        for d in dimensions:
            i = d.index
            yield Span(
                kind=kind,
                dimension=d,
                low=float(low[i]),
                high=float(high[i]),
                q01=float(q01[i]),
                q99=float(q99[i]),
                lowest=(int(places[0, i, 0]), int(places[0, i, 1])),
                highest=(int(places[1, i, 0]), int(places[1, i, 1])),
            )

    def _dimensions(self, kind: str, space: Space | None) -> tuple[Dimension, ...]:
        if space is None:
            if (key := self.key(kind)) is None:
                return ()
            width, names = self.dataset.features[key].shape[0], self.dataset.features[key].names or ()
            names = names if len(names) == width else tuple(f"{kind} {i}" for i in range(width))
            return tuple(Dimension(index=i, name=name) for i, name in enumerate(names))
        width = self._gather(kind, 0, 1).shape[1]
        if width != space.width:
            assert self.embodiment is not None
            raise DataError(
                f"dataset {self.dataset.path} does not fit embodiment {self.embodiment.name!r}: the {kind} has {width} "
                f"dimensions in the dataset, {space.width} in the embodiment ({', '.join(space.names)})"
            )
        fields = [field for field in space for _ in field.names]
        return tuple(
            Dimension(index=i, name=name, field=field)
            for i, (name, field) in enumerate(zip(space.names, fields, strict=True))
        )

    def _gather(self, kind: str, start: int, end: int) -> Floats:
        rows = _Rows(self.dataset, start, end)
        if self.embodiment is None:
            key = self.key(kind)
            return np.zeros((end - start, 0)) if key is None else np.asarray(rows[key], np.float64)
        space = self.embodiment.state if kind == "state" else self.embodiment.action
        vectors = space.gather(rows, kind)
        if vectors is None:
            raise DataError(
                f"dataset {self.dataset.path} does not fit embodiment {self.embodiment.name!r}: it has no {kind}; "
                f"expected {space.keys(kind)}, the dataset has {', '.join(rows) or 'no columns'}"
            )
        return np.asarray(vectors, np.float64)

    def _read(self, episodes: "list[int] | tuple[int, ...]") -> Iterator[Block]:
        """Neighbouring episodes together, up to `BLOCK_ROWS` rows."""
        begin = 0
        for i, episode in enumerate(episodes):
            following = episodes[i + 1] if i + 1 < len(episodes) else -1
            rows = int(self.bounds[episode, 1] - self.bounds[episodes[begin], 0])
            if following != episode + 1 or rows + int(np.diff(self.bounds[following])[0]) > BLOCK_ROWS:
                yield self._block(episodes[begin], episode)
                begin = i + 1

    def _block(self, first: int, last: int) -> Block:
        bounds = self.bounds[first : last + 1]
        start, end = int(bounds[0, 0]), int(bounds[-1, 1])
        lengths = bounds[:, 1] - bounds[:, 0]
        return Block(
            state=self._gather("state", start, end),
            action=self._gather("action", start, end),
            episode=np.repeat(np.arange(first, last + 1), lengths),
            frame=np.arange(start, end) - np.repeat(bounds[:, 0], lengths),
        )


def _nothing(state: int, action: int) -> dict[str, Any]:
    none = np.zeros(0, np.int64)
    return {"state": np.zeros((0, state)), "action": np.zeros((0, action)), "episode": none, "frame": none}


class _Rows(Mapping[str, Any]):
    """A dataset's columns of numbers as a mapping that reads some rows on demand."""

    def __init__(self, dataset: Dataset, start: int, end: int) -> None:
        self._dataset, self._rows = dataset, slice(start, end)
        self._names = [name for name, feature in dataset.features.items() if not feature.is_camera]

    def __getitem__(self, name: str) -> NDArray[Any]:
        return self._dataset.column(name)[self._rows]

    def __contains__(self, name: object) -> bool:
        return name in self._names

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)
