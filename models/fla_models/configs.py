"""Config records of the model families, and their named variants. Plain fields, so that they survive YAML; no jax."""

from collections.abc import Mapping
from typing import Any, Literal

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

    pool: int | None = None
    """Side of a square of patches that become one token by their mean, then RMS norm and a projection without bias, as
    in Gemma 3. None: a token for each patch and a linear head, as in PaliGemma."""

    position_init: Literal["normal", "sincos"] = "normal"
    """Initial position embedding. `normal` is PaliGemma's; `sincos` writes each patch's row and column in sines and
    cosines (as in MoCo v3, arXiv:2104.02057), from which a small model learns where things are much sooner."""


@attrs.frozen(kw_only=True)
class LocalAttention:
    """Gemma 3's pattern of layers: most look at near tokens only, every `global_every`th at all of them."""

    window: int = 1024
    """Tokens attend to each other when their positions are less than this apart."""

    global_every: int = 6
    global_rope_base: float = 1e6
    """Base of the rotary frequencies in global layers; the local ones have 10,000."""

    global_rope_scale: float = 8.0
    """Positions are divided by this in global layers."""


@attrs.frozen(kw_only=True)
class GemmaConfig:
    """Dimensions of one expert of the transformer. The last three fields are what Gemma 3 has and Gemma has not."""

    width: int
    depth: int
    mlp_dim: int
    heads: int
    kv_heads: int
    head_dim: int
    lora_attention: LoraConfig | None = None
    lora_mlp: LoraConfig | None = None
    local: LocalAttention | None = None
    qk_norm: bool = False
    """RMS norm of each query and key head before it is rotated."""

    post_norms: bool = False
    """RMS norm of what attention and MLP add to the residual stream."""

    @property
    def has_lora(self) -> bool:
        return self.lora_attention is not None or self.lora_mlp is not None


@attrs.frozen(kw_only=True)
class Augmentation:
    """How images are disturbed in training. The defaults are what openpi does, which is more than its code says: hue
    and chance are defaults of a library.
    """

    crop: float = 0.95
    """Share of height and width that is kept, of cameras that do not move with a hand."""

    rotation: float = 5.0
    """Degrees, at most, of the same."""

    brightness: float = 0.3
    contrast: float = 0.4
    saturation: float = 0.5
    hue: float = 0.1
    """Turns of the colour circle, at most."""

    chance: float = 0.5
    """That the colours of an image change."""

    def __attrs_post_init__(self) -> None:
        for name, low, high in (
            ("crop", 0.1, 1.0),
            ("rotation", 0.0, 180.0),
            ("brightness", 0.0, 1.0),
            ("contrast", 0.0, 0.99),
            ("saturation", 0.0, 1.0),
            ("hue", 0.0, 0.5),
            ("chance", 0.0, 1.0),
        ):
            if not low <= getattr(self, name) <= high:
                raise ConfigError(f"augment: {name} is {getattr(self, name)}, must be from {low:g} to {high:g}")


Remat = Literal["nothing", "cheap", "all"]


