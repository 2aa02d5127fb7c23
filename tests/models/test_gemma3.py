"""Gemma 3 and SigLIP against `transformers`, from files that it wrote: layer by layer, with windows that cut."""

from pathlib import Path
from typing import Any

import attrs
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from fla_models import parameters
from fla_models.configs import BackboneConfig, GemmaConfig, LocalAttention, SiglipConfig
from fla_models.formats.huggingface import read_weights
from fla_models.gemma import Gemma
from fla_models.paligemma import PaliGemma
from fla_models.stack import Schedule
from fla_sdk.model import ModelInput

torch = pytest.importorskip("torch", reason="transformers is the oracle; it needs torch")

WINDOW, LENGTH, VOCAB = 5, 19, 96
LANGUAGE = GemmaConfig(
    width=32,
    depth=7,
    mlp_dim=48,
    heads=4,
    kv_heads=2,
    head_dim=16,
    local=LocalAttention(window=WINDOW, global_every=3),
    qk_norm=True,
    post_norms=True,
)
CONFIG = BackboneConfig(
    vision=SiglipConfig(width=24, depth=2, mlp_dim=40, heads=3, patch=4, pool=2),
    language=LANGUAGE,
    vocab_size=VOCAB,
    image_size=(16, 16),
    image_slots=("base_0_rgb",),
    dtype="float32",
    causal_prompt=True,
)
TEXT: dict[str, Any] = {
    "vocab_size": VOCAB,
    "hidden_size": LANGUAGE.width,
    "intermediate_size": LANGUAGE.mlp_dim,
    "num_hidden_layers": LANGUAGE.depth,
    "num_attention_heads": LANGUAGE.heads,
    "num_key_value_heads": LANGUAGE.kv_heads,
    "head_dim": LANGUAGE.head_dim,
    "query_pre_attn_scalar": LANGUAGE.head_dim,
    "sliding_window": WINDOW,
    "layer_types": ["full_attention" if (i + 1) % 3 == 0 else "sliding_attention" for i in range(LANGUAGE.depth)],
    "rope_parameters": {
        "sliding_attention": {"rope_type": "default", "rope_theta": 10_000.0},
        "full_attention": {"rope_type": "linear", "rope_theta": 1_000_000.0, "factor": 8.0},
    },
    "attn_implementation": "eager",
}
VISION: dict[str, Any] = {
    "hidden_size": 24,
    "num_hidden_layers": 2,
    "intermediate_size": 40,
    "num_attention_heads": 3,
    "patch_size": 4,
    "image_size": 16,
    "vision_use_head": False,
    "attn_implementation": "eager",
}


def shaken(model: Any) -> Any:
    """The oracle with parameters that hide no mistake: norms away from their start, attention that chooses."""
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(0, 0.3)
    return model.eval()


def weights(folder: Path, config: BackboneConfig) -> dict[str, Any]:
    found = read_weights(folder, config)
    assert found is not None
    return dict(found)


@pytest.fixture(scope="module")
def text_model(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, dict[str, Any]]:
    from transformers import Gemma3ForCausalLM, Gemma3TextConfig

    oracle = shaken(Gemma3ForCausalLM(Gemma3TextConfig(**TEXT)))
    folder = tmp_path_factory.mktemp("gemma3")
    oracle.save_pretrained(folder)
    return oracle, weights(folder, CONFIG)


def _gemma(depth: int, found: dict[str, Any]) -> Gemma:
    model = nnx.eval_shape(
        lambda: Gemma(
            (attrs.evolve(LANGUAGE, depth=depth),),
            vocab_size=VOCAB,
            conditions=(None,),
            dtype=jnp.dtype("float32"),
            schedule=Schedule(),
            rngs=nnx.Rngs(0),
        )
    )
    own = {path.removeprefix("PaliGemma/llm/"): value for path, value in found.items() if "/llm/" in path}
    cut = {path: value[:depth] if path.startswith("layers/") else value for path, value in own.items()}
    parameters.assign(model, {path: jnp.asarray(value) for path, value in cut.items()})
    return model


