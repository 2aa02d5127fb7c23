"""The names that PyTorch ports give to SigLIP, Gemma and Gemma 3, each tower under one prefix whoever wrote the file.

Norm weights are kept as they are: all of these add one to them.
"""

import re
from collections.abc import Mapping

from fla_models.configs import BackboneConfig, GemmaConfig
from fla_models.formats.correspondence import Entry, entries

VISION, PROJECTOR, LANGUAGE, EXPERT = "vision_tower.", "multi_modal_projector.", "language_model.", "expert."

UNUSED = r".*\.(position_ids|rotary_emb\..*|embed_scale)|(.*\.)?lm_head\.weight|vision_tower\.head\..*"
"""What files may hold besides a model's parameters: buffers, the output layer that is tied to the embedding, and the
pooling head of SigLIP."""

_PREFIXES = tuple(
    (re.compile(pattern), prefix)
    for pattern, prefix in (
        (r"language_model\.(model\.)?", LANGUAGE),
        (r"(vision_tower\.(vision_model\.)?|vision_model\.)", VISION),
        (r"multi_modal_projector\.", PROJECTOR),
        (r"(?=(embed_tokens|layers|norm)\.)", LANGUAGE),
    )
)


def tower(name: str) -> str:
    """The name of an array under the prefix of its tower, whatever the file puts before and between."""
    for start in (0, len("model.") if name.startswith("model.") else 0):
        for pattern, prefix in _PREFIXES:
            if match := pattern.match(name, start):
                return prefix + name[match.end() :]
    return name