@attrs.frozen(kw_only=True)
class BackboneConfig:
    """What all models of this package are built around: a vision tower and a language model."""

    vision: SiglipConfig
    language: GemmaConfig
    vocab_size: int = PALIGEMMA_VOCAB
    max_tokens: int = 200
    image_size: tuple[int, int] = (224, 224)
    image_slots: tuple[str, ...] = SLOTS
    black_slots: tuple[str, ...] = ()
    """Slots that show a black image where there is no camera, instead of nothing; some published weights of Pi0-FAST
    have never seen otherwise."""

    augment: Augmentation | None = None
    """How images are disturbed in training; None leaves them as they are. The published variants do what openpi does.
    Slots with `wrist` in their name keep their geometry."""

    dtype: Literal["bfloat16", "float32"] = "bfloat16"
    """Of activations in the vision tower and the transformer. Parameters are created float32 whatever this says."""

    tokenizer: Literal["paligemma", "gemma3", "words"] = "paligemma"
    action_tokenizer: str = "physical-intelligence/fast"
    """What spells actions, where a model writes any: a repository of the Hub, a folder that `fla tokenizer fit` wrote,
    or `bins`, which needs no file."""

    causal_prompt: bool = False
    """Prompt tokens see only those before them, as in Gemma 3's own training; images see each other either way."""

    compat: Literal["fixed", "openpi"] = "fixed"
    """`openpi` repeats what openpi computes where that is not what its formulas say; see docs/models.md."""

    init: Literal["pretrained", "scratch"] = "pretrained"
    """`pretrained`: as the published models were before their weights, for leaves that no checkpoint fills. `scratch`:
    for models that learn everything from demonstrations; see `fla_models.scratch`."""

    remat: Remat = "all"
    """What of each layer the backward pass computes once more instead of keeping it. `nothing` takes the least time and
    the most memory; `cheap` keeps the products with weights; `all` takes the least memory (openpi-compatible)."""

    unroll: bool = False
    """Compile every layer by itself instead of one for all: slower to compile, faster to run where layers are small."""

    def __attrs_post_init__(self) -> None:
        if unknown := set(self.black_slots) - set(self.image_slots):
            raise ConfigError(
                f"black_slots has {', '.join(sorted(unknown))}, image_slots only {', '.join(self.image_slots)}"
            )
        if self.language.heads % self.language.kv_heads:
            raise ConfigError(
                f"heads must be a multiple of kv_heads, not {self.language.heads} and {self.language.kv_heads}"
            )
        if self.vision.width % self.vision.heads:
            raise ConfigError(f"vision.width {self.vision.width} must be a multiple of heads {self.vision.heads}")
        if min(self.image_size) < self.vision.patch:
            raise ConfigError(f"image_size {self.image_size} is smaller than a patch of {self.vision.patch} pixels")
        if (pool := self.vision.pool) and any(side % pool for side in self.image_grid):
            raise ConfigError(f"vision.pool {pool} does not divide the grid {self.image_grid} of patches")

    @property
    def experts(self) -> tuple[GemmaConfig, ...]:
        """The transformer's experts, the language model first."""
        return (self.language,)

    @property
    def image_grid(self) -> tuple[int, int]:
        """Rows and columns of patches in an image."""
        height, width = self.image_size
        return height // self.vision.patch, width // self.vision.patch


@attrs.frozen(kw_only=True)
class Pi0Config(BackboneConfig):
    """A Pi0, Pi0.5 or Pi0.6 model: a backbone with an action expert that denoises chunks.

    Raises `ConfigError` when the experts cannot share their attention or a size makes no sense.
    """

    pi05: bool
    """Pi0.5 and later: time enters through adaptive RMSNorm and there is no state token."""

    expert: GemmaConfig
    action_dim: int = 32
    horizon: int = 50
    state_in_prompt: bool = True
    """Pi0.5 only: the discretised state is part of the prompt. Without it the model does not see the state at all."""

    insulate: bool = False
    """Knowledge insulation (arXiv:2505.23705): the language model learns to write actions as tokens, the action expert
    reads its keys and values, and no gradient of the expert reaches it."""

    flow_weight: float = 1.0
    """Of the flow-matching loss beside that of the action tokens, when insulated."""

    flow_samples: int = 1
    """Draws of noise and time per example and step. They share one pass over images and prompt."""

    time_alpha: float = 1.5
    """Training draws the flow's time from Beta(time_alpha, 1); 1.5 is Pi0's. At little noise a chunk gives itself away,
    and nothing is learned about images; a model that learns to see from demonstrations alone needs more noise."""

    max_delay: int = 0
    """Real-time chunking learned in training (arXiv:2512.05964): up to this many first actions of a chunk are given
    without noise. `sample` then continues a prefix by itself; 0 leaves that to guidance (arXiv:2506.07339)."""

    indicator_dropout: float = 0.3
    """How often training hides a prompt's advantage (RECAP, arXiv:2511.14759), so that the model knows both."""

    def __attrs_post_init__(self) -> None:
        super().__attrs_post_init__()
        for field in ("depth", "heads", "kv_heads", "head_dim", "local", "qk_norm"):
            ours, theirs = getattr(self.language, field), getattr(self.expert, field)
            if ours != theirs:
                raise ConfigError(
                    f"language and expert attend to one sequence and must share {field}: "
                    f"language.{field} is {ours}, expert.{field} is {theirs}"
                )
        if not 0 <= self.max_delay < self.horizon:
            raise ConfigError(f"max_delay is {self.max_delay}, must be at least 0 and below the horizon {self.horizon}")
        if self.flow_samples < 1:
            raise ConfigError(f"flow_samples is {self.flow_samples}, must be at least 1")
        if not 0 <= self.indicator_dropout <= 1:
            raise ConfigError(f"indicator_dropout is {self.indicator_dropout}, must be in [0, 1]")

    @property
    def experts(self) -> tuple[GemmaConfig, ...]:
        return (self.language, self.expert)


