"""`Mapping`: where a robot's numbers and pictures lie in its files. A YAML file of it is a dataset's address."""

from collections.abc import Mapping as Entries
from pathlib import Path
from typing import Any

import attrs
import numpy as np

from fla_sdk.config import structure
from fla_sdk.errors import ConfigError, DataError, nearest


def _one_of(where: str, value: Any, known: tuple[Any, ...]) -> None:
    if value not in known:
        hint = f"; did you mean {close!r}?" if (close := nearest(str(value), map(str, known))) else ""
        raise ConfigError(f"{where} is {value!r}, must be one of {', '.join(map(str, known))}{hint}")


@attrs.frozen(kw_only=True)
class Column:
    """Numbers `[T, D]`: one or several arrays of the files, side by side."""

    keys: tuple[str, ...]
    names: tuple[str, ...] | None = None
    """One per dimension, in the order of the data."""

    dtype: str | None = None
    """Numpy name; None: floating numbers become float32, all others stay as they are."""

    def __attrs_post_init__(self) -> None:
        if not self.keys:
            raise ConfigError("a column needs at least one key")
        if self.dtype is not None:
            try:
                np.dtype(self.dtype)
            except TypeError as error:
                raise ConfigError(f"dtype is {self.dtype!r}, which numpy does not know") from error


@attrs.frozen(kw_only=True)
class CameraImages:
    """Pictures `[T, ...]`: arrays of pixels, or encoded as JPEG or PNG, which the data itself shows."""

    key: str
    order: str = "rgb"
    """Of the colours in the files, `rgb` or `bgr`; what is read is RGB."""

    layout: str = "hwc"
    """Of arrays of pixels: `hwc`, or `chw` where the colours come first."""

    rotate: int = 0
    """Degrees to turn each picture by, counter-clockwise: 0, 90, 180 or 270."""

    size: tuple[int, int] | None = None
    """`[height, width]` to resize to, after turning; None keeps what the files have."""

    def __attrs_post_init__(self) -> None:
        _one_of("order", self.order, ("rgb", "bgr"))
        _one_of("layout", self.layout, ("hwc", "chw"))
        _one_of("rotate", self.rotate, (0, 90, 180, 270))
        if self.size is not None and min(self.size) < 1:
            raise ConfigError(f"size is {list(self.size)}, must be [height, width] of at least 1 pixel each")


@attrs.frozen(kw_only=True)
class Mapping:
    """A whole set of recordings. What a key is, the format says: see `hdf5`, `numpy_files` and `image_folders`."""

    format: str
    """`hdf5`, `numpy` or `frames`."""

    files: str
    """Pattern of the files (or, for folders of images, of the folders), relative to the mapping file."""

    fps: float
    """Moments per second."""

    columns: Entries[str, Column]
    """By the name under which the SDK knows them: `observation.state`, `action`, ..."""

    cameras: Entries[str, CameraImages] = attrs.field(factory=dict[str, CameraImages])
    """By name: `observation.images.top`, ..."""

    episodes: str | None = None
    """Pattern of the groups of an HDF5 file that are an episode each, such as `data/demo_*`; None: a file is one."""

    table: str | None = None
    """Of format `frames`: the CSV or Parquet file in each folder, one row per moment."""

    task: str | None = None
    """What the robot was told, if it was always the same."""

    task_key: str | None = None
    """Where each episode says what the robot was told: text, or in HDF5 an attribute."""

    robot: str | None = None

    def __attrs_post_init__(self) -> None:
        _one_of("format", self.format, ("hdf5", "numpy", "frames"))
        if not (np.isfinite(self.fps) and self.fps > 0):
            raise ConfigError(f"fps is {self.fps!r}, must be above 0 moments per second")
        if Path(self.files).is_absolute():
            raise ConfigError(f"files is {self.files!r}, must be relative to the mapping file")
        if not self.columns:
            raise ConfigError("columns is empty; it names at least observation.state and action")
        if self.task is not None and self.task_key is not None:
            raise ConfigError("task and task_key are both given; one of them says what the robot was told")
        if self.episodes is not None and self.format != "hdf5":
            raise ConfigError(f"episodes is for hdf5 files with several episodes; in {self.format!r} each file is one")
        if (self.table is not None) != (self.format == "frames"):
            raise ConfigError("table names the CSV or Parquet file of format 'frames', which needs one")


def read_mapping(path: Path) -> Mapping:
    """The mapping in a YAML file. Raises `ConfigError` naming file and field, `DataError` when it cannot be read."""
    return structure(load_yaml(path), Mapping, where=str(path))


def load_yaml(path: Path) -> Any:
    import yaml

    try:
        return yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise DataError(f"cannot read {path}: {error}") from error
