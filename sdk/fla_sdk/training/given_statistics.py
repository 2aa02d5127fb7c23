"""Statistics that a run is given, such as those that a model was pre-trained with, instead of those of its data."""

from collections.abc import Iterator
from pathlib import Path

import attrs

from fla_sdk.data.partial_stats import PartialStats, Row
from fla_sdk.embodiment import Embodiment
from fla_sdk.errors import ConfigError, StatsError, UnknownNameError
from fla_sdk.normalization import Floats, NormStats, Stats, fingerprint
from fla_sdk.policy import checkpoint
from fla_sdk.policy.fetch import fetch, is_remote
from fla_sdk.space import RESOLUTION

FILE = "norm_stats.json"
FAR = 2.0
"""Data that reach so many times as far from the middle of given statistics as these do are told."""


def load(place: str, embodiment: Embodiment, *, normalization: str) -> NormStats:
    """Statistics at `PLACE[#NAME]`: a `norm_stats.json`, a folder of such, or a checkpoint of ours or of openpi.

    `PLACE` may be a `gs://` or `hf://` URI, of which only `assets` is fetched. Without `NAME` they are those of
    `embodiment`, or the only ones. Raises `StatsError` when they do not fit the robot, with both sides.
    """
    stats = NormStats.load(_file(place, embodiment.name))
    for kind, one, space in (("state", stats.state, embodiment.state), ("actions", stats.actions, embodiment.action)):
        if one.width < space.width:
            raise StatsError(
                f"{place}: statistics of {kind} have {one.width} dimensions, embodiment {embodiment.name!r} has "
                f"{space.width} ({', '.join(space.names)}); they are of another robot"
            )
        if normalization == "quantile" and (one.q01 is None or one.q99 is None):
            raise StatsError(
                f"{place}: statistics of {kind} have no percentiles, which this model normalizes by; "
                "give others, or leave them out to use those of the data"
            )
    return attrs.evolve(stats, method=f"taken from {place}")


def bound(stats: NormStats, found: PartialStats) -> NormStats:
    """With a fingerprint of the statistics and of the data that are trained on, so that a changed run is noticed."""
    return attrs.evolve(stats, fingerprint=fingerprint({"given": stats.to_json(), "data": found.fingerprint}))


def disagreements(stats: NormStats, found: PartialStats) -> list[str]:
    """Dimensions whose data lie far outside of given statistics: other units, or another meaning."""
    return [
        f"{row.kind} {row.name!r} is {row.q01:.3g} to {row.q99:.3g} {row.unit} in the data, "
        f"{low:.3g} to {high:.3g} there"
        for row, low, high in _compared(stats, found)
        if _reach(row, low, high) > FAR
    ]


def _compared(stats: NormStats, found: PartialStats) -> Iterator[tuple[Row, float, float]]:
    """Every dimension of the data, with the range that the statistics give it."""
    rows = found.rows()
    for one, width in ((stats.state, len(found.state)), (stats.actions, len(found.actions))):
        low, high = _range(one)
        yield from ((next(rows), float(low[i]), float(high[i])) for i in range(width))


def _range(stats: Stats) -> tuple[Floats, Floats]:
    if stats.q01 is not None and stats.q99 is not None:
        return stats.q01, stats.q99
    return stats.mean - 2.33 * stats.std, stats.mean + 2.33 * stats.std  # the same share of a normal distribution


def _reach(row: Row, low: float, high: float) -> float:
    half = max(high - low, RESOLUTION[row.unit]) / 2
    return max(abs(row.q01 - (low + high) / 2), abs(row.q99 - (low + high) / 2)) / half


def _file(place: str, embodiment: str) -> Path:
    uri, _, name = place.partition("#")
    if is_remote(uri) and not uri.endswith(".json") and "assets" not in uri.split("/"):
        uri = f"{uri.rstrip('/')}/assets"  # the parameters beside it may be 12 GB
    path = fetch(uri)
    if path.is_file():
        return path
    if checkpoint.is_checkpoint(path):
        path = checkpoint.find(path)
    root = path / "assets" if (path / "assets").is_dir() else path
    names = sorted(str(file.parent.relative_to(root)) for file in root.rglob(FILE))
    if not names:
        raise StatsError(f"{place}: there is no {FILE} in {root}")
    if not name:
        if embodiment not in names and len(names) > 1:
            raise ConfigError(f"{place}: which statistics are those of {embodiment!r}? add #NAME ({', '.join(names)})")
        name = embodiment if embodiment in names else names[0]
    if name not in names:
        raise UnknownNameError(f"statistics in {root}", name, names)
    return root / name / FILE