FAST_SLOTS = ("base_0_rgb", "base_1_rgb", "left_wrist_0_rgb", "right_wrist_0_rgb")
"""Camera slots of Pi0-FAST, in the order of their sequence, which is that of openpi's names. There, the only wrist
camera of a robot is `wrist_0_rgb`."""


@attrs.frozen(kw_only=True)
class Pi0FastConfig(BackboneConfig):
    """A Pi0-FAST model: the language model writes actions as tokens."""

    action_dim: int = 32
    """Widest robot; its state and actions are not padded to it."""

    horizon: int = 32
    max_tokens: int = 250
    """Of the prompt and the actions behind it, in training."""

    image_slots: tuple[str, ...] = FAST_SLOTS
    max_decode: int = 256
    """Longest answer, in tokens."""

    temperature: float = 0.0
    """0 takes the likeliest token, above that tokens are drawn."""


@attrs.frozen(kw_only=True)
class ValueConfig(BackboneConfig):
    """The value model of RECAP: a backbone with a head over bins of the return."""

    bins: int = 201
    lowest: float = -1.0
    """Return of the lowest bin: as far from success as the longest episode of the task."""

    highest: float = 0.0
    """Return of the highest bin: done."""

    action_dim: int = 32
    """Widest robot whose state is in the prompt."""

    horizon: int = 1

    def __attrs_post_init__(self) -> None:
        super().__attrs_post_init__()
        if self.bins < 2 or self.lowest >= self.highest:
            raise ConfigError(
                f"a value model needs at least 2 bins between two returns, not {self.bins} from {self.lowest} to "
                f"{self.highest}"
            )


def spec(config: Pi0Config) -> ModelSpec:
    """What the codec must know about `config`."""
    style = "pi05" if config.pi05 and config.state_in_prompt else "pi0"
    spec = _spec(config, prompt_style=style, normalization="quantile" if config.pi05 else "zscore")
    return attrs.evolve(spec, action_tokens="taught" if config.insulate else "none")


def fast_spec(config: Pi0FastConfig) -> ModelSpec:
    """What the codec must know about `config`."""
    return attrs.evolve(_spec(config, prompt_style="fast"), action_tokens="sampled")


def value_spec(config: ValueConfig) -> ModelSpec:
    """What the codec must know about `config`."""
    return _spec(config, prompt_style="value")


def _spec(
    config: Pi0Config | Pi0FastConfig | ValueConfig, *, prompt_style: str, normalization: str = "quantile"
) -> ModelSpec:
    return ModelSpec(
        image_slots=config.image_slots,
        image_size=config.image_size,
        action_dim=config.action_dim,
        horizon=config.horizon,
        max_tokens=config.max_tokens,
        prompt_style=prompt_style,
        normalization=normalization,
        serving_dtype=config.dtype,
    )


def writes_actions(config: BackboneConfig) -> bool:
    """Whether the model learns to spell actions, and needs a tokenizer that can."""
    return isinstance(config, Pi0FastConfig) or (isinstance(config, Pi0Config) and config.insulate)


SO400M = SiglipConfig(width=1152, depth=27, mlp_dim=4304, heads=16, patch=14)
GEMMA_2B = GemmaConfig(width=2048, depth=18, mlp_dim=16384, heads=8, kv_heads=1, head_dim=256)
GEMMA_300M = GemmaConfig(width=1024, depth=18, mlp_dim=4096, heads=8, kv_heads=1, head_dim=256)
GEMMA_DUMMY = GemmaConfig(width=64, depth=4, mlp_dim=128, heads=8, kv_heads=1, head_dim=16)


_TINY = GemmaConfig(width=64, depth=3, mlp_dim=128, heads=4, kv_heads=4, head_dim=16)
_TINY_BACKBONE: Mapping[str, Any] = {
    "vision": SiglipConfig(width=64, depth=1, mlp_dim=128, heads=4, patch=16),
    "language": _TINY,
    "vocab_size": 1024,
    "image_size": (64, 64),
    "dtype": "float32",
    "tokenizer": "words",
    "action_tokenizer": "bins",
    "init": "scratch",
    "remat": "nothing",
    "unroll": True,
}


def _with_lora(config: GemmaConfig, rank: int) -> GemmaConfig:
    lora = LoraConfig(rank=rank, alpha=float(rank))
    return attrs.evolve(config, lora_attention=lora, lora_mlp=lora)


