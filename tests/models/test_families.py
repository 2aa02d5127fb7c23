"""The families as plugins see them."""

import subprocess
import sys
from typing import Any

import attrs
import jax
import numpy as np
import pytest

from fla_embodiments.planar import fla_embodiments
from fla_models.configs import spec
from fla_models.parameters import GROUPS
from fla_models.plugin import fla_models
from fla_sdk import model as fla_model
from fla_sdk.codec import Codec, collate, collate_inputs
from fla_sdk.config import structure, unstructure
from fla_sdk.errors import ActionTokenError, ConfigError
from fla_sdk.normalization import NormStats, Stats
from fla_sdk.policy import parameters

FAMILIES = {family.name: family for family in fla_models()}


def test_names() -> None:
    assert {name: set(family.variants) for name, family in FAMILIES.items()} == {
        "pi0": {"base", "base_lora", "dummy", "tiny"},
        "pi05": {"base", "base_lora", "dummy", "tiny"},
        "pi06": {"gemma3_4b", "gemma3_4b_native", "tiny"},
        "pi0_fast": {"base", "base_lora", "dummy", "tiny"},
        "value": {"gemma3_270m", "tiny"},
    }


def test_specs() -> None:
    pi0, pi05 = spec(FAMILIES["pi0"].variants["base"]), spec(FAMILIES["pi05"].variants["base"])
    assert (pi0.prompt_style, pi0.normalization, pi0.max_tokens) == ("pi0", "zscore", 48)
    assert (pi05.prompt_style, pi05.normalization, pi05.max_tokens) == ("pi05", "quantile", 200)
    assert (pi05.action_dim, pi05.horizon, pi05.image_size) == (32, 50, (224, 224))
    stateless = attrs.evolve(FAMILIES["pi05"].variants["base"], state_in_prompt=False)
    assert spec(stateless).prompt_style == "pi0"


@pytest.mark.parametrize("name", FAMILIES)
def test_configs_survive_plain_data(name: str) -> None:
    for config in FAMILIES[name].variants.values():
        assert structure(unstructure(config), type(config), where=name) == config


@pytest.mark.parametrize("name", FAMILIES)
def test_tiny_is_small_and_learns_and_answers(name: str) -> None:
    """Through the codec, as training and serving do it, with a robot of our own."""
    family = FAMILIES[name]
    config = family.variants["tiny"]
    model_spec = family.spec(config)
    graph, flat = parameters.initialise(lambda: family.build(config, 0))
    assert 2e5 < sum(leaf.size for leaf in flat.values()) < 1.5e6
    assert set(map(family.group, flat)) <= set(GROUPS)
    robot = next(iter(fla_embodiments()))
    plain = {
        kind: Stats(mean=np.zeros(n), std=np.ones(n), q01=-np.ones(n), q99=np.ones(n))
        for kind, n in (("state", robot.state.width), ("actions", robot.action.width))
    }
    codec = Codec(
        embodiment=robot,
        spec=model_spec,
        stats=NormStats(state=plain["state"], actions=plain["actions"]),
        tokenizer=family.tokenizer(config),
    )
    steps, width = model_spec.horizon, robot.action.width
    sample = attrs.evolve(
        robot.observe(robot.example_observation()), actions=np.full((steps, width), 0.3), advantage=True, returns=-0.5
    )
    batch = collate([codec.encode_example(sample)] * 2)

    @jax.jit
    def loss_and_gradient(flat: dict[str, Any], rng: Any) -> Any:
        return jax.value_and_grad(lambda f: parameters.merge(graph, f).loss(rng, batch).steps.mean())(flat)

    first, gradient = loss_and_gradient(flat, jax.random.key(0))
    assert np.isfinite(first) and any(leaf.any() for leaf in gradient.values())
    if name == "value":
        return
    rest = fla_model.action_prefix(np.zeros((4, model_spec.action_dim)), delay=2, horizon=steps)
    inputs = collate_inputs([codec.encode(attrs.evolve(sample, actions=None))])
    extra: dict[str, Any] = {} if model_spec.action_tokens == "sampled" else {"prefix": rest, "guidance": 1.5}
    answer = jax.jit(lambda f: parameters.merge(graph, f).sample(jax.random.key(0), inputs, steps=2, **extra))(flat)
    assert answer.shape[0] == 1
    if model_spec.action_tokens == "sampled":
        codes = codec.encode_example(sample).inputs
        written = np.asarray(codes.tokens)[np.asarray(codes.token_ar)]
        np.testing.assert_allclose(codec.decode(written, sample.state), np.full((steps, width), 0.3), atol=0.01)
        with pytest.raises(ActionTokenError):
            codec.decode(np.asarray(answer)[0], sample.state)
    else:
        assert codec.decode(np.asarray(answer)[0], sample.state).shape == (steps, width)


def test_experts_must_agree() -> None:
    config = FAMILIES["pi0"].variants["dummy"]
    with pytest.raises(ConfigError, match=r"language\.heads is 8, expert\.heads is 4"):
        attrs.evolve(config, expert=attrs.evolve(config.expert, heads=4))


def test_the_plugin_loads_neither_jax_nor_flax() -> None:
    code = "import sys, fla_models.plugin as p; list(p.fla_models()); print({'jax', 'flax'} & set(sys.modules))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=300)
    assert found.stdout.strip() == "set()"
