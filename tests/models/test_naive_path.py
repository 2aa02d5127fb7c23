"""The split into two passes computes what one joint pass computes: `tests/bench/naive.py` is the other way."""

import runpy
from pathlib import Path
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

NAIVE = runpy.run_path(str(Path(__file__).parents[1] / "bench" / "naive.py"))
QUICK = {"xla_backend_optimization_level": 0}
LANGUAGE = GemmaConfig(width=32, depth=3, mlp_dim=48, heads=4, kv_heads=1, head_dim=8)
SLOTS = ("base_0_rgb", "left_wrist_0_rgb", "right_wrist_0_rgb")


def _config(*, pi05: bool) -> Pi0Config:
    return Pi0Config(
        pi05=pi05,
        vision=SiglipConfig(width=16, depth=2, mlp_dim=24, heads=2, patch=4),
        language=LANGUAGE,
        expert=attrs.evolve(LANGUAGE, width=24),
        vocab_size=64,
        action_dim=4,
        horizon=5,
        max_tokens=12,
        image_size=(8, 8),
        dtype="float32",
        remat="nothing",
    )


def _leaves(config: Pi0Config) -> dict[str, jax.Array]:
    numbers = np.random.default_rng(3)
    shapes = parameters.flatten(nnx.eval_shape(lambda: Pi0(config, rngs=nnx.Rngs(0))))
    return {path: jnp.asarray(0.2 * numbers.standard_normal(leaf.shape, np.float32)) for path, leaf in shapes.items()}


def _graph(build: Any) -> Any:
    return nnx.split(nnx.eval_shape(build))[0]


def _batch(config: Pi0Config) -> Batch:
    """Two cameras of three, one of them in the first row only; prompts of different length; a narrow robot."""
    numbers = np.random.default_rng(0)
    inputs = ModelInput(
        images={slot: numbers.integers(0, 256, (2, 8, 8, 3), np.uint8) for slot in SLOTS[:2]},
        image_masks={SLOTS[0]: np.ones(2, bool), SLOTS[1]: np.array([True, False])},
        state=numbers.standard_normal((2, 4), np.float32),
        tokens=numbers.integers(4, 64, (2, 6), np.int32),
        token_mask=np.arange(6) < np.array([[6], [4]]),
    )
    actions = numbers.standard_normal((2, config.horizon, 4), np.float32)
    return Batch(inputs, actions, np.array([[True] * 4, [True, True, False, False]]), np.ones((2, 5), bool))


def _close(ours: Any, theirs: Any, *, size: float = 0) -> None:
    ours, theirs = np.asarray(ours), np.asarray(theirs)
    assert np.abs(ours - theirs).max() <= 1e-5 * max(size, np.abs(theirs).max())


@pytest.mark.parametrize("pi05", [False, True], ids=["pi0", "pi05"])
def test_losses_and_all_gradients_are_those_of_one_joint_pass(pi05: bool) -> None:
    config = _config(pi05=pi05)
    batch, leaves = _batch(config), _leaves(config)

    def losses_and_gradients(build: Any, batch: Batch) -> Any:
        graph = _graph(build)

        def mean(flat: dict[str, jax.Array]) -> tuple[jax.Array, jax.Array]:
            model = nnx.merge(graph, nnx.from_flat_state([(tuple(path.split("/")), v) for path, v in flat.items()]))
            losses = model.loss(jax.random.key(5), batch).steps
            return losses.mean(), losses

        (_, losses), gradients = jax.jit(jax.value_and_grad(mean, has_aux=True), compiler_options=QUICK)(leaves)
        return losses, gradients

    ours, our_gradients = losses_and_gradients(lambda: Pi0(config, rngs=nnx.Rngs(0)), batch)
    widened = batch._replace(inputs=NAIVE["reference_inputs"](batch.inputs, config))
    theirs, their_gradients = losses_and_gradients(lambda: NAIVE["Naive"](config, rngs=nnx.Rngs(0)), widened)
    _close(ours, theirs)
    assert our_gradients.keys() == their_gradients.keys() and len(our_gradients) > 30
    # A bias of SigLIP's keys shifts all logits of a query alike: its gradient is nothing but rounding.
    largest = max(np.abs(g).max() for g in their_gradients.values())
    for path, theirs in their_gradients.items():
        _close(our_gradients[path], theirs, size=1e-4 * largest)


@pytest.mark.parametrize("pi05", [False, True], ids=["pi0", "pi05"])
def test_samples_are_those_of_the_naive_path(pi05: bool) -> None:
    config = _config(pi05=pi05)
    inputs, leaves = _batch(config).inputs, _leaves(config)
    noise = np.random.default_rng(1).standard_normal((2, config.horizon, 4), np.float32)

    def sample(build: Any, inputs: ModelInput) -> jax.Array:
        model = nnx.eval_shape(build)
        parameters.assign(model, leaves)
        graph, state = nnx.split(model)

        def run(state: Any, inputs: ModelInput) -> jax.Array:
            return nnx.merge(graph, state).sample(jax.random.key(0), inputs, steps=3, noise=jnp.asarray(noise))

        return jax.jit(run, compiler_options=QUICK)(state, inputs)

    ours = sample(lambda: Pi0(config, rngs=nnx.Rngs(0)), inputs)
    widened = NAIVE["reference_inputs"](inputs, config)
    _close(ours, sample(lambda: NAIVE["Naive"](config, rngs=nnx.Rngs(0)), widened))
