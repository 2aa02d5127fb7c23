"""Knowledge insulation, and several draws of noise behind one pass over images and prompt."""

from typing import Any

import attrs
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from fla_models import parameters
from fla_models.pi0 import Pi0
from fla_sdk.errors import ConfigError
from fla_sdk.model import Batch

QUICK = {"xla_backend_optimization_level": 0}
BACKBONE = {"vision", "language"}


def with_answer(batch: Batch) -> Batch:
    """The last two tokens of the prompt spell actions."""
    answer = np.zeros(batch.inputs.tokens.shape, bool)
    answer[:, -2:] = True
    return batch._replace(inputs=batch.inputs._replace(token_ar=answer), token_loss=answer)


def gradients(model: Pi0, loss: Any) -> dict[str, np.ndarray]:
    """Path -> gradient of the mean of `loss(model)`."""
    graph, state = nnx.split(model)
    found = jax.jit(jax.grad(lambda s: loss(nnx.merge(graph, s)).mean()), compiler_options=QUICK)(state)
    return {path: np.asarray(leaf) for path, leaf in parameters.flatten(nnx.merge(graph, found)).items()}


@pytest.fixture(scope="module")
def model(small: Any) -> Pi0:
    return small.model(small.config(pi05=True, insulate=True))


@pytest.fixture(scope="module")
def batch(small: Any) -> Batch:
    return with_answer(small.batch())


def test_the_flow_teaches_the_backbone_nothing(model: Pi0, batch: Batch) -> None:
    silent = batch._replace(token_loss=np.zeros_like(batch.token_loss))
    found = gradients(model, lambda m: m.loss(jax.random.key(0), silent))
    for path, gradient in found.items():
        insulated = parameters.group(path) in BACKBONE
        assert (not gradient.any()) == insulated, path


def test_the_text_teaches_the_expert_nothing(model: Pi0, batch: Batch) -> None:
    graph, state = nnx.split(model)
    only_text = nnx.merge(graph, state)
    only_text.config = attrs.evolve(model.config, flow_weight=0.0)
    found = gradients(only_text, lambda m: m.loss(jax.random.key(0), batch))
    for path, gradient in found.items():
        learns = parameters.group(path) in BACKBONE
        assert gradient.any() == learns, path


def test_insulation_changes_no_value(model: Pi0, batch: Batch) -> None:
    graph, state = nnx.split(model)
    bare = nnx.merge(graph, state)
    bare.config = attrs.evolve(model.config, insulate=False)
    noise, time = jnp.ones(batch.actions.shape), jnp.array([0.2, 0.8])
    silent = batch._replace(token_loss=np.zeros_like(batch.token_loss))
    ours = model.loss_at(silent, noise=noise, time=time)
    np.testing.assert_array_equal(ours, bare.loss_at(silent, noise=noise, time=time))


def test_the_expert_is_blind_to_action_tokens_and_so_is_the_prompt(model: Pi0, batch: Batch) -> None:
    """What the expert sees in training is what it sees when it acts, where there is no answer to peek at."""
    noise, time = jnp.ones(batch.actions.shape), jnp.array([0.2, 0.8])
    state = jnp.asarray(batch.inputs.state)

    def velocity(inputs: Any) -> jax.Array:
        seen = model.PaliGemma.prefill(inputs)
        return model.velocity(state, seen, noisy=noise, moment=model.moment(time[:, None]))

    trained = velocity(batch.inputs)
    tokens = np.array(batch.inputs.tokens)
    tokens[:, -2:] = 60
    np.testing.assert_array_equal(trained, velocity(batch.inputs._replace(tokens=tokens)))
    cut = batch.inputs._replace(
        tokens=batch.inputs.tokens[:, :-2], token_mask=batch.inputs.token_mask[:, :-2], token_ar=None
    )
    np.testing.assert_allclose(trained, velocity(cut), rtol=1e-5, atol=1e-6)
    seen = model.PaliGemma.prefill(batch.inputs)
    acting = model.PaliGemma.prefill(cut)
    np.testing.assert_allclose(seen.keys[:, :, :-2], acting.keys, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(seen.values[:, :, :-2], acting.values, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(seen.mask[:, -2:], np.zeros((2, 2), bool))


def test_text_loss_is_the_cross_entropy_of_the_answer(model: Pi0, batch: Batch) -> None:
    graph, state = nnx.split(model)
    only_text = nnx.merge(graph, state)
    only_text.config = attrs.evolve(model.config, flow_weight=0.0)
    loss = only_text.loss(jax.random.key(0), batch)
    out, _ = model.PaliGemma.read(batch.inputs)
    logits = np.asarray(model.PaliGemma.llm.embedder.logits(out), np.float64)
    scores = logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))
    tokens = batch.inputs.tokens
    for row in range(2):
        want = -np.mean([scores[row, -3, tokens[row, -2]], scores[row, -2, tokens[row, -1]]])
        np.testing.assert_allclose(loss[row], want, rtol=1e-5)


def test_an_insulated_model_wants_answers(model: Pi0, small: Any) -> None:
    with pytest.raises(ConfigError, match="token_loss"):
        model.loss(jax.random.key(0), small.batch())


@pytest.mark.parametrize("pi05", [False, True])
def test_draws_that_share_a_prefix_are_the_mean_of_single_ones(small: Any, pi05: bool) -> None:
    draws = 3
    model, batch = small.model(small.config(pi05=pi05, flow_samples=draws)), small.batch()
    numbers = np.random.default_rng(5)
    noise = numbers.standard_normal((2, draws, *batch.actions.shape[1:])).astype(np.float32)
    time = numbers.uniform(0.1, 1, (2, draws)).astype(np.float32)

    def shared(m: Pi0) -> jax.Array:
        return m.loss_at(
            batch, noise=jnp.asarray(noise.reshape(-1, *noise.shape[2:])), time=jnp.asarray(time.reshape(-1))
        )

    def singly(m: Pi0) -> jax.Array:
        losses = [m.loss_at(batch, noise=jnp.asarray(noise[:, k]), time=jnp.asarray(time[:, k])) for k in range(draws)]
        return jnp.mean(jnp.stack(losses), axis=0)

    np.testing.assert_allclose(shared(model), singly(model), rtol=1e-5, atol=1e-6)
    ours, theirs = gradients(model, shared), gradients(model, singly)
    for path, gradient in ours.items():
        np.testing.assert_allclose(gradient, theirs[path], rtol=2e-4, atol=2e-6, err_msg=path)
    # And `loss` draws that many: its mean over many keys is that of single draws.
    assert model.loss(jax.random.key(0), batch).shape == (2, small.horizon)