GEMMA3_4B = GemmaConfig(
    width=2560,
    depth=34,
    mlp_dim=10240,
    heads=8,
    kv_heads=4,
    head_dim=256,
    local=LocalAttention(),
    qk_norm=True,
    post_norms=True,
)
GEMMA3_860M = attrs.evolve(GEMMA3_4B, width=1024, mlp_dim=4096)
GEMMA3_270M = attrs.evolve(
    GEMMA3_4B, width=640, depth=18, mlp_dim=2048, heads=4, kv_heads=1, local=LocalAttention(window=512)
)
GEMMA3_VOCAB = 262_144


def variants(*, pi05: bool) -> dict[str, Pi0Config]:
    """The named configs of family `pi05` or `pi0`.

    `base` and `base_lora` are the published sizes, `dummy` is openpi's small transformer behind the full vision tower,
    and `tiny` trains from scratch on two CPU cores.
    """
    base = Pi0Config(
        pi05=pi05,
        vision=SO400M,
        language=GEMMA_2B,
        expert=GEMMA_300M,
        max_tokens=200 if pi05 else 48,
        augment=Augmentation(),
    )
    tiny = Pi0Config(
        pi05=pi05,
        expert=_TINY,
        action_dim=8,
        horizon=8,
        max_tokens=32,
        time_alpha=4.0,
        **_TINY_BACKBONE,
    )
    return {
        "base": base,
        "base_lora": attrs.evolve(base, language=_with_lora(GEMMA_2B, 16), expert=_with_lora(GEMMA_300M, 32)),
        "dummy": attrs.evolve(base, language=GEMMA_DUMMY, expert=GEMMA_DUMMY),
        "tiny": tiny,
    }


def fast_variants() -> dict[str, Pi0FastConfig]:
    """The named configs of family `pi0_fast`; names as in `variants`."""
    base = Pi0FastConfig(vision=SO400M, language=GEMMA_2B, augment=Augmentation())
    return {
        "base": base,
        "base_lora": attrs.evolve(base, language=_with_lora(GEMMA_2B, 16)),
        "dummy": attrs.evolve(base, language=GEMMA_DUMMY),
        "tiny": Pi0FastConfig(action_dim=8, horizon=8, max_tokens=96, max_decode=72, **_TINY_BACKBONE),
    }


def value_variants() -> dict[str, ValueConfig]:
    """The named configs of family `value`: `gemma3_270m` with PaliGemma's vision tower, and `tiny`."""
    base = ValueConfig(
        vision=SO400M,
        language=GEMMA3_270M,
        vocab_size=GEMMA3_VOCAB,
        tokenizer="gemma3",
        causal_prompt=True,
        augment=Augmentation(),
    )
    tiny = attrs.evolve(
        _TINY, kv_heads=1, local=LocalAttention(window=16, global_every=3), qk_norm=True, post_norms=True
    )
    options = {**_TINY_BACKBONE, "language": tiny, "causal_prompt": True}
    return {"gemma3_270m": base, "tiny": ValueConfig(action_dim=8, max_tokens=64, **options)}


def pi06_variants() -> dict[str, Pi0Config]:
    """The named configs of family `pi06`, after the model card of Pi0.6: Gemma 3 4B and an expert of as many layers.

    `gemma3_4b` sees with PaliGemma's tower at 224 pixels and a new projection; `gemma3_4b_native` with Gemma 3's own at
    896; `tiny` trains from scratch on two CPU cores.
    """
    siglip = Pi0Config(
        pi05=True,
        vision=SO400M,
        language=GEMMA3_4B,
        expert=GEMMA3_860M,
        vocab_size=GEMMA3_VOCAB,
        tokenizer="gemma3",
        causal_prompt=True,
        insulate=True,
        augment=Augmentation(),
    )
    tiny = attrs.evolve(
        _TINY, kv_heads=2, local=LocalAttention(window=16, global_every=3), qk_norm=True, post_norms=True
    )
    return {
        "gemma3_4b": siglip,
        "gemma3_4b_native": attrs.evolve(siglip, vision=attrs.evolve(SO400M, pool=4), image_size=(896, 896)),
        "tiny": Pi0Config(
            pi05=True,
            expert=tiny,
            action_dim=8,
            horizon=8,
            max_tokens=128,
            time_alpha=4.0,
            causal_prompt=True,
            insulate=True,
            **{**_TINY_BACKBONE, "language": tiny},
        ),
    }