def test_language_model_layer_by_layer(text_model: tuple[Any, dict[str, Any]]) -> None:
    oracle, found = text_model
    tokens = np.random.default_rng(0).integers(0, VOCAB, (2, LENGTH))
    with torch.no_grad():
        said = oracle(torch.tensor(tokens), output_hidden_states=True, use_cache=False)
        # The oracle's last hidden state is normed already.
        hidden = [*(oracle.model.norm(h) for h in said.hidden_states[1:-1]), said.hidden_states[-1]]
    assert len(hidden) == LANGUAGE.depth
    where = jnp.broadcast_to(jnp.arange(LENGTH), tokens.shape)
    mask = jnp.broadcast_to(jnp.tril(jnp.ones((LENGTH, LENGTH), bool)), (2, LENGTH, LENGTH))
    outs: list[jax.Array] = []
    for depth, want in enumerate(hidden, start=1):
        model = _gemma(depth, found)
        outs.append(model(model.embed(jnp.asarray(tokens)), positions=where, mask=mask)[0])
        np.testing.assert_allclose(outs[-1], want.numpy(), rtol=1e-4, atol=1e-4, err_msg=f"layer {depth}")
    logits = _gemma(LANGUAGE.depth, found).embedder.logits(outs[-1])
    np.testing.assert_allclose(logits, said.logits.numpy(), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    "change", [{"window": WINDOW + 1}, {"global_every": 6}, {"global_rope_base": 1e4}, {"global_rope_scale": 1.0}]
)
def test_each_property_of_the_pattern_shows(text_model: tuple[Any, dict[str, Any]], change: dict[str, Any]) -> None:
    oracle, found = text_model
    tokens = np.random.default_rng(0).integers(0, VOCAB, (2, LENGTH))
    with torch.no_grad():
        want = oracle(torch.tensor(tokens), use_cache=False).logits.numpy()
    model = _gemma(LANGUAGE.depth, found)
    assert LANGUAGE.local is not None
    model.local = attrs.evolve(LANGUAGE.local, **change)
    where = jnp.broadcast_to(jnp.arange(LENGTH), tokens.shape)
    mask = jnp.broadcast_to(jnp.tril(jnp.ones((LENGTH, LENGTH), bool)), (2, LENGTH, LENGTH))
    out, _ = model(model.embed(jnp.asarray(tokens)), positions=where, mask=mask)
    assert np.abs(np.asarray(model.embedder.logits(out)) - want).max() > 1e-2


def test_a_cache_continues_the_sequence(text_model: tuple[Any, dict[str, Any]]) -> None:
    """Windows reach from new tokens into those that were seen."""
    from fla_models.attention import Seen

    _, found = text_model
    model = _gemma(LANGUAGE.depth, found)
    tokens = jnp.asarray(np.random.default_rng(1).integers(0, VOCAB, (2, LENGTH)))
    where = jnp.broadcast_to(jnp.arange(LENGTH), tokens.shape)
    mask = jnp.broadcast_to(jnp.tril(jnp.ones((LENGTH, LENGTH), bool)), (2, LENGTH, LENGTH))
    whole, _ = model(model.embed(tokens), positions=where, mask=mask)
    cut = 12
    keys, values = model.keys_and_values(
        model.embed(tokens[:, :cut]), positions=where[:, :cut], mask=mask[:, :cut, :cut]
    )
    seen = Seen(keys, values, jnp.ones((2, cut), bool), where[:, :cut])
    rest, _ = model(model.embed(tokens[:, cut:]), positions=where[:, cut:], mask=mask[:, cut:, cut:], seen=(seen,))
    np.testing.assert_allclose(rest, whole[:, cut:], rtol=1e-5, atol=1e-5)


def test_vision_and_language_together(tmp_path: Path) -> None:
    """An image, which sees itself both ways, and a text after it, through Gemma 3's own tower and projection."""
    from transformers import Gemma3Config, Gemma3ForConditionalGeneration

    per_image = 4
    settings: dict[str, Any] = {
        "text_config": TEXT,
        "vision_config": VISION,
        "mm_tokens_per_image": per_image,
        "image_token_id": VOCAB - 1,
        "attn_implementation": "eager",
    }
    config = Gemma3Config(**settings)
    oracle = shaken(Gemma3ForConditionalGeneration(config))
    oracle.save_pretrained(tmp_path)
    model = nnx.eval_shape(lambda: _Holder(CONFIG))
    found = weights(tmp_path, CONFIG)
    parameters.assign(model, {path: jnp.asarray(value) for path, value in found.items()})

    numbers = np.random.default_rng(2)
    image = numbers.uniform(-1, 1, (2, 16, 16, 3)).astype(np.float32)
    words = numbers.integers(0, VOCAB - 1, (2, 9))
    ids = np.concatenate([np.full((2, per_image), VOCAB - 1), words], axis=1)
    kinds = torch.tensor((ids == VOCAB - 1).astype(np.int64))
    with torch.no_grad():
        pixels = torch.tensor(image.transpose(0, 3, 1, 2))
        want = oracle(
            input_ids=torch.tensor(ids), pixel_values=pixels, token_type_ids=kinds, use_cache=False
        ).logits.numpy()
    inputs = ModelInput(
        images={"base_0_rgb": jnp.asarray(image)},
        image_masks={"base_0_rgb": np.ones(2, bool)},
        state=np.zeros((2, 1), np.float32),
        tokens=words,
        token_mask=np.ones(words.shape, bool),
    )
    out, _ = model.PaliGemma.read(inputs)
    np.testing.assert_allclose(model.PaliGemma.llm.embedder.logits(out), want, rtol=1e-4, atol=1e-4)


class _Holder(nnx.Module):
    def __init__(self, config: BackboneConfig) -> None:
        self.PaliGemma = PaliGemma(config, experts=1, rngs=nnx.Rngs(0))


