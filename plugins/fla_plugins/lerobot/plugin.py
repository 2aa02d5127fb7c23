"""What this plugin offers to the SDK: the dataset format `lerobot`, to read and to record."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fla_plugins.lerobot.layout import looks_like_lerobot
from fla_sdk.hookspecs import hookimpl
from fla_sdk.records import DatasetFormat

if TYPE_CHECKING:
    from fla_sdk.data.dataset import Dataset, EpisodeWriter


def _open(path: Path) -> "Dataset":
    from fla_plugins.lerobot.reader import LeRobotDataset

    return LeRobotDataset(path)


def _create(path: Path, **options: Any) -> "EpisodeWriter":
    from fla_plugins.lerobot.writer import LeRobotWriter

    return LeRobotWriter(path, **options)


def _recognises(path: Path) -> bool:
    return looks_like_lerobot(path) or ((path / "meta").is_dir() and (path / "data").is_dir())


def _copy(path: Path, out: Path, episodes: Sequence[int] | None = None) -> int:
    from fla_plugins.lerobot.compaction import copy_episodes

    return copy_episodes(path, out, episodes)


def _repair(path: Path, *, dry_run: bool, tasks: Mapping[int, str]) -> list[str]:
    from fla_plugins.lerobot.repair import repair

    return repair(path, dry_run=dry_run, tasks=tasks)


def _download(uri: str, out: Path | None) -> Path:
    from fla_plugins.lerobot.hub import download

    return download(uri, out)


def _upload(path: Path, uri: str, *, private: bool) -> str:
    from fla_plugins.lerobot.hub import upload

    return upload(path, uri, private=private)


@hookimpl
def fla_datasets() -> Iterator[DatasetFormat]:
    yield DatasetFormat(
        name="lerobot",
        description="LeRobot folder, v2 and v3, image or video; read, and recorded as v3, without the lerobot library",
        open=_open,
        create=_create,
        recognises=_recognises,
        copy=_copy,
        repair=_repair,
        download=_download,
        upload=_upload,
    )


@hookimpl
def fla_open_dataset(uri: str) -> "Dataset | None":
    """A local path that holds a LeRobot dataset; or `hf://datasets/owner/name`, fetched at first use."""
    if uri.startswith(("hf:/datasets/", "hf://datasets/")):  # one slash is what pathlib leaves of two
        return _open(_download(uri, None))
    path = Path(uri)
    return _open(path) if looks_like_lerobot(path) else None
