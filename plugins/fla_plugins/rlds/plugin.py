"""What this plugin offers to the SDK: the dataset format `rlds`, to read."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from fla_plugins.rlds.layout import looks_like_rlds
from fla_plugins.rlds.options import SCHEME, parse
from fla_sdk.hookspecs import hookimpl
from fla_sdk.records import DatasetFormat

if TYPE_CHECKING:
    from fla_sdk.data.dataset import Dataset


def _open(path: Path) -> "Dataset":
    from fla_plugins.rlds.reader import RldsDataset

    return RldsDataset(*parse(str(path)))


@hookimpl
def fla_datasets() -> Iterator[DatasetFormat]:
    yield DatasetFormat(
        name="rlds",
        description="RLDS folder of TFRecord shards (DROID, Open X-Embodiment), read without TensorFlow",
        open=_open,
    )


@hookimpl
def fla_open_dataset(uri: str) -> "Dataset | None":
    """`rlds://PATH?options`, or a folder that holds TFRecord shards, with or without options."""
    from fla_plugins.rlds.reader import RldsDataset

    path = Path(uri.partition("?")[0])
    if uri.startswith(SCHEME) or looks_like_rlds(path):
        return RldsDataset(*parse(uri))
    return None