def test_vision_tower(tmp_path: Path) -> None:
    from transformers import SiglipVisionConfig, SiglipVisionModel

    oracle = shaken(SiglipVisionModel(SiglipVisionConfig(**VISION)))
    oracle.save_pretrained(tmp_path)
    config = attrs.evolve(CONFIG, vision=attrs.evolve(CONFIG.vision, pool=None))
    found = weights(tmp_path, config)
    tower = nnx.eval_shape(lambda: _Holder(config)).PaliGemma.img
    own = {path.removeprefix("PaliGemma/img/"): jnp.asarray(value) for path, value in found.items()}
    shapes = parameters.flatten(tower)
    head = {path: jnp.zeros(shapes[path].shape) for path in shapes if path.startswith("head/")}
    parameters.assign(tower, own | head)
    image = np.random.default_rng(3).uniform(-1, 1, (2, 16, 16, 3)).astype(np.float32)
    with torch.no_grad():
        want = oracle(torch.tensor(image.transpose(0, 3, 1, 2))).last_hidden_state.numpy()
    tokens = tower.embedding(jnp.asarray(image)) + tower.pos_embedding[...]
    np.testing.assert_allclose(tower.Transformer(tokens), want, rtol=1e-4, atol=1e-4)


def test_parameters_of_the_published_size() -> None:
    """3,209,010,688 without embeddings, a SigLIP tower, and an expert of 859,082,752 (the counts are arithmetic)."""
    import math

    from fla_models.configs import pi06_variants
    from fla_models.pi0 import Pi0

    config = pi06_variants()["gemma3_4b"]
    shapes = parameters.flatten(nnx.eval_shape(lambda: Pi0(config, rngs=nnx.Rngs(0))))
    sizes = {path: math.prod(leaf.shape) for path, leaf in shapes.items()}
    embedding = sizes.pop("PaliGemma/llm/embedder/input_embedding")
    groups = {name: sum(n for path, n in sizes.items() if parameters.group(path) == name) for name in parameters.GROUPS}
    assert embedding == 262_144 * 2560
    assert groups["language"] == 3_209_010_688
    assert groups["action_expert"] == 859_082_752
    assert jax.tree.all(jax.tree.map(lambda leaf: leaf.dtype == jnp.float32, shapes))


def test_a_model_put_together(tmp_path: Path) -> None:
    """Language from Gemma 3, vision from PaliGemma, a projection and an expert of its own: and a report of each."""
    from transformers import Gemma3Config, Gemma3ForConditionalGeneration

    from fla_models.configs import Pi0Config
    from fla_sdk.errors import CheckpointError
    from fla_sdk.plugins import load_plugins
    from fla_sdk.policy import weights as loaded

    settings: dict[str, Any] = {"text_config": TEXT, "vision_config": VISION, "mm_tokens_per_image": 4}
    shaken(Gemma3ForConditionalGeneration(Gemma3Config(**settings))).save_pretrained(tmp_path / "gemma3")
    config = Pi0Config(
        pi05=True,
        vision=attrs.evolve(CONFIG.vision, pool=None),
        language=LANGUAGE,
        expert=attrs.evolve(LANGUAGE, width=16, mlp_dim=24),
        vocab_size=VOCAB,
        image_size=(16, 16),
        image_slots=("base_0_rgb",),
        action_dim=4,
        horizon=3,
        dtype="float32",
        tokenizer="words",
    )
    # PaliGemma's own projection is as wide as its language model.
    pali = attrs.evolve(
        CONFIG,
        vision=config.vision,
        language=GemmaConfig(width=20, depth=1, mlp_dim=8, heads=1, kv_heads=1, head_dim=4),
    )
    shapes = parameters.flatten(nnx.eval_shape(lambda: _Holder(pali)))
    numbers = np.random.default_rng(0)
    tree = {path: numbers.standard_normal(leaf.shape).astype(np.float32) for path, leaf in shapes.items()}
    file = tmp_path / "pt.npz"
    np.savez(file, allow_pickle=False, **{f"params/{p.removeprefix('PaliGemma/')}": leaf for p, leaf in tree.items()})

    registry = load_plugins()
    options: dict[str, Any] = {"seed": 0, "model": "pi06/mine", "registry": registry}
    fresh = ("action_expert", "projections", "PaliGemma/img/head/*")
    _, flat, report = loaded.load([tmp_path / "gemma3", file], registry.model("pi06"), config, fresh=fresh, **options)
    text = weights(tmp_path / "gemma3", CONFIG)
    for path, leaf in flat.items():
        if path.startswith("PaliGemma/img/"):
            assert np.array_equal(leaf, tree[path]) != path.startswith("PaliGemma/img/head/"), path
        elif parameters.group(path) == "language":
            np.testing.assert_array_equal(leaf, text[path], err_msg=path)
    assert {leaf.group for leaf in report.of("initialised")} == {"vision", "action_expert", "projections"}
    assert not report.of("resized")
    with pytest.raises(CheckpointError, match=r"(?s)head/kernel is \(24, 20\), pi06/mine has \(24, 32\)"):
        loaded.load([tmp_path / "gemma3", file], registry.model("pi06"), config, fresh=fresh[:2], **options)
    with pytest.raises(CheckpointError, match=r"vision: .* are missing .*--init-fresh vision"):
        loaded.load([tmp_path / "gemma3"], registry.model("pi06"), config, fresh=fresh[:2], **options)
