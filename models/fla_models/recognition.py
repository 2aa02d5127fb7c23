"""The config that parameters belong to, as far as their shapes tell.

Nothing in the tree shows the horizon, the token budget, the prompt or, for Pi0-FAST, the action width: those stay what
the variant `base` has. Adapters are taken to be published ones, whose alpha is their rank.
"""

import math
from collections.abc import Mapping
from typing import Any

import attrs

from fla_models.configs import BackboneConfig, GemmaConfig, LoraConfig, Pi0Config, SiglipConfig

Shapes = Mapping[str, tuple[int, ...]]
_LAYERS = "PaliGemma/llm/layers"
_BLOCK = "PaliGemma/img/Transformer/encoderblock"


def recognise(shapes: Shapes, *, base: BackboneConfig) -> Any:
    """`base` with the sizes of `shapes`; None when they are of another family."""
    if _kind(shapes) != (isinstance(base, Pi0Config) and ("pi05" if base.pi05 else "pi0")):
        return None
    try:
        fields: dict[str, Any] = {
            "vision": (vision := _vision(shapes)),
            "language": _expert(shapes, ""),
            "vocab_size": shapes["PaliGemma/llm/embedder/input_embedding"][0],
            "image_size": _image_size(shapes, vision, base),
        }
        if isinstance(base, Pi0Config):
            fields |= {"expert": _expert(shapes, "_1"), "action_dim": shapes["action_in_proj/kernel"][0]}
    except (KeyError, ValueError, IndexError):
        return None
    return attrs.evolve(base, **fields)


def _kind(shapes: Shapes) -> str | bool | None:
    """`pi0`, `pi05`, False for Pi0-FAST, None for what this module does not know."""
    if f"{_LAYERS}/attn/attn_vec_einsum/w" not in shapes or f"{_LAYERS}/attn/q_norm/scale" in shapes:
        return None
    if "state_proj/kernel" in shapes:
        return "pi0"
    if "time_mlp_in/kernel" in shapes:
        return "pi05"
    return None if f"{_LAYERS}/attn/attn_vec_einsum_1/w" in shapes else False


def _vision(shapes: Shapes) -> SiglipConfig:
    depth, width, heads, _ = shapes[f"{_BLOCK}/MultiHeadDotProductAttention_0/query/kernel"]
    return SiglipConfig(
        width=width,
        depth=depth,
        mlp_dim=shapes[f"{_BLOCK}/MlpBlock_0/Dense_0/kernel"][2],
        heads=heads,
        patch=shapes["PaliGemma/img/embedding/kernel"][0],
    )


def _image_size(shapes: Shapes, vision: SiglipConfig, base: BackboneConfig) -> tuple[int, int]:
    """The base's own when it gives as many tokens; else that of a square image of whole patches."""
    tokens = shapes["PaliGemma/img/pos_embedding"][1]
    if math.prod(side // vision.patch for side in base.image_size) == tokens:
        return base.image_size
    side = math.isqrt(tokens)
    if side * side != tokens:
        raise ValueError(tokens)
    return side * vision.patch, side * vision.patch


def _expert(shapes: Shapes, suffix: str) -> GemmaConfig:
    attention, mlp = f"{_LAYERS}/attn", f"{_LAYERS}/mlp{suffix}"
    fused = f"{attention}/qkv_einsum{suffix}/w"
    if fused in shapes:
        depth, _, heads, width, head_dim = shapes[fused]
        kv_heads = heads
    else:
        depth, heads, width, head_dim = shapes[f"{attention}/q_einsum{suffix}/w"]
        kv_heads = shapes[f"{attention}/kv_einsum{suffix}/w"][2]
    return GemmaConfig(
        width=width,
        depth=depth,
        mlp_dim=shapes[f"{mlp}/linear"][1],
        heads=heads,
        kv_heads=kv_heads,
        head_dim=head_dim,
        lora_attention=_adapter(shapes, f"{attention}/attn_vec_einsum{suffix}/lora_a"),
        lora_mlp=_adapter(shapes, f"{mlp}/linear_lora_a"),
    )


def _adapter(shapes: Shapes, path: str) -> LoraConfig | None:
    if path not in shapes:
        return None
    rank = shapes[path][-1]
    return LoraConfig(rank=rank, alpha=float(rank))
