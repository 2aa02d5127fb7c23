"""`Layout`: what `meta/info.json` says about a LeRobot v2 or v3 folder, checked, and the paths that follow from it."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import attrs
import numpy as np

from fla_sdk.data.dataset import Feature
from fla_sdk.errors import DataError

INFO = Path("meta/info.json")
STATS = Path("meta/stats.json")
TASKS = Path("meta/tasks.parquet")
EPISODES = Path("meta/episodes")
DATA_TEMPLATE = "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
EPISODES_LINES = Path("meta/episodes.jsonl")
TASKS_LINES = Path("meta/tasks.jsonl")
"""v2 keeps as lines of JSON what v3 keeps in Parquet."""

VIDEO_TEMPLATE = "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4"
EPISODES_TEMPLATE = "meta/episodes/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"

BOOKKEEPING = {
    "timestamp": "float32",
    "frame_index": "int64",
    "episode_index": "int64",
    "index": "int64",
    "task_index": "int64",
}
"""Columns that every dataset has besides the robot's own, with their dtypes; each is one number per row."""


@attrs.frozen(kw_only=True)
class Layout:
    """A LeRobot folder as its `meta/info.json` describes it."""

    root: Path
    version: str
    """`2.1` or `3.0`. Up to 2.1 each episode has its own files, and tables are lines of JSON."""

    fps: float
    robot: str | None
    features: Mapping[str, Feature]
    """Every column; camera shapes are `[H, W, C]`, whichever way round the file states them."""

    depth: frozenset[str]
    """Cameras that hold depth instead of colour."""

    episodes: int
    rows: int
    chunk_size: int
    """Files per chunk."""

    data_template: str
    video_template: str | None

    @property
    def file_per_episode(self) -> bool:
        return self.version.startswith("2.")

    @property
    def videos(self) -> tuple[str, ...]:
        return tuple(name for name, feature in self.features.items() if feature.dtype == "video")

    @property
    def images(self) -> tuple[str, ...]:
        return tuple(name for name, feature in self.features.items() if feature.dtype == "image")

    def data_name(self, chunk: int, file: int) -> str:
        """A data file, below `root`. `file` counts the files of a chunk; in v2 it is the number of the episode."""
        return _fill(self.data_template, chunk, file)

    def video_name(self, name: str, chunk: int, file: int) -> str:
        """The mp4 of a camera, below `root`."""
        assert self.video_template is not None  # checked by read_layout
        return _fill(self.video_template, chunk, file, name)

    def data_file(self, chunk: int, file: int) -> Path:
        return self.root / self.data_name(chunk, file)

    def video_file(self, name: str, chunk: int, file: int) -> Path:
        return self.root / self.video_name(name, chunk, file)


def _fill(template: str, chunk: int, file: int, camera: str = "") -> str:
    """The names of v3 and those of v2."""
    return template.format(
        chunk_index=chunk, file_index=file, video_key=camera, episode_chunk=chunk, episode_index=file
    )


def looks_like_lerobot(root: Path) -> bool:
    """Whether `root` is a LeRobot dataset of any version: it has a `meta/info.json` that names one."""
    try:
        return "codebase_version" in json.loads((root / INFO).read_text(encoding="utf-8"))
    except (OSError, ValueError, TypeError):
        return False


def read_layout(root: Path) -> Layout:
    """Read and check `meta/info.json`. Never creates anything. Raises `DataError` naming the file and the entry."""
    return layout_of(root, read_info(root))


def read_info(root: Path) -> dict[str, Any]:
    """`meta/info.json` as it is. Raises `DataError` when it is not there, or no JSON object."""
    path = root / INFO
    if not root.is_dir():
        raise DataError(f"no dataset folder at {root}; give the folder that holds meta/info.json")
    if not path.is_file():
        raise DataError(
            f"{root} has no {INFO}, so it is not a LeRobot dataset; give the folder that holds it"
            " (a recording that was stopped before its first saved episode has none: record again)"
        )
    try:
        info = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise DataError(
            f"{path} is not valid JSON ({error}); copy it again from where the dataset came from"
        ) from error
    if not isinstance(info, dict):
        raise DataError(f"{path} holds a {type(info).__name__} instead of an object; copy it again")
    return cast(dict[str, Any], info)


