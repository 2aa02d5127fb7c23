"""Full-size parameter trees, what LoRA freezes in them, and the rule that fills small models."""

from typing import Any

import numpy as np
import pytest
from flax import nnx

from fla_models import parameters
from fla_models.configs import (
    GemmaConfig,
    LoraConfig,
    Pi0Config,
    Pi0FastConfig,
    SiglipConfig,
    fast_variants,
    variants,
)
from fla_models.pi0 import Pi0
from fla_models.pi0_fast import Pi0Fast
from fla_models.plugin import fla_models
from fla_sdk.cli.models import parameter_counts

Tree = dict[str, tuple[list[int], str]]
PUBLISHED = {
    "pi0": variants(pi05=False)["base"],
    "pi05": variants(pi05=True)["base"],
    "pi0_lora": variants(pi05=False)["base_lora"],
    "pi05_lora": variants(pi05=True)["base_lora"],
    "pi0_fast": fast_variants()["base"],
    "pi0_fast_lora": fast_variants()["base_lora"],
}


def _expert(tree: Tree, suffix: str) -> GemmaConfig:
    layers = "PaliGemma/llm/layers"
    depth, heads, width, head_dim = tree[f"{layers}/attn/q_einsum{suffix}/w"][0]
    adapters = (f"{layers}/attn/q_einsum{suffix}/lora_a", f"{layers}/mlp{suffix}/linear_lora_a")
    attention, mlp = (LoraConfig(rank=tree[a][0][-1]) if a in tree else None for a in adapters)
    return GemmaConfig(
        width=width,
        depth=depth,
        mlp_dim=tree[f"{layers}/mlp{suffix}/linear"][0][1],
        heads=heads,
        kv_heads=tree[f"{layers}/attn/kv_einsum{suffix}/w"][0][2],
        head_dim=head_dim,
        lora_attention=attention,
        lora_mlp=mlp,
    )


def _config(tree: Tree) -> Pi0Config | Pi0FastConfig:
    """The config of a tree that is none of the published ones, from some of its shapes."""
    block = "PaliGemma/img/Transformer/encoderblock"
    depth, width, heads, _ = tree[f"{block}/MultiHeadDotProductAttention_0/query/kernel"][0]
    vision = SiglipConfig(
        width=width,
        depth=depth,
        mlp_dim=tree[f"{block}/MlpBlock_0/Dense_0/kernel"][0][2],
        heads=heads,
        patch=tree["PaliGemma/img/embedding/kernel"][0][0],
    )
    language, vocab_size = _expert(tree, ""), tree["PaliGemma/llm/embedder/input_embedding"][0][0]
    if "action_in_proj/kernel" not in tree:
        return Pi0FastConfig(vision=vision, language=language, vocab_size=vocab_size)
    return Pi0Config(
        pi05="state_proj/kernel" not in tree,
        vision=vision,
        language=language,
        expert=_expert(tree, "_1"),
        vocab_size=vocab_size,
        action_dim=tree["action_in_proj/kernel"][0][0],
    )


def _abstract(config: Pi0Config | Pi0FastConfig) -> dict[str, Any]:
    def build() -> Pi0 | Pi0Fast:
        rngs = nnx.Rngs(0)
        return Pi0(config, rngs=rngs) if isinstance(config, Pi0Config) else Pi0Fast(config, rngs=rngs)

    return parameters.flatten(nnx.eval_shape(build))


@pytest.fixture(scope="module")
def trees(golden: Any) -> dict[str, Tree]:
    return golden.json("param_trees")["trees"]


def test_full_size_trees_and_frozen_paths(golden: Any, trees: dict[str, Tree]) -> None:
    counts, frozen_paths = golden.json("param_trees")["num_params"], golden.json("frozen_paths")
    assert trees
    for name, tree in trees.items():
        config = PUBLISHED.get(name) or _config(tree)
        leaves = _abstract(config)
        assert {path: [list(leaf.shape), str(leaf.dtype)] for path, leaf in leaves.items()} == tree, name
        assert sum(leaf.size for leaf in leaves.values()) == counts[name], name
        frozen = [path for path in leaves if parameters.group(path) in parameters.frozen_by_lora(config)]
        assert sorted(frozen) == sorted(frozen_paths[name]), name


def test_fla_models_counts_what_the_reference_has(golden: Any) -> None:
    counts = golden.json("param_trees")["num_params"]
    families = {family.name: family for family in fla_models()}
    for name in PUBLISHED.keys() & counts.keys():
        variant = "base_lora" if name.endswith("_lora") else "base"
        assert sum(parameter_counts(families[name.removesuffix("_lora")], variant).values()) == counts[name], name


def test_configs_follow_from_trees(trees: dict[str, Tree]) -> None:
    """So that trees of other sets, which no variant of ours has, are compared with the right model."""
    for name in trees.keys() & PUBLISHED.keys():
        leaves = _abstract(_config(trees[name]))
        assert {path: list(leaf.shape) for path, leaf in leaves.items()} == {p: s for p, (s, _) in trees[name].items()}


def test_fill_rule(golden: Any) -> None:
    """What the model tests put into the parameters is what the reference run had there."""
    models = golden.json("fill_check")["models"]
    assert models
    for leaves in models.values():
        for path, leaf in leaves.items():
            value = golden.fill(path, tuple(leaf["shape"]))
            first = value.ravel()[:4]
            np.testing.assert_array_equal(first, np.asarray(leaf["first4"], np.float32)[: first.size], err_msg=path)
            assert value.sum(dtype=np.float64) == pytest.approx(leaf["sum64"], rel=1e-9, abs=1e-9), path
