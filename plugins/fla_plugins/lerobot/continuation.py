"""`Progress`: how far a dataset has been written; and taking up one that was closed, or killed, before."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from fla_plugins.lerobot.commit import Commits
from fla_plugins.lerobot.episodes import read_tasks
from fla_plugins.lerobot.layout import BOOKKEEPING, EPISODES, INFO, STATS, read_layout
from fla_plugins.lerobot.reader import LeRobotDataset
from fla_plugins.lerobot.stats import ColorCounts, sampled_colors
from fla_plugins.lerobot.video_writer import codec_of
from fla_sdk.data.dataset import Feature
from fla_sdk.errors import DataError


@attrs.define(kw_only=True)
class Progress:
    """What is committed, and the numbers of the files that come next."""

    features: Mapping[str, Feature]
    """The columns to give; cameras have shape `()` before the first frame."""

    info: dict[str, Any] | None = None
    """`meta/info.json`; None before the first commit."""

    codecs: Mapping[str, str] = attrs.field(factory=dict[str, str])
    episodes: int = 0
    rows: int = 0
    tasks: dict[str, int] = attrs.field(factory=dict[str, int])
    next_data: int = 0
    next_video: dict[str, int] = attrs.field(factory=dict[str, int])
    next_table: int = 0
    table: Any = None
    """The rows of the newest episode table; None when it is full."""

    table_schema: Any = None
    """Of the episode tables, where there are some of another program."""

    vectors: dict[str, list[NDArray[Any]]] = attrs.field(factory=dict[str, list[NDArray[Any]]])
    colors: dict[str, ColorCounts] = attrs.field(factory=dict[str, ColorCounts])
    rows_in_stats: int = 0


def is_unbegun(path: Path, *, leftovers: bool) -> bool:
    """Whether the folder is empty; or holds only what a kill before the first commit leaves, where that is allowed."""
    allowed = {"data", "meta", "videos"} if leftovers else set[str]()
    return all(entry.name in allowed for entry in path.iterdir())


def resume(path: Path, features: Mapping[str, Feature], *, robot: str, fps: float, commits: Commits) -> Progress:
    """Take up the dataset at `path`; what a kill left behind is dropped from its tables.

    Raises `DataError`, with both sides, when it has other columns, another robot or rate, or is damaged.
    """
    info = json.loads((path / INFO).read_text(encoding="utf-8"))
    layout = read_layout(path)
    if not str(info["codebase_version"]).startswith("v3."):
        raise DataError(f"cannot append to {path}: it is LeRobot {info['codebase_version']}, not v3; convert it first")
    _agree(path, {name: f for name, f in layout.features.items() if name not in BOOKKEEPING}, features)
    for what, theirs, ours in (("robot", layout.robot, robot), ("fps", layout.fps, fps)):
        if theirs != ours:
            raise DataError(f"cannot append to {path}: its {what} is {theirs!r}, but {ours!r} is to be recorded")
    dataset = LeRobotDataset(path)
    if dataset.damaged:
        raise DataError(f"cannot append to {path}: {len(dataset.damaged)} episodes are damaged; repair it first")
    tables = _committed_tables(path, layout.episodes, commits)
    places = pa.concat_tables([table.select(_places(table)) for table in tables])
    size = int(info.get("chunks_size", 1000))

    def following(prefix: str) -> int:
        chunks, files = places[f"{prefix}/chunk_index"].to_pylist(), places[f"{prefix}/file_index"].to_pylist()
        return 1 + max(chunk * size + file for chunk, file in zip(chunks, files, strict=True))

    own = [name for name in layout.features if name not in BOOKKEEPING]
    cameras = [name for name in own if layout.features[name].is_camera]
    return Progress(
        features={name: layout.features[name] for name in own},
        info=info,
        codecs={name: codec_of(info["features"][name]) for name in layout.videos},
        episodes=layout.episodes,
        rows=layout.rows,
        tasks=_tasks(path, read_tasks(layout)),
        next_data=following("data"),
        next_video={name: following(f"videos/{name}") for name in layout.videos},
        next_table=1 + max(_number(file, size) for file in (path / EPISODES).glob("*/*.parquet")),
        table_schema=tables[-1].schema,
        vectors={name: [dataset.column(name)] for name in own if name not in cameras},
        colors={name: sampled_colors(dataset, name) for name in cameras},
        rows_in_stats=layout.rows if (path / STATS).is_file() else 0,
    )


def _agree(path: Path, theirs: Mapping[str, Feature], ours: Mapping[str, Feature]) -> None:
    wrong: list[str] = []
    for name in sorted({*theirs, *ours}):
        one, other = theirs.get(name), ours.get(name)
        if one is None or other is None or _differ(one, other):
            wrong.append(f"\n  {name}: {_shown(one)} there, {_shown(other)} here")
    if wrong:
        raise DataError(f"cannot append to {path}, whose columns are not those to record:{''.join(wrong)}")


def _differ(one: Feature, other: Feature) -> bool:
    if one.dtype != other.dtype or other.shape not in ((), one.shape):
        return True
    return not one.is_camera and None not in (one.names, other.names) and one.names != other.names


def _shown(feature: Feature | None) -> str:
    if feature is None:
        return "absent"
    shape = f" {list(feature.shape)}" if feature.shape else ""
    names = f" ({', '.join(feature.names)})" if feature.names and not feature.is_camera else ""
    return f"{feature.dtype}{shape}{names}"


def _committed_tables(path: Path, episodes: int, commits: Commits) -> list[Any]:
    """The episode tables, after removing rows of episodes that were never committed: their numbers come again."""
    tables: list[Any] = []
    for file in sorted((path / EPISODES).glob("*/*.parquet")):
        table = pq.read_table(file)
        kept = table.filter(table["episode_index"].to_numpy() < episodes)
        if len(kept) < len(table):
            with commits.replacing(file) as temporary:
                pq.write_table(kept, temporary, use_dictionary=False, write_statistics=False)
        if len(kept):
            tables.append(kept)
    return tables


def _places(table: Any) -> list[str]:
    return [name for name in table.column_names if name.endswith(("/chunk_index", "/file_index"))]


def _number(file: Path, size: int) -> int:
    return int(file.parent.name.removeprefix("chunk-")) * size + int(file.stem.removeprefix("file-"))


def _tasks(path: Path, tasks: Mapping[int, str]) -> dict[str, int]:
    if sorted(tasks) != list(range(len(tasks))) or len(set(tasks.values())) != len(tasks):
        raise DataError(f"cannot append to {path}: its tasks are numbered {sorted(tasks)}; repair it first")
    return {tasks[number]: number for number in range(len(tasks))}
