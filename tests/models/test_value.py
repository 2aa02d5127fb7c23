"""The value model: bins, cross-entropy and expectation against closed forms; what it reads; that it learns."""

from typing import Any

import attrs
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from hypothesis import given
from hypothesis import strategies as st

from fla_models import parameters
from fla_models.configs import LocalAttention, ValueConfig, value_variants
from fla_models.value import Value
from fla_sdk.errors import ConfigError, DataError
from fla_sdk.model import Batch


@pytest.fixture(scope="module")
def config(small: Any) -> ValueConfig:
    acting = small.config(pi05=True)
    language = attrs.evolve(small.gemma, local=LocalAttention(window=3, global_every=2), qk_norm=True, post_norms=True)
    return ValueConfig(
        vision=acting.vision,
        language=language,
        vocab_size=acting.vocab_size,
        image_size=acting.image_size,
        image_slots=acting.image_slots,
        dtype="float32",
        causal_prompt=True,
    )


@pytest.fixture(scope="module")
def model(config: ValueConfig) -> Value:
    model = nnx.eval_shape(lambda: Value(config, rngs=nnx.Rngs(0)))
    numbers = np.random.default_rng(1)
    leaves = parameters.flatten(model)
    values = {path: jnp.asarray(0.3 * numbers.standard_normal(leaf.shape, np.float32)) for path, leaf in leaves.items()}
    parameters.assign(model, values)
    return model


@pytest.fixture(scope="module")
def batch(small: Any) -> Batch:
    return small.batch()._replace(returns=np.array([-0.4, -1.3], np.float32))


@given(st.floats(-1, 0))
def test_bins_are_half_a_percent_wide(value: float) -> None:
    model = Value.__new__(Value)
    object.__setattr__(model, "config", value_variants()["gemma3_270m"])
    assert len(model.centers) == 201
    chosen = int(model.bin_of(jnp.asarray(value, jnp.float32)))
    assert abs(float(model.centers[chosen]) - value) <= 0.0025 + 1e-6


def test_loss_is_the_cross_entropy_of_the_nearest_bin(model: Value, batch: Batch, small: Any) -> None:
    logits = np.asarray(model.logits(batch.inputs), np.float64)
    scores = logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))
    loss = np.asarray(model.loss(jax.random.key(0), batch).steps)
    assert loss.shape == (2, small.horizon)
    # -0.4 is bin 120 of 0 to 200; -1.3 lies below all of them.
    np.testing.assert_allclose(loss, np.repeat([[-scores[0, 120]], [-scores[1, 0]]], small.horizon, axis=1), rtol=1e-5)


def test_value_is_the_expectation(model: Value, batch: Batch) -> None:
    logits = np.asarray(model.logits(batch.inputs), np.float64)
    chances = np.exp(logits) / np.exp(logits).sum(axis=-1, keepdims=True)
    want = chances @ np.linspace(-1, 0, 201)
    np.testing.assert_allclose(model.value(batch.inputs), want, rtol=1e-5)


def test_value_depends_on_images_and_on_the_whole_prompt(model: Value, batch: Batch, small: Any) -> None:
    inputs = batch.inputs
    before = np.asarray(model.value(inputs))
    tokens = np.array(inputs.tokens)
    tokens[:, 0] = (tokens[:, 0] + 1) % 64
    darker = {slot: image // 2 for slot, image in inputs.images.items()}
    for changed in (inputs._replace(tokens=tokens), inputs._replace(images=darker)):
        assert (np.abs(np.asarray(model.value(changed)) - before) > 1e-6).all()
    padded = inputs._replace(
        tokens=np.pad(inputs.tokens, ((0, 0), (0, 3)), constant_values=9),
        token_mask=np.pad(inputs.token_mask, ((0, 0), (0, 3))),
    )
    np.testing.assert_allclose(model.value(padded), before, rtol=1e-4)


def test_what_it_refuses(model: Value, small: Any) -> None:
    with pytest.raises(ConfigError, match="returns"):
        model.loss(jax.random.key(0), small.batch())
    with pytest.raises(ConfigError, match="does not act"):
        model.sample(jax.random.key(0), small.batch().inputs)
    with pytest.raises(ConfigError, match="2 bins"):
        attrs.evolve(model.config, bins=1)


def test_returns_reach_the_batch_or_are_missed() -> None:
    from fla_sdk.codec import collate

    example = Batch(
        inputs=_one_input(), actions=np.zeros((1, 2)), action_dims=np.ones(2, bool), action_steps=np.ones(1, bool)
    )
    known = example._replace(returns=np.float32(-0.5))
    assert collate([example, example]).returns is None
    np.testing.assert_array_equal(collate([known, known]).returns, np.array([-0.5, -0.5], np.float32))
    with pytest.raises(DataError, match="1 samples of a batch have a return, 1 have none"):
        collate([example, known])


def _one_input() -> Any:
    from fla_sdk.model import ModelInput

    return ModelInput({}, {}, np.zeros(2, np.float32), np.zeros(3, np.int32), np.ones(3, bool))


def test_the_published_size_is_670_million() -> None:
    """Gemma 3 270M, most of which is embeddings, and a SigLIP tower."""
    import math

    config = value_variants()["gemma3_270m"]
    shapes = parameters.flatten(nnx.eval_shape(lambda: Value(config, rngs=nnx.Rngs(0))))
    assert 0.665e9 < sum(math.prod(leaf.shape) for leaf in shapes.values()) < 0.69e9


def test_it_learns(model: Value, batch: Batch) -> None:
    graph, state = nnx.split(model)

    @jax.jit
    def step(state: Any) -> tuple[jax.Array, Any]:
        loss, grads = jax.value_and_grad(lambda s: nnx.merge(graph, s).loss(jax.random.key(0), batch).steps.mean())(
            state
        )
        return loss, jax.tree.map(lambda p, g: p - 0.05 * g, state, grads)

    for _ in range(60):
        _, state = step(state)
    assert step(state)[0] < 0.5
    np.testing.assert_allclose(nnx.merge(graph, state).value(batch.inputs), [-0.4, -1.0], atol=0.15)
