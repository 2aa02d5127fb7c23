"""A Pi0 and a Pi0.5 as small as they come, in a lerobot that would build them."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import pytest
from flax import nnx

from fla_models.configs import GemmaConfig, Pi0Config, SiglipConfig
from fla_models.formats import lerobot
from fla_models.parameters import flatten
from fla_models.pi0 import Pi0

LANGUAGE = GemmaConfig(width=24, depth=3, mlp_dim=28, heads=2, kv_heads=1, head_dim=8)
TINY = Pi0Config(
    pi05=False,
    vision=SiglipConfig(width=16, depth=2, mlp_dim=20, heads=2, patch=4),
    language=LANGUAGE,
    expert=attrs.evolve(LANGUAGE, width=16, mlp_dim=12),
    vocab_size=130,
    action_dim=5,
    horizon=6,
    max_tokens=60,
    image_size=(8, 8),
    dtype="float32",
)


@pytest.fixture(params=[False, True], ids=["pi0", "pi05"])
def config(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Pi0Config:
    """With our tables of what lerobot can build patched to hold it: the real one builds only full sizes."""
    monkeypatch.setattr(lerobot, "EXPERTS", {"gemma_2b": TINY.language, "gemma_300m": TINY.expert})
    monkeypatch.setattr(lerobot, "TOWER", TINY.vision)
    monkeypatch.setattr(lerobot, "PALIGEMMA_VOCAB", TINY.vocab_size)
    return attrs.evolve(TINY, pi05=request.param)


@pytest.fixture(scope="session")
def golden_trees() -> dict[str, dict[str, Any]]:
    """Model -> path -> shape and type of every parameter at the published sizes, as openpi has them."""
    file = Path(__file__).parents[2] / "parity" / "golden" / "param_trees.json"
    return json.loads(file.read_text())["trees"]


@pytest.fixture
def random_parameters() -> Callable[[Pi0Config], dict[str, Any]]:
    """Nothing is zero: fresh adaptive norms would let the expert ignore its input."""

    def make(config: Pi0Config) -> dict[str, Any]:
        numbers = np.random.default_rng(1)
        leaves = flatten(nnx.eval_shape(lambda: Pi0(config, rngs=nnx.Rngs(0))))
        return {path: 0.3 * numbers.standard_normal(leaf.shape, np.float32) for path, leaf in leaves.items()}

    return make
