"""Low-rank adapters merged into the weights they adapt: the same function, with one product in place of three."""

from collections.abc import Mapping
from typing import Any

import attrs
import numpy as np

from fla_models.configs import BackboneConfig, GemmaConfig, LoraConfig
from fla_models.lora import scaling
from fla_sdk.errors import CheckpointError
from fla_sdk.model import Array


def merge(config: BackboneConfig, parameters: Mapping[str, Array]) -> tuple[Any, Mapping[str, Array]]:
    """The config without adapters, and its parameters: merged ones float32, the others as they are.

    Exact but for rounding. Two rules are those of `fla_models.lora`: the heads of `attn_vec_einsum` share their
    bottleneck, so each head's first factor meets the sum of all second ones; and the MLP's adapters are not scaled.
    """
    merged: dict[str, Array] = {}
    for path, value in parameters.items():
        if path.endswith("lora_b"):
            continue
        if not path.endswith("lora_a"):
            merged.setdefault(path, value)
            continue
        stem = path.removesuffix("lora_a")
        base = f"{stem}w" if stem.endswith("/") else stem.removesuffix("_")
        if base not in parameters or f"{stem}lora_b" not in parameters:
            raise CheckpointError(f"the adapter {path} has no {base} or no {stem}lora_b to be merged with")
        first, second = (np.asarray(parameters[f"{stem}lora_{x}"]).astype(np.float32) for x in "ab")
        if "/attn_vec_einsum" in stem:
            second = second.sum(axis=-3, keepdims=True)
        scale = scaling(_adapter(config, base)) if stem.endswith("/") else 1.0
        merged[base] = np.asarray(parameters[base]).astype(np.float32) + scale * (first @ second)
    return _without_adapters(config), dict(sorted(merged.items()))


def _adapter(config: BackboneConfig, path: str) -> LoraConfig:
    """The adapter of an attention weight."""
    expert = config.experts[1 if path.split("/")[-2].endswith("_1") else 0]
    if expert.lora_attention is None:
        raise CheckpointError(f"{path} has an adapter, the model's config has none")
    return expert.lora_attention


def _without_adapters(config: BackboneConfig) -> BackboneConfig:
    plain = {
        name: attrs.evolve(expert, lora_attention=None, lora_mlp=None)
        for name, expert in attrs.asdict(config, recurse=False).items()
        if isinstance(expert, GemmaConfig)
    }
    return attrs.evolve(config, **plain)
