"""Weights that transformers wrote, under every prefix that files have, read into our paths."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import attrs
import ml_dtypes
import numpy as np
import pytest

from fla_models.configs import BackboneConfig, GemmaConfig, LocalAttention, SiglipConfig
from fla_models.formats import torch_names
from fla_models.formats.huggingface import read_weights
from fla_models.formats.safetensors import Tensors
from fla_sdk.errors import CheckpointError

VOCAB, PADDED = 70, 75
GEMMA3 = BackboneConfig(
    vision=SiglipConfig(width=16, depth=2, mlp_dim=24, heads=2, patch=4, pool=2),
    language=GemmaConfig(
        width=20,
        depth=3,
        mlp_dim=28,
        heads=4,
        kv_heads=2,
        head_dim=8,
        local=LocalAttention(),
        qk_norm=True,
        post_norms=True,
    ),
    vocab_size=VOCAB,
    image_size=(16, 16),
)
PALIGEMMA = attrs.evolve(
    GEMMA3,
    vision=attrs.evolve(GEMMA3.vision, pool=None),
    language=GemmaConfig(width=20, depth=3, mlp_dim=28, heads=4, kv_heads=1, head_dim=8),
)
PUBLISHED = {
    "published": "language_model.model.",
    "newer": "model.language_model.",
    "text only": "model.",
}


def _text(config: BackboneConfig) -> dict[str, Any]:
    c = config.language
    return {
        "hidden_size": c.width,
        "intermediate_size": c.mlp_dim,
        "num_hidden_layers": c.depth,
        "num_attention_heads": c.heads,
        "num_key_value_heads": c.kv_heads,
        "head_dim": c.head_dim,
        "vocab_size": PADDED,
    }


VISION: dict[str, Any] = {
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "patch_size": 4,
    "image_size": 16,
}


@pytest.fixture(scope="module")
def gemma3() -> Any:
    """transformers' own Gemma 3, tiny and random: norm weights too, which it starts at zero."""
    from transformers import Gemma3Config, Gemma3ForConditionalGeneration

    config = cast(Any, Gemma3Config)(text_config=_text(GEMMA3), vision_config=VISION, mm_tokens_per_image=4)
    return _randomised(Gemma3ForConditionalGeneration(config))


@pytest.fixture(scope="module")
def paligemma() -> Any:
    from transformers import PaliGemmaConfig, PaliGemmaForConditionalGeneration

    text = _text(PALIGEMMA) | {"model_type": "gemma"}
    config = cast(Any, PaliGemmaConfig)(text_config=text, vision_config=VISION, projection_dim=20)
    return _randomised(PaliGemmaForConditionalGeneration(config))


def _randomised(model: Any) -> Any:
    import torch

    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_()
    return model


def _arrays(model: Any) -> dict[str, np.ndarray]:
    """Parameters by the names that transformers 5 has for them in memory."""
    return {name: parameter.detach().numpy() for name, parameter in model.named_parameters()}


def _write(folder: Path, model: Any, *, prefix: str, dtype: Any = np.float32) -> Path:
    """The model as a file whose language model has `prefix`."""
    from safetensors.numpy import save_file

    def rename(name: str) -> str:
        name = re.sub(r"^model\.language_model\.", prefix, name)
        return name if prefix == PUBLISHED["newer"] else re.sub(r"^model\.(?=vision|multi)", "", name)

    arrays = {rename(name): array.astype(dtype) for name, array in _arrays(model).items()}
    if prefix == PUBLISHED["text only"]:
        arrays = {name: array for name, array in arrays.items() if "vision" not in name and "multi" not in name}
    save_file(
        {"language_model.lm_head.weight": np.zeros((PADDED, 20), np.float32), **arrays}, folder / "model.safetensors"
    )
    return folder


