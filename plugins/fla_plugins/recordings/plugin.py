"""What this plugin offers to the SDK: the dataset formats `hdf5`, `numpy` and `frames`, to read."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from fla_sdk.hookspecs import hookimpl
from fla_sdk.records import DatasetFormat

if TYPE_CHECKING:
    from fla_sdk.data.dataset import Dataset


def _hdf5(path: Path) -> "Dataset":
    from fla_plugins.recordings import opening

    return opening.open_mapping(path) if opening.is_mapping(path) else opening.open_hdf5(path)


def _numpy(path: Path) -> "Dataset":
    from fla_plugins.recordings import opening

    return opening.open_mapping(path) if opening.is_mapping(path) else opening.open_numpy(path)


def _frames(path: Path) -> "Dataset":
    from fla_plugins.recordings import opening

    return opening.open_mapping(path)


@hookimpl
def fla_datasets() -> Iterator[DatasetFormat]:
    yield DatasetFormat(
        name="hdf5",
        description="HDF5 of ALOHA, LIBERO, robomimic and Isaac Lab as it is; any other through a mapping file",
        open=_hdf5,
    )
    yield DatasetFormat(
        name="numpy", description=".npz files, or folders of .npy files, one per episode; no pickle", open=_numpy
    )
    yield DatasetFormat(
        name="frames",
        description="folders of pictures with a CSV or Parquet table, by a mapping file",
        open=_frames,
    )


@hookimpl
def fla_open_dataset(uri: str) -> "Dataset | None":
    """A mapping file; or a file or folder of HDF5 or `.npz` files on this machine."""
    from fla_plugins.recordings import opening

    path = Path(uri)
    if opening.is_mapping(path):
        return opening.open_mapping(path)
    if opening.files_in(path, opening.HDF5_FILES):
        return opening.open_hdf5(path)
    if opening.files_in(path, (".npz",)):
        return opening.open_numpy(path)
    return None
