"""Files whose arrays are named by openpi's paths, which are ours: PaliGemma's published `.npz`, and our `.safetensors`.

params/img/..., params/llm/...     big_vision's PaliGemma, without the name of the model around it
PaliGemma/img/..., action_in_proj/...
"""

import json
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

from fla_models.configs import BackboneConfig
from fla_models.formats.correspondence import Flat
from fla_models.formats.safetensors import Item, Tensors, write
from fla_models.published import NOTICE
from fla_sdk.config import unstructure
from fla_sdk.embodiment import Embodiment
from fla_sdk.errors import CheckpointError, ConfigError
from fla_sdk.model import Array
from fla_sdk.normalization import NormStats


def read_weights(path: Path, config: BackboneConfig) -> Flat | None:
    """All arrays of such a file, in its types; None when it is another. Raises `CheckpointError` when it is damaged."""
    del config
    if path.suffix == ".npz" and path.is_file():
        with _damage(path), path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            return {_path(name): _typed(arrays[name]) for name in arrays.files}
    tensors = Tensors.open(path)
    if tensors is None or not any(_path(name).startswith("PaliGemma/") for name in tensors.places):
        return None
    return {_path(name): tensors.read(name) for name in tensors.places}


def export(
    config: BackboneConfig,
    parameters: Mapping[str, Array],
    robots: Sequence[tuple[Embodiment, NormStats]],
    out: Path,
    *,
    family: str,
) -> None:
    """All parameters in one `.safetensors` file; its metadata has the family, the config and the robots' statistics.

    Where the model reads Gemma's tokens, it has Gemma's weights, and the file names their licence.
    """
    if out.exists():
        raise ConfigError(f"{out} exists: give another place")
    metadata = {
        "format": "fla",
        "family": family,
        "config": json.dumps(unstructure(config)),
        **({} if config.tokenizer == "words" else {"notice": NOTICE}),
        **{f"norm_stats/{embodiment.name}": stats.to_json() for embodiment, stats in robots},
    }
    arrays = ((path, np.asarray(value)) for path, value in parameters.items())
    write(out, (Item(path, a.shape, a.dtype, lambda a=a: a) for path, a in arrays), metadata=metadata)


def _path(name: str) -> str:
    name = name.removeprefix("params/")
    return f"PaliGemma/{name}" if name.startswith(("img/", "llm/")) else name


def _typed(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Numpy's files have no name for bfloat16: it comes back as two bytes of nothing."""
    return array.view(ml_dtypes.bfloat16) if array.dtype == np.dtype("V2") else array


@contextmanager
def _damage(path: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise CheckpointError(
            f"{path} cannot be read: {type(error).__name__}: {error}. It is damaged or cut short at "
            f"{path.stat().st_size:,} bytes; fetch it again"
        ) from error
