"""Opening recordings: what a mapping file describes, or a file or folder whose layout is known."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

from fla_plugins.recordings.dataset import RecordedDataset
from fla_plugins.recordings.mapping import CameraImages, Column, Mapping, load_yaml, read_mapping
from fla_plugins.recordings.recording import Recording, Stream, natural
from fla_sdk.errors import DataError

MAPPING_FILES = (".yaml", ".yml")
HDF5_FILES = (".hdf5", ".h5")


def is_mapping(path: Path) -> bool:
    """Whether it is a YAML file with the two entries that tell a mapping from any other."""
    if path.suffix.lower() not in MAPPING_FILES or not path.is_file():
        return False
    entries = load_yaml(path)
    return isinstance(entries, dict) and {"format", "columns"} <= cast("dict[Any, Any]", entries).keys()


def files_in(path: Path, suffixes: Sequence[str]) -> list[Path]:
    """The file itself, or those in the folder, in natural order."""
    if path.is_file():
        return [path] if path.suffix.lower() in suffixes else []
    if not path.is_dir():
        return []
    return sorted((file for file in path.iterdir() if file.suffix.lower() in suffixes), key=natural)


def open_mapping(path: Path) -> RecordedDataset:
    """What the mapping file describes. Raises `ConfigError` for the file, `DataError` for the data."""
    mapping = read_mapping(path)
    found = sorted(path.parent.glob(mapping.files), key=natural)
    if mapping.format == "hdf5":
        from fla_plugins.recordings import hdf5

        recordings = list(hdf5.recordings(found, mapping.episodes))
    elif mapping.format == "numpy":
        from fla_plugins.recordings import numpy_files

        recordings = list(numpy_files.recordings(found))
    else:
        from fla_plugins.recordings import image_folders

        assert mapping.table is not None  # checked by the record
        recordings = list(image_folders.recordings([one for one in found if one.is_dir()], mapping.table))
    return RecordedDataset(path, mapping, recordings)


def open_hdf5(path: Path) -> RecordedDataset:
    """A file or folder of ALOHA's or robomimic's HDF5. Raises `DataError` listing what an unknown layout has."""
    from fla_plugins.recordings import hdf5
    from fla_plugins.recordings.aloha import aloha_mapping, is_aloha
    from fla_plugins.recordings.robomimic import EPISODES, is_robomimic, robomimic_mapping, robomimic_task

    files = files_in(path, HDF5_FILES)
    if not files:
        raise DataError(f"{path} has no {' or '.join(HDF5_FILES)} files; give such a file, or a folder of them")
    example, file = _first_readable(files)
    if is_robomimic(file):
        recordings = list(hdf5.recordings(files, EPISODES))
        # Where one file of many is damaged, it stands among the recordings as a whole and has no such group.
        streams = next(one for one in recordings if one.where.startswith(f"{example}, ")).streams()
        return RecordedDataset(path, robomimic_mapping(file, streams), recordings, task=robomimic_task)
    recordings = list(hdf5.recordings(files, None))
    streams = recordings[files.index(example)].streams()
    if not is_aloha(streams):
        raise DataError(_unknown(example, streams))
    return RecordedDataset(path, aloha_mapping(streams), recordings)


def open_numpy(path: Path) -> RecordedDataset:
    """A folder of `.npz` files with `actions` and `obs`, or `obs/<name>`, and pictures under `images/<camera>`."""
    from fla_plugins.recordings import numpy_files

    files = files_in(path, (".npz",))
    if not files:
        raise DataError(f"{path} has no .npz files; give such a file, or a folder of them")
    recordings = list(numpy_files.recordings(files))
    streams = _first_streams(recordings)
    numbers = {key: stream for key, stream in streams.items() if stream.rows and stream.is_numeric}
    observed = tuple(sorted(key for key in numbers if key == "obs" or key.startswith("obs/")))
    if "actions" not in numbers or not observed:
        raise DataError(_unknown(files[0], streams))
    return RecordedDataset(
        path,
        Mapping(
            format="numpy",
            files="*.npz",
            fps=_number(recordings[0], "fps", streams, path),
            task_key="task" if "task" in streams else None,
            columns={"observation.state": Column(keys=observed), "action": Column(keys=("actions",))},
            cameras={
                f"observation.images.{key.removeprefix('images/')}": CameraImages(key=key)
                for key in sorted(numbers)
                if key.startswith("images/")
            },
        ),
        recordings,
    )


def _first_readable(files: Sequence[Path]) -> tuple[Path, Any]:
    from fla_plugins.recordings.hdf5 import open_file

    for file in files:
        try:
            return file, open_file(file)
        except DataError as error:
            if file == files[-1]:
                raise DataError(f"none of {len(files)} files can be read; the last: {error}") from error
    raise AssertionError("files is not empty")


def _first_streams(recordings: Sequence[Recording]) -> dict[str, Stream]:
    for recording in recordings[:-1]:
        try:
            return recording.streams()
        except DataError:
            continue
    return recordings[-1].streams()


def _number(recording: Recording, key: str, streams: dict[str, Stream], path: Path) -> float:
    if key not in streams:
        raise DataError(
            f"{path} does not say at which rate it was recorded: save `{key}` into each file, or describe the files in"
            " a mapping file (docs/data.md)"
        )
    return float(recording.read(key).reshape(-1)[0])


def _unknown(path: Path, streams: dict[str, Stream]) -> str:
    listed = ", ".join(f"{key} {stream.dtype} {[stream.rows, *stream.shape]}" for key, stream in streams.items())
    return (
        f"{path} is in no layout that is known without being told; say in a mapping file (docs/data.md) which array is"
        f" what, and give that instead. It has: {listed or 'nothing'}"
    )
