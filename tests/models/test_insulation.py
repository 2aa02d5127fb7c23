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


def run(model: Pi0, function: Any) -> Any:
    """`function(model)`, compiled without optimisations that cost more than they save."""
    graph, state = nnx.split(model)
    return jax.jit(lambda s: function(nnx.merge(graph, s)), compiler_options=QUICK)(state)


def gradients(model: Pi0, loss: Any) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """`loss(model)`, and path -> gradient of its mean."""
    graph, _ = nnx.split(model)

    def both(model: Pi0) -> Any:
        def mean(state: Any) -> tuple[jax.Array, jax.Array]:
            losses = loss(nnx.merge(graph, state))
            return losses.mean(), losses

        return jax.value_and_grad(mean, has_aux=True)(nnx.split(model)[1])

    (_, losses), found = run(model, both)
    leaves = parameters.flatten(nnx.merge(graph, found))
    return np.asarray(losses), {path: np.asarray(leaf) for path, leaf in leaves.items()}


@pytest.fixture(scope="module")
def model(small: Any) -> Pi0:
    return small.model(small.config(pi05=True, insulate=True))


@pytest.fixture(scope="module")
def batch(small: Any) -> Batch:
    return with_answer(small.batch())


def test_the_flow_teaches_the_backbone_nothing(model: Pi0, batch: Batch) -> None:
    silent = batch._replace(token_loss=np.zeros_like(batch.token_loss))
    _, found = gradients(model, lambda m: m.loss(jax.random.key(0), silent).steps)
    for path, gradient in found.items():
        insulated = parameters.group(path) in BACKBONE
        assert (not gradient.any()) == insulated, path


def test_the_text_teaches_the_expert_nothing(model: Pi0, batch: Batch) -> None:
    graph, state = nnx.split(model)
    only_text = nnx.merge(graph, state)
    only_text.config = attrs.evolve(model.config, flow_weight=0.0)
    _, found = gradients(only_text, lambda m: m.loss(jax.random.key(0), batch).steps)
    for path, gradient in found.items():
        learns = parameters.group(path) in BACKBONE
        assert gradient.any() == learns, path


def test_insulation_changes_no_value(model: Pi0, batch: Batch) -> None:
    graph, state = nnx.split(model)
    bare = nnx.merge(graph, state)
    bare.config = attrs.evolve(model.config, insulate=False)
    noise, time = jnp.ones(batch.actions.shape), jnp.array([0.2, 0.8])
    silent = batch._replace(token_loss=np.zeros_like(batch.token_loss))
    ours, theirs = (run(m, lambda m: m.loss_at(silent, noise=noise, time=time).steps) for m in (model, bare))
    np.testing.assert_allclose(ours, theirs, rtol=1e-6)


def test_the_expert_is_blind_to_action_tokens_and_so_is_the_prompt(model: Pi0, batch: Batch) -> None:
    """What the expert sees in training is what it sees when it acts, where there is no answer to peek at."""
    noise, time = jnp.ones(batch.actions.shape), jnp.array([0.2, 0.8])
    state = jnp.asarray(batch.inputs.state)

    def look(inputs: Any) -> Any:
        def both(model: Pi0) -> Any:
            seen = model.PaliGemma.prefill(inputs)
            return model.velocity(state, seen, noisy=noise, moment=model.moment(time[:, None])), seen

        return run(model, both)

    trained, seen = look(batch.inputs)
    tokens = np.array(batch.inputs.tokens)
    tokens[:, -2:] = 60
    np.testing.assert_array_equal(trained, look(batch.inputs._replace(tokens=tokens))[0])
    cut = batch.inputs._replace(
        tokens=batch.inputs.tokens[:, :-2], token_mask=batch.inputs.token_mask[:, :-2], token_ar=None
    )
    free, acting = look(cut)
    np.testing.assert_allclose(trained, free, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(seen.keys[:, :, :-2], acting.keys, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(seen.values[:, :, :-2], acting.values, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(seen.mask[:, -2:], np.zeros((2, 2), bool))


def test_text_loss_is_the_cross_entropy_of_the_answer(model: Pi0, batch: Batch) -> None:
    graph, state = nnx.split(model)
    only_text = nnx.merge(graph, state)
    only_text.config = attrs.evolve(model.config, flow_weight=0.0)
    loss = run(only_text, lambda m: m.loss(jax.random.key(0), batch).steps)
    decoded = run(model, lambda m: m.PaliGemma.llm.embedder.logits(m.PaliGemma.read(batch.inputs)[0]))
    logits = np.asarray(decoded, np.float64)
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
        ).steps

    def singly(m: Pi0) -> jax.Array:
        losses = [
            m.loss_at(batch, noise=jnp.asarray(noise[:, k]), time=jnp.asarray(time[:, k])).steps for k in range(draws)
        ]
        return jnp.mean(jnp.stack(losses), axis=0)

    (loss, ours), (mean, theirs) = gradients(model, shared), gradients(model, singly)
    np.testing.assert_allclose(loss, mean, rtol=1e-5, atol=1e-6)
    for path, gradient in ours.items():
        np.testing.assert_allclose(gradient, theirs[path], rtol=2e-4, atol=2e-6, err_msg=path)
    assert run(model, lambda m: m.loss(jax.random.key(0), batch).steps).shape == (2, small.horizon)