def _same_function(ours: dict[str, Any], theirs: dict[str, np.ndarray], config: BackboneConfig) -> None:
    """Compare by what the arrays compute with a random input, not by how they are laid out."""
    numbers = np.random.default_rng(0)
    c, llm = config.language, "PaliGemma/llm/"
    x = numbers.standard_normal((5, c.width), np.float32)
    h = numbers.standard_normal((5, c.mlp_dim), np.float32)
    heads = numbers.standard_normal((5, c.heads, c.head_dim), np.float32)
    root = "model.language_model."
    np.testing.assert_array_equal(ours[f"{llm}embedder/input_embedding"], theirs[f"{root}embed_tokens.weight"][:VOCAB])
    np.testing.assert_array_equal(ours[f"{llm}final_norm/scale"], theirs[f"{root}norm.weight"])
    for i in range(c.depth):
        layer = {
            n.removeprefix(f"{root}layers.{i}."): a for n, a in theirs.items() if n.startswith(f"{root}layers.{i}.")
        }
        own = {p.removeprefix(f"{llm}layers/"): a[i] for p, a in ours.items() if p.startswith(f"{llm}layers/")}
        keys, values = np.einsum("bd,nkdh->nbkh", x, own["attn/kv_einsum/w"])
        for got, name in (
            (np.einsum("bd,ndh->bnh", x, own["attn/q_einsum/w"]), "q"),
            (keys, "k"),
            (values, "v"),
        ):
            np.testing.assert_allclose(
                got.reshape(5, -1), x @ layer[f"self_attn.{name}_proj.weight"].T, rtol=1e-4, atol=1e-4
            )
        out = np.einsum("bnh,nhd->bd", heads, own["attn/attn_vec_einsum/w"])
        np.testing.assert_allclose(out, heads.reshape(5, -1) @ layer["self_attn.o_proj.weight"].T, rtol=1e-4, atol=1e-4)
        for j, name in enumerate(("gate", "up")):
            np.testing.assert_array_equal(own["mlp/gating_einsum"][j], layer[f"mlp.{name}_proj.weight"].T)
        np.testing.assert_allclose(h @ own["mlp/linear"], h @ layer["mlp.down_proj.weight"].T, rtol=1e-4, atol=1e-4)
        norms = {"pre_attention_norm": "input_layernorm", "pre_ffw_norm": "post_attention_layernorm"}
        if c.post_norms:
            norms |= {
                "post_attention_norm": "post_attention_layernorm",
                "pre_ffw_norm": "pre_feedforward_layernorm",
                "post_ffw_norm": "post_feedforward_layernorm",
                "attn/q_norm": "self_attn.q_norm",
                "attn/k_norm": "self_attn.k_norm",
            }
        for name, other in norms.items():
            np.testing.assert_array_equal(own[f"{name}/scale"], layer[f"{other}.weight"])


def _same_vision(ours: dict[str, Any], theirs: dict[str, np.ndarray], config: BackboneConfig) -> None:
    import torch

    c, img, root = config.vision, "PaliGemma/img/", "model.vision_tower.vision_model."
    x = np.random.default_rng(0).standard_normal((5, c.width), np.float32)
    pixels = np.random.default_rng(1).standard_normal((1, 16, 16, 3), np.float32)
    patches = pixels.reshape(1, 4, 4, 4, 4, 3).transpose(0, 1, 3, 2, 4, 5).reshape(16, -1)
    weight = torch.tensor(theirs[f"{root}embeddings.patch_embedding.weight"])
    want = torch.nn.functional.conv2d(torch.tensor(pixels.transpose(0, 3, 1, 2)), weight, stride=4)
    got = patches @ ours[f"{img}embedding/kernel"].reshape(-1, c.width)
    np.testing.assert_allclose(got, want.flatten(2)[0].T.numpy(), rtol=1e-4, atol=1e-4)
    np.testing.assert_array_equal(ours[f"{img}pos_embedding"][0], theirs[f"{root}embeddings.position_embedding.weight"])
    block = f"{img}Transformer/encoderblock/"
    for i in range(c.depth):
        layer = {n.removeprefix(f"{root}encoder.layers.{i}."): a for n, a in theirs.items()}
        attention = {p.split("Attention_0/")[1]: a[i] for p, a in ours.items() if "Attention_0" in p}
        for name in ("query", "key", "value"):
            got = np.einsum("bw,wnh->bnh", x, attention[f"{name}/kernel"]) + attention[f"{name}/bias"]
            short = f"self_attn.{name[0]}_proj"
            want = x @ layer[f"{short}.weight"].T + layer[f"{short}.bias"]
            np.testing.assert_allclose(got.reshape(5, -1), want, rtol=1e-4, atol=1e-4)
        got = np.einsum("bnh,nhw->bw", x.reshape(5, c.heads, -1), attention["out/kernel"])
        np.testing.assert_allclose(got, x @ layer["self_attn.out_proj.weight"].T, rtol=1e-4, atol=1e-4)
        np.testing.assert_array_equal(ours[f"{block}MlpBlock_0/Dense_0/kernel"][i], layer["mlp.fc1.weight"].T)
        np.testing.assert_array_equal(ours[f"{block}MlpBlock_0/Dense_1/kernel"][i], layer["mlp.fc2.weight"].T)
        np.testing.assert_array_equal(ours[f"{block}LayerNorm_1/bias"][i], layer["layer_norm2.bias"])
    np.testing.assert_array_equal(ours[f"{img}Transformer/encoder_norm/scale"], theirs[f"{root}post_layernorm.weight"])


