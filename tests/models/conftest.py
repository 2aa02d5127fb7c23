"""A Pi0 or Pi0.5 so small that it compiles in a moment, and a batch for it."""

from typing import Any

import attrs
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from fla_models import parameters
from fla_models.configs import GemmaConfig, Pi0Config, SiglipConfig
from fla_models.pi0 import Pi0
from fla_sdk.model import Batch, ModelInput


class Quick:
    """A model whose methods are compiled without optimisations, which cost more than they save for one call."""

    def __init__(self, model: Pi0) -> None:
        self.model, self.config = model, model.config

    def __getattr__(self, name: str) -> Any:
        graph, state = nnx.split(self.model)
        options = {"xla_backend_optimization_level": 0}

        def call(*arguments: Any, **named: Any) -> Any:
            run = jax.jit(lambda s: getattr(nnx.merge(graph, s), name)(*arguments, **named), compiler_options=options)
            return run(state)

        return call


class Small:
    """Configs, models and batches of the same small dimensions."""

    slots = ("base_0_rgb", "left_wrist_0_rgb")
    gemma = GemmaConfig(width=16, depth=2, mlp_dim=24, heads=2, kv_heads=1, head_dim=8)
    actions = 4
    horizon = 3

    def config(self, *, pi05: bool, **changes: Any) -> Pi0Config:
        config = Pi0Config(
            pi05=pi05,
            vision=SiglipConfig(width=16, depth=1, mlp_dim=24, heads=2, patch=4),
            language=self.gemma,
            expert=attrs.evolve(self.gemma, width=12),
            vocab_size=64,
            action_dim=self.actions,
            horizon=self.horizon,
            max_tokens=8,
            image_size=(8, 8),
            image_slots=self.slots,
            dtype="float32",
            remat="nothing",
        )
        return attrs.evolve(config, **changes)

    def abstract(self, config: Pi0Config) -> Pi0:
        return nnx.eval_shape(lambda: Pi0(config, rngs=nnx.Rngs(0)))

    def model(self, config: Pi0Config) -> Pi0:
        """One in which nothing is zero: fresh adaptive norms would let the expert ignore its input."""
        model = self.abstract(config)
        numbers = np.random.default_rng(1)
        leaves = parameters.flatten(model)
        parameters.assign(
            model, {path: jnp.asarray(0.2 * numbers.standard_normal(v.shape, np.float32)) for path, v in leaves.items()}
        )
        return model

    def quick(self, config: Pi0Config) -> Quick:
        """`model(config)`, for a few calls."""
        return Quick(self.model(config))

    def batch(self, size: int = 2, *, slots: tuple[str, ...] = slots, horizon: int = horizon) -> Batch:
        numbers = np.random.default_rng(0)
        inputs = ModelInput(
            images={slot: numbers.integers(0, 256, (size, 8, 8, 3), np.uint8) for slot in slots},
            image_masks={slot: np.ones(size, bool) for slot in slots},
            state=numbers.standard_normal((size, self.actions), np.float32),
            tokens=numbers.integers(4, 64, (size, 5), np.int32),
            token_mask=np.ones((size, 5), bool),
        )
        actions = numbers.standard_normal((size, horizon, self.actions), np.float32)
        return Batch(inputs, actions, np.ones((size, self.actions), bool), np.ones((size, horizon), bool))


@pytest.fixture(scope="session")
def small() -> Small:
    return Small()


@pytest.fixture(autouse=True)
def _compiled_once(compiled: None) -> None:
    """Small models called outside `jit` would compile their layers anew at every call."""