def siglip(config: BackboneConfig) -> list[Entry]:
    """The vision tower and what projects it into the language model. The number of patches is free."""
    c, layer = config.vision, "encoder.layers.{}."
    sizes = {"L": c.depth, "W": c.width, "F": c.mlp_dim, "N": c.heads, "H": c.width // c.heads}
    sizes |= {"P": c.patch, "Q": c.patch, "C": 3, "I": 1, "D": config.language.width}
    rows = [
        ("embedding/kernel", "embeddings.patch_embedding.weight", "PQCW->W,C,P,Q"),
        ("embedding/bias", "embeddings.patch_embedding.bias", "W->W"),
        ("pos_embedding", "embeddings.position_embedding.weight", "ITW->IT,W"),
    ]
    block = "Transformer/encoderblock/"
    for i in (0, 1):
        rows.append((f"{block}LayerNorm_{i}/scale", f"{layer}layer_norm{i + 1}.weight", "W->W"))
        rows.append((f"{block}LayerNorm_{i}/bias", f"{layer}layer_norm{i + 1}.bias", "W->W"))
    for ours, theirs in (("query", "q_proj"), ("key", "k_proj"), ("value", "v_proj")):
        rows.append(
            (f"{block}MultiHeadDotProductAttention_0/{ours}/kernel", f"{layer}self_attn.{theirs}.weight", "WNH->NH,W")
        )
        rows.append((f"{block}MultiHeadDotProductAttention_0/{ours}/bias", f"{layer}self_attn.{theirs}.bias", "NH->NH"))
    rows += [
        (f"{block}MultiHeadDotProductAttention_0/out/kernel", f"{layer}self_attn.out_proj.weight", "NHW->W,NH"),
        (f"{block}MultiHeadDotProductAttention_0/out/bias", f"{layer}self_attn.out_proj.bias", "W->W"),
        (f"{block}MlpBlock_0/Dense_0/kernel", f"{layer}mlp.fc1.weight", "WF->F,W"),
        (f"{block}MlpBlock_0/Dense_0/bias", f"{layer}mlp.fc1.bias", "F->F"),
        (f"{block}MlpBlock_0/Dense_1/kernel", f"{layer}mlp.fc2.weight", "FW->W,F"),
        (f"{block}MlpBlock_0/Dense_1/bias", f"{layer}mlp.fc2.bias", "W->W"),
        ("Transformer/encoder_norm/scale", "post_layernorm.weight", "W->W"),
        ("Transformer/encoder_norm/bias", "post_layernorm.bias", "W->W"),
    ]
    if c.pool is None:
        out = [("head/kernel", "linear.weight", "WD->D,W"), ("head/bias", "linear.bias", "D->D")]
    else:
        out = [
            ("projection/kernel", "mm_input_projection_weight", "WD->W,D"),
            ("soft_norm/scale", "mm_soft_emb_norm.weight", "W->W"),
        ]
    ours = "PaliGemma/img/"
    return entries(rows, ours=ours, theirs=VISION, sizes=sizes) + entries(out, ours=ours, theirs=PROJECTOR, sizes=sizes)


def gemma(config: GemmaConfig, *, theirs: str, expert: int = 0, adaptive: bool = False) -> list[Entry]:
    """The layers of one expert and its last norm. `adaptive`: its norms take a condition of the expert's width."""
    c, end, layer = config, "" if expert == 0 else f"_{expert}", "layers.{}."
    sizes = {
        "L": c.depth,
        "D": c.width,
        "E": 3 * c.width,
        "F": c.mlp_dim,
        "N": c.heads,
        "K": c.kv_heads,
        "H": c.head_dim,
    }
    rows: list[tuple[str, str | tuple[str, ...], str]] = [
        (f"layers/attn/q_einsum{end}/w", f"{layer}self_attn.q_proj.weight", "NDH->NH,D"),
        (
            f"layers/attn/kv_einsum{end}/w",
            (f"{layer}self_attn.k_proj.weight", f"{layer}self_attn.v_proj.weight"),
            "KDH->KH,D",
        ),
        (f"layers/attn/attn_vec_einsum{end}/w", f"{layer}self_attn.o_proj.weight", "NHD->D,NH"),
        (
            f"layers/mlp{end}/gating_einsum",
            (f"{layer}mlp.gate_proj.weight", f"{layer}mlp.up_proj.weight"),
            "DF->F,D",
        ),
        (f"layers/mlp{end}/linear", f"{layer}mlp.down_proj.weight", "FD->D,F"),
    ]
    for ours, name in _norms(c).items():
        if adaptive:
            rows.append((f"{ours}{end}/Dense_0/kernel", f"{name}.dense.weight", "DE->E,D"))
            rows.append((f"{ours}{end}/Dense_0/bias", f"{name}.dense.bias", "E->E"))
        else:
            rows.append((f"{ours}{end}/scale", f"{name}.weight", "D->D"))
    if c.qk_norm:
        rows.append((f"layers/attn/q_norm{end}/scale", f"{layer}self_attn.q_norm.weight", "H->H"))
        rows.append((f"layers/attn/k_norm{end}/scale", f"{layer}self_attn.k_norm.weight", "H->H"))
    return entries(rows, ours="PaliGemma/llm/", theirs=theirs, sizes=sizes)


def _norms(config: GemmaConfig) -> Mapping[str, str]:
    # Gemma calls the norm before its MLP `post_attention`; Gemma 3 has a norm that is.
    if config.post_norms:
        inner = {
            "pre_attention_norm": "input_layernorm",
            "post_attention_norm": "post_attention_layernorm",
            "pre_ffw_norm": "pre_feedforward_layernorm",
            "post_ffw_norm": "post_feedforward_layernorm",
        }
    else:
        inner = {"pre_attention_norm": "input_layernorm", "pre_ffw_norm": "post_attention_layernorm"}
    return {f"layers/{ours}": "layers.{}." + theirs for ours, theirs in inner.items()} | {"final_norm": "norm"}


def embedder(config: BackboneConfig) -> list[Entry]:
    """The table of token embeddings; ports pad it to round numbers."""
    rows = [("embedder/input_embedding", "embed_tokens.weight", "VD->V,D")]
    sizes = {"V": config.vocab_size, "D": config.language.width}
    return entries(rows, ours="PaliGemma/llm/", theirs=LANGUAGE, sizes=sizes, padded=("embedder/input_embedding",))


def backbone(config: BackboneConfig) -> list[Entry]:
    """Vision tower, embedding and language model."""
    return [*siglip(config), *embedder(config), *gemma(config.language, theirs=LANGUAGE)]