@pytest.mark.parametrize("prefix", PUBLISHED.values(), ids=PUBLISHED.keys())
def test_gemma_3_under_every_prefix(gemma3: Any, prefix: str, tmp_path: Path) -> None:
    flat = read_weights(_write(tmp_path, gemma3, prefix=prefix), GEMMA3)
    assert flat is not None
    theirs = _arrays(gemma3)
    _same_function(flat, theirs, GEMMA3)
    if prefix == PUBLISHED["text only"]:
        assert not any("/img/" in path for path in flat)
        return
    _same_vision(flat, theirs, GEMMA3)
    projector = "model.multi_modal_projector."
    np.testing.assert_array_equal(
        flat["PaliGemma/img/projection/kernel"], theirs[f"{projector}mm_input_projection_weight"]
    )
    np.testing.assert_array_equal(flat["PaliGemma/img/soft_norm/scale"], theirs[f"{projector}mm_soft_emb_norm.weight"])


def test_what_transformers_itself_saves_and_shards(gemma3: Any, tmp_path: Path) -> None:
    gemma3.save_pretrained(tmp_path / "one")
    gemma3.save_pretrained(tmp_path / "shards", max_shard_size="20KB")
    assert (tmp_path / "shards" / "model.safetensors.index.json").exists()
    one, shards = (read_weights(tmp_path / name, GEMMA3) for name in ("one", "shards"))
    assert one is not None and shards is not None
    _same_function(one, _arrays(gemma3), GEMMA3)
    assert one.keys() == shards.keys()
    assert all(np.array_equal(one[path], shards[path]) for path in one)


def test_paligemma(paligemma: Any, tmp_path: Path) -> None:
    flat = read_weights(_write(tmp_path, paligemma, prefix=PUBLISHED["newer"]), PALIGEMMA)
    assert flat is not None
    theirs = _arrays(paligemma)
    _same_function(flat, theirs, PALIGEMMA)
    _same_vision(flat, theirs, PALIGEMMA)
    linear = "model.multi_modal_projector.linear"
    np.testing.assert_array_equal(flat["PaliGemma/img/head/kernel"], theirs[f"{linear}.weight"].T)
    np.testing.assert_array_equal(flat["PaliGemma/img/head/bias"], theirs[f"{linear}.bias"])


def test_every_parameter_of_the_model_is_read_in_its_shape(gemma3: Any, tmp_path: Path) -> None:
    from flax import nnx

    from fla_models.paligemma import PaliGemma

    model = nnx.eval_shape(lambda: PaliGemma(GEMMA3, experts=1, rngs=nnx.Rngs(0)))
    flat = nnx.to_flat_state(nnx.state(model, nnx.Param))
    expected = {"PaliGemma/" + "/".join(map(str, path)): v.get_value().shape for path, v in flat}
    got = read_weights(_write(tmp_path, gemma3, prefix=PUBLISHED["published"]), GEMMA3)
    assert got is not None
    assert {path: array.shape for path, array in got.items()} == expected


def test_a_tower_behind_another_projection_is_left_out(gemma3: Any, tmp_path: Path) -> None:
    plain = attrs.evolve(GEMMA3, vision=PALIGEMMA.vision)
    flat = read_weights(_write(tmp_path, gemma3, prefix=PUBLISHED["published"]), plain)
    assert flat is not None
    assert not any("/img/" in path for path in flat)


def test_siglip_alone(paligemma: Any, tmp_path: Path) -> None:
    from safetensors.numpy import save_file

    theirs = _arrays(paligemma)
    start = "model.vision_tower."
    tower = {name.removeprefix(start): a for name, a in theirs.items() if name.startswith(start)}
    other = {
        "text_model.embeddings.position_embedding.weight": np.ones(3, np.float32),
        "logit_scale": np.ones(1, np.float32),
    }
    save_file(tower | other, tmp_path / "siglip.safetensors")
    flat = read_weights(tmp_path / "siglip.safetensors", PALIGEMMA)
    assert flat is not None
    _same_vision(flat, theirs, PALIGEMMA)
    assert all(path.startswith("PaliGemma/img/") for path in flat)


def test_types_are_those_of_the_file(gemma3: Any, tmp_path: Path) -> None:
    flat = read_weights(_write(tmp_path, gemma3, prefix="model.", dtype=ml_dtypes.bfloat16), GEMMA3)
    assert flat is not None
    assert {array.dtype for array in flat.values()} == {np.dtype(ml_dtypes.bfloat16)}
    scale = _arrays(gemma3)["model.language_model.norm.weight"].astype(ml_dtypes.bfloat16)
    np.testing.assert_array_equal(flat["PaliGemma/llm/final_norm/scale"], scale)


