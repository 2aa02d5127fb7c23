"""Weights of Gemma 3, PaliGemma, Gemma and SigLIP as Hugging Face's transformers publishes them.

Files differ in what stands before a name: `language_model.model.` in the published Gemma 3, `model.language_model.` in
newer ones, `model.` in exports of the language model alone, `vision_model.` in those of the vision tower.
"""

from pathlib import Path

from fla_models.configs import BackboneConfig
from fla_models.formats import torch_names
from fla_models.formats.correspondence import Flat, read
from fla_models.formats.safetensors import Tensors
from fla_models.formats.torch_names import LANGUAGE, PROJECTOR, UNUSED, VISION

_MARKS = (f"{LANGUAGE}embed_tokens.weight", f"{VISION}embeddings.patch_embedding.weight")


def read_weights(path: Path, config: BackboneConfig) -> Flat | None:
    """Parameters of vision tower and language model, in the types of the file; None when it is none of these files.

    `path` is a `.safetensors` file, or a folder with one or with its shards. Embeddings of more tokens than the model
    has are cut. A vision tower whose tokens the file projects in another way than `config` is left out: one that was
    trained for 896 pixels and pooled tokens is of no use in a model that does not pool, and the other way round.
    Raises `CheckpointError` when the file is damaged or of another model.
    """
    tensors = Tensors.open(path)
    if tensors is None:
        return None
    tensors = tensors.renamed(torch_names.tower)
    if not any(mark in tensors.places for mark in _MARKS):
        return None
    table, unused = torch_names.backbone(config), rf"{UNUSED}|text_model\..*|logit_(scale|bias)"
    projectors = {name for name in tensors.places if name.startswith(PROJECTOR)}
    if projectors and projectors.isdisjoint(name for entry in table for name in entry.names):
        table = [entry for entry in table if not entry.path.startswith("PaliGemma/img/")]
        unused += rf"|({VISION}|{PROJECTOR}).*"
    return read(table, tensors, unused=unused)