def layout_of(root: Path, info: Mapping[str, Any]) -> Layout:
    """What `info` says about the folder `root`, checked."""
    path = root / INFO
    version = _version(path, info)
    fps = _entry(path, info, "fps", (int, float))
    if not (np.isfinite(fps) and fps > 0):
        raise DataError(f"{path}: fps is {fps!r}, but must be above 0 frames per second")
    raw = cast(dict[str, Any], _entry(path, info, "features", (dict,)))
    features = {name: _feature(path, name, entry) for name, entry in raw.items()}
    if missing := [name for name in BOOKKEEPING if name not in features]:
        raise DataError(f"{path}: features lack {missing}, which every LeRobot dataset has")
    layout = Layout(
        root=root,
        version=version,
        fps=float(fps),
        robot=info.get("robot_type"),
        features=features,
        depth=frozenset(name for name, entry in raw.items() if _is_depth(entry)),
        episodes=_entry(path, info, "total_episodes", (int,)),
        rows=_entry(path, info, "total_frames", (int,)),
        chunk_size=_entry(path, {"chunks_size": 1000, **info}, "chunks_size", (int,)),
        data_template=_entry(path, info, "data_path", (str,)),
        video_template=info.get("video_path"),
    )
    _check_templates(path, layout)
    if layout.episodes < 1 or layout.rows < 1:
        raise DataError(f"{path} counts {layout.episodes} episodes and {layout.rows} frames; there is nothing to read")
    return layout


def _version(path: Path, info: Mapping[str, Any]) -> str:
    version = str(info.get("codebase_version"))
    if version.startswith(("v2.", "v3.")):
        return version.removeprefix("v")
    hint = "convert it with a lerobot of its time" if version.startswith("v1.") else "update fla-sdk"
    raise DataError(f"{path}: codebase_version is {version}, but this reader reads v2.0 to v3.x; {hint}")


def _entry(path: Path, info: Mapping[str, Any], name: str, kinds: tuple[type, ...]) -> Any:
    value = info.get(name)
    if isinstance(value, bool) or not isinstance(value, kinds):
        expected = " or ".join(kind.__name__ for kind in kinds)
        raise DataError(f"{path}: {name!r} is {value!r}, but must be {expected}; the file is damaged or was edited")
    return value


def _feature(path: Path, name: str, entry: Any) -> Feature:
    try:
        dtype, shape = str(entry["dtype"]), tuple(int(size) for size in entry["shape"])
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"{path}: feature {name!r} needs `dtype` and `shape`, found {entry!r}") from error
    names = _flat_names(entry.get("names"))
    if dtype in ("image", "video"):
        if len(shape) != 3:
            raise DataError(f"{path}: camera {name!r} has shape {list(shape)}, but must be [height, width, channels]")
        if names[0].startswith("channel") if names else shape[0] <= 4 < shape[2]:
            shape = (*shape[1:], shape[0])
        return Feature(dtype=dtype, shape=shape, names=("height", "width", "channels"))
    if dtype not in ("string", "language"):
        try:
            np.dtype(dtype)
        except TypeError as error:
            raise DataError(f"{path}: feature {name!r} has unknown dtype {dtype!r}") from error
    # Older converters name a whole vector with one word; a name per dimension is all that the SDK can use.
    return Feature(dtype=dtype, shape=shape, names=names if shape == (len(names),) else None)


def _flat_names(names: Any) -> tuple[str, ...]:
    """Names as a flat tuple: LeRobot has lists, and from v2 also `{"motors": [...]}`."""
    if isinstance(names, dict):
        return tuple(flat for value in cast(dict[str, Any], names).values() for flat in _flat_names(value))
    if isinstance(names, list):
        return tuple(str(name) for name in cast(list[Any], names))
    return ()


def _is_depth(entry: Mapping[str, Any]) -> bool:
    details = {**(entry.get("info") or {}), **(entry.get("video_info") or {})}
    return bool(details.get("is_depth_map") or details.get("video.is_depth_map"))


def _check_templates(path: Path, layout: Layout) -> None:
    if layout.videos and not isinstance(layout.video_template, str):
        raise DataError(f"{path}: {layout.videos[0]!r} is a video, but video_path is {layout.video_template!r}")
    try:
        layout.data_file(0, 0)
        if layout.videos:
            layout.video_file(layout.videos[0], 0, 0)
    except (KeyError, IndexError, ValueError) as error:
        raise DataError(
            f"{path}: cannot fill data_path {layout.data_template!r} or video_path {layout.video_template!r}:"
            f" {error!r}; v3 has {DATA_TEMPLATE!r} and {VIDEO_TEMPLATE!r}"
        ) from error
