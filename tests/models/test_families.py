"""The families as plugins see them."""

import subprocess
import sys

import attrs
import cattrs
import pytest

from fla_models.configs import Pi0Config, spec, variants
from fla_models.plugin import fla_models
from fla_sdk.errors import ConfigError
from fla_sdk.model import ActionModel

FAMILIES = {family.name: family for family in fla_models()}


def test_names() -> None:
    assert sorted(FAMILIES) == ["pi0", "pi05", "pi06", "pi0_fast"]
    for family in FAMILIES.values():
        assert {"base", "base_lora", "dummy", "tiny"} <= set(family.variants)


def test_specs() -> None:
    pi0, pi05 = spec(FAMILIES["pi0"].variants["base"]), spec(FAMILIES["pi05"].variants["base"])
    assert (pi0.prompt_style, pi0.normalization, pi0.max_tokens) == ("pi0", "zscore", 48)
    assert (pi05.prompt_style, pi05.normalization, pi05.max_tokens) == ("pi05", "quantile", 200)
    assert (pi05.action_dim, pi05.horizon, pi05.image_size) == (32, 50, (224, 224))
    stateless = attrs.evolve(FAMILIES["pi05"].variants["base"], state_in_prompt=False)
    assert spec(stateless).prompt_style == "pi0"


@pytest.mark.parametrize("pi05", [False, True])
def test_configs_survive_plain_data(pi05: bool) -> None:
    for config in variants(pi05=pi05).values():
        assert cattrs.structure(cattrs.unstructure(config), Pi0Config) == config


def test_tiny_is_small_and_builds() -> None:
    family = FAMILIES["pi05"]
    config = family.variants["tiny"]
    model: ActionModel = family.build(config, 0)
    from fla_models import parameters

    assert 3e5 < sum(v.size for v in parameters.flatten(model).values()) < 1.5e6  # type: ignore[arg-type]
    assert family.tokenizer(config).encode("reach the red target")


def test_experts_must_agree() -> None:
    config = FAMILIES["pi0"].variants["dummy"]
    with pytest.raises(ConfigError, match=r"language\.heads is 8, expert\.heads is 4"):
        attrs.evolve(config, expert=attrs.evolve(config.expert, heads=4))


def test_the_plugin_loads_neither_jax_nor_flax() -> None:
    code = "import sys, fla_models.plugin as p; list(p.fla_models()); print({'jax', 'flax'} & set(sys.modules))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert found.stdout.strip() == "set()"