def test_other_files_are_not_ours(tmp_path: Path) -> None:
    from safetensors.numpy import save_file

    save_file({"PaliGemma/llm/final_norm/scale": np.zeros(3, np.float32)}, tmp_path / "ours.safetensors")
    (tmp_path / "notes.txt").write_text("no weights")
    assert read_weights(tmp_path / "ours.safetensors", GEMMA3) is None
    assert read_weights(tmp_path / "notes.txt", GEMMA3) is None
    assert read_weights(tmp_path, GEMMA3) is None


def _damage(change: Callable[[dict[str, np.ndarray]], None]) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        from safetensors.numpy import load_file, save_file

        arrays = load_file(folder / "model.safetensors")
        change(arrays)
        save_file(arrays, folder / "model.safetensors")

    return damage


def _truncate(folder: Path) -> None:
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-1000])


def _garble(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes(b"<html>not found</html>")


def _lose_shard(folder: Path) -> None:
    names = Tensors.open(folder)
    assert names is not None
    index = {"weight_map": dict.fromkeys(names.places, "model-00001-of-00002.safetensors")}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


def _drop_layer(arrays: dict[str, np.ndarray]) -> None:
    for name in [name for name in arrays if ".layers.1." in name and "language" in name]:
        del arrays[name]


def _drop_one(arrays: dict[str, np.ndarray]) -> None:
    del arrays["language_model.model.layers.2.self_attn.v_proj.weight"]


def _add_layer(arrays: dict[str, np.ndarray]) -> None:
    for name in [name for name in arrays if ".layers.2." in name and "language" in name]:
        arrays[name.replace(".2.", ".3.")] = arrays[name]


def _add_bias(arrays: dict[str, np.ndarray]) -> None:
    arrays["language_model.model.layers.0.self_attn.q_proj.bias"] = np.zeros(3, np.float32)


def _widen(arrays: dict[str, np.ndarray]) -> None:
    for i in range(3):
        arrays[f"language_model.model.layers.{i}.mlp.down_proj.weight"] = np.zeros((20, 30), np.float32)


def _quantize(arrays: dict[str, np.ndarray]) -> None:
    arrays["language_model.model.norm.weight"] = np.zeros(20, np.int8)


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (_truncate, r"model\.safetensors cannot be read.*cut short at [\d,]+ bytes"),
        (_garble, r"model\.safetensors cannot be read"),
        (_lose_shard, r"model-00001-of-00002\.safetensors cannot be read.*missing"),
        (_damage(_drop_layer), r"holds 2 of 3 layers under language_model\.layers\.; missing: 1"),
        (_damage(_drop_one), r"has 5 of the 6 arrays that make .*kv_einsum/w; missing: .*2\.self_attn\.v_proj"),
        (_damage(_add_layer), r"holds 4 layers under language_model\.layers\., the model has 3"),
        (_damage(_add_bias), r"no place for: language_model\.model\.layers\.0\.self_attn\.q_proj\.bias"),
        (_damage(_widen), r"mlp\.down_proj\.weight has shape \(20, 30\).*needs \(20, 28\)"),
        (_damage(_quantize), r"norm\.weight is of type I8"),
    ],
)
def test_damage_is_named(gemma3: Any, damage: Callable[[Path], None], says: str, tmp_path: Path) -> None:
    _write(tmp_path, gemma3, prefix=PUBLISHED["published"])
    damage(tmp_path)
    with pytest.raises(CheckpointError, match=says):
        read_weights(tmp_path, GEMMA3)


def test_two_arrays_of_one_name_are_refused(tmp_path: Path) -> None:
    from safetensors.numpy import save_file

    table = np.zeros((3, 2), np.float32)
    save_file(
        {"model.embed_tokens.weight": table, "language_model.embed_tokens.weight": table}, tmp_path / "two.safetensors"
    )
    with pytest.raises(CheckpointError, match=r"twice: as .*embed_tokens"):
        read_weights(tmp_path / "two.safetensors", GEMMA3)


def test_names_find_their_tower() -> None:
    for name, want in (
        ("model.layers.0.mlp.up_proj.weight", "language_model.layers.0.mlp.up_proj.weight"),
        ("model.language_model.model.norm.weight", "language_model.norm.weight"),
        ("model.vision_tower.vision_model.post_layernorm.bias", "vision_tower.post_layernorm.bias"),
        ("vision_model.post_layernorm.bias", "vision_tower.post_layernorm.bias"),
        ("model.multi_modal_projector.linear.bias", "multi_modal_projector.linear.bias"),
        ("lm_head.weight", "lm_head.weight"),
    ):
        assert torch_names.tower(name) == want
