"""Weights in other libraries' layouts."""

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fla_models.configs import BackboneConfig
    from fla_models.formats.correspondence import Flat


def read_weights(path: Path, config: "BackboneConfig") -> "Flat | None":
    """Parameters of `config`'s model from the first layout that knows `path`; None when none does.

    Raises `CheckpointError` when the file is damaged or of another model.
    """
    from fla_models.formats import huggingface, lerobot, openpi_paths

    for layout in (openpi_paths, lerobot, huggingface):
        if (found := layout.read_weights(path, config)) is not None:
            return found
    return None
