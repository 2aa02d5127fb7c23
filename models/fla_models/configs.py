"""Config records of the model families, and their named variants. Plain fields, so that they survive YAML; no jax."""

from typing import Literal

import attrs

from fla_sdk.errors import ConfigError
from fla_sdk.model import ModelSpec

SLOTS = ("base_0_rgb", "left_wrist_0_rgb", "right_wrist_0_rgb")
"""Camera slots of the published Pi0 and Pi0.5 weights, in the order of their sequence."""

PALIGEMMA_VOCAB = 257152


@attrs.frozen(kw_only=True)
class LoraConfig:
    """Low-rank adapters on a weight. openpi-compatible."""

    rank: int
    alpha: float = 1.0
    rslora: bool = False
    """Divide alpha by sqrt(rank) instead of rank (rank-stabilised LoRA, arXiv:2312.03732)."""


@attrs.frozen(kw_only=True)
class SiglipConfig:
    """Dimensions of the vision tower."""

    width: int
    depth: int
    mlp_dim: int
    heads: int
    patch: int
    """Side of a square patch in pixels. Pixels beyond the last whole patch are dropped."""

    position_init: Literal["normal", "sincos"] = "normal"
    """Initial position embedding. `normal` is PaliGemma's; `sincos` writes each patch's row and column in sines and
    cosines (as in MoCo v3, arXiv:2104.02057), from which a small model learns where things are much sooner."""


@attrs.frozen(kw_only=True)
class GemmaConfig:
    """Dimensions of one expert of the transformer."""

    width: int
    depth: int
    mlp_dim: int
    heads: int
    kv_heads: int
    head_dim: int
    lora_attention: LoraConfig | None = None
    lora_mlp: LoraConfig | None = None

    @property
    def has_lora(self) -> bool:
        return self.lora_attention is not None or self.lora_mlp is not None


@attrs.frozen(kw_only=True)
class Pi0Config:
    """A Pi0 or Pi0.5 model.

    Raises `ConfigError` when the experts cannot share their attention or a size makes no sense.
    """

    pi05: bool
    """Pi0.5: time enters through adaptive RMSNorm and there is no state token."""

    vision: SiglipConfig
    language: GemmaConfig
    expert: GemmaConfig
    vocab_size: int = PALIGEMMA_VOCAB
    action_dim: int = 32
    horizon: int = 50
    max_tokens: int = 200
    image_size: tuple[int, int] = (224, 224)
    image_slots: tuple[str, ...] = SLOTS
    dtype: Literal["bfloat16", "float32"] = "bfloat16"
    """Of activations in the vision tower and the transformer. Parameters are created float32 whatever this says."""

    state_in_prompt: bool = True
    """Pi0.5 only: the discretised state is part of the prompt. Without it the model does not see the state at all."""

    tokenizer: Literal["paligemma", "words"] = "paligemma"
    compat: Literal["fixed", "openpi"] = "fixed"
    """`openpi` takes Euler steps in the dtype of the velocity, as openpi does: with bfloat16 parameters the step 0.1
    rounds to 0.10009765625."""

    time_alpha: float = 1.5
    """Training draws the flow's time from Beta(time_alpha, 1); 1.5 is Pi0's. At little noise a chunk gives itself away,
    and nothing is learned about images; a model that learns to see from demonstrations alone needs more noise."""

    init: Literal["pretrained", "scratch"] = "pretrained"
    """`pretrained`: as the published models were before their weights, for leaves that no checkpoint fills. `scratch`:
    for models that learn everything from demonstrations; see `fla_models.scratch`."""

    remat: bool = True
    """Recompute the activations of each layer in the backward pass: less memory, more time."""

    unroll: bool = False
    """Compile every layer by itself instead of one for all: slower to compile, faster to run where layers are small."""

    def __attrs_post_init__(self) -> None:
        for field in ("depth", "heads", "kv_heads", "head_dim"):
            ours, theirs = getattr(self.language, field), getattr(self.expert, field)
            if ours != theirs:
                raise ConfigError(
                    f"language and expert attend to one sequence and must share {field}: "
                    f"language.{field} is {ours}, expert.{field} is {theirs}"
                )
        if self.language.heads % self.language.kv_heads:
            raise ConfigError(
                f"heads must be a multiple of kv_heads, not {self.language.heads} and {self.language.kv_heads}"
            )
        if self.vision.width % self.vision.heads:
            raise ConfigError(f"vision.width {self.vision.width} must be a multiple of heads {self.vision.heads}")
        if min(self.image_size) < self.vision.patch:
            raise ConfigError(f"image_size {self.image_size} is smaller than a patch of {self.vision.patch} pixels")

    @property
    def image_grid(self) -> tuple[int, int]:
        """Rows and columns of patches in an image; a patch is a token."""
        height, width = self.image_size
        return height // self.vision.patch, width // self.vision.patch


def spec(config: Pi0Config) -> ModelSpec:
    """What the codec must know about `config`."""
    return ModelSpec(
        image_slots=config.image_slots,
        image_size=config.image_size,
        action_dim=config.action_dim,
        horizon=config.horizon,
        max_tokens=config.max_tokens,
        prompt_style="pi05" if config.pi05 and config.state_in_prompt else "pi0",
        normalization="quantile" if config.pi05 else "zscore",
        serving_dtype=config.dtype,
    )


SO400M = SiglipConfig(width=1152, depth=27, mlp_dim=4304, heads=16, patch=14)
GEMMA_2B = GemmaConfig(width=2048, depth=18, mlp_dim=16384, heads=8, kv_heads=1, head_dim=256)
GEMMA_300M = GemmaConfig(width=1024, depth=18, mlp_dim=4096, heads=8, kv_heads=1, head_dim=256)
GEMMA_DUMMY = GemmaConfig(width=64, depth=4, mlp_dim=128, heads=8, kv_heads=1, head_dim=16)


def _with_lora(config: GemmaConfig, rank: int) -> GemmaConfig:
    lora = LoraConfig(rank=rank, alpha=float(rank))
    return attrs.evolve(config, lora_attention=lora, lora_mlp=lora)


def variants(*, pi05: bool) -> dict[str, Pi0Config]:
    """The named configs of family `pi05` or `pi0`.

    `base` and `base_lora` are the published sizes, `dummy` is openpi's small transformer behind the full vision tower,
    and `tiny` trains from scratch on two CPU cores.
    """
    base = Pi0Config(pi05=pi05, vision=SO400M, language=GEMMA_2B, expert=GEMMA_300M, max_tokens=200 if pi05 else 48)
    tiny = Pi0Config(
        pi05=pi05,
        vision=SiglipConfig(width=64, depth=1, mlp_dim=128, heads=4, patch=16),
        language=GemmaConfig(width=64, depth=3, mlp_dim=128, heads=4, kv_heads=4, head_dim=16),
        expert=GemmaConfig(width=64, depth=3, mlp_dim=128, heads=4, kv_heads=4, head_dim=16),
        vocab_size=1024,
        action_dim=8,
        horizon=8,
        max_tokens=32,
        image_size=(64, 64),
        dtype="float32",
        tokenizer="words",
        init="scratch",
        time_alpha=4.0,
        remat=False,
        unroll=True,
    )
    return {
        "base": base,
        "base_lora": attrs.evolve(base, language=_with_lora(GEMMA_2B, 16), expert=_with_lora(GEMMA_300M, 32)),
        "dummy": attrs.evolve(base, language=GEMMA_DUMMY, expert=GEMMA_DUMMY),
        "tiny": tiny,
    }
