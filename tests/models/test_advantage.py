"""Advantage conditioning: an indicator in the prompt that can be left out, and guidance towards it."""

from typing import Any

import jax
import numpy as np
import pytest

from fla_sdk.model import ModelInput


def indicated(inputs: ModelInput) -> ModelInput:
    """The second and third token say how good the actions are."""
    indicator = np.zeros(inputs.tokens.shape, bool)
    indicator[:, 1:3] = True
    return inputs._replace(indicator=indicator)


def silent(inputs: ModelInput) -> ModelInput:
    """The prompt without these tokens."""
    kept = [0, 3, 4]
    return inputs._replace(tokens=inputs.tokens[:, kept], token_mask=inputs.token_mask[:, kept], indicator=None)


@pytest.mark.parametrize("pi05", [False, True])
def test_guidance_is_linear_in_its_weight(small: Any, pi05: bool) -> None:
    """One step is the noise less the velocity: `v_u + w (v_c - v_u)`."""
    model, inputs = small.quick(small.config(pi05=pi05)), indicated(small.batch().inputs)
    rng = jax.random.key(0)
    conditioned = np.asarray(model.sample(rng, inputs, steps=1))
    unconditioned = np.asarray(model.sample(rng, silent(inputs), steps=1))
    assert np.abs(conditioned - unconditioned).max() > 1e-3
    for weight in (0.0, 1.0, 2.5):
        want = unconditioned + weight * (conditioned - unconditioned)
        got = model.sample(rng, inputs, steps=1, guidance=weight)
        np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-5)


def test_guidance_and_a_prefix_together(small: Any) -> None:
    from fla_sdk.model import ActionPrefix

    batch = small.batch()
    inputs = indicated(batch.inputs)
    prefix = ActionPrefix(jax.numpy.asarray(batch.actions), jax.numpy.array([1, 2]), jax.numpy.array([3, 3]))
    trained = small.quick(small.config(pi05=True, max_delay=2))
    plain, guided = (
        np.asarray(trained.sample(jax.random.key(0), inputs, steps=2, prefix=prefix, guidance=guidance))
        for guidance in (None, 1.0)
    )
    np.testing.assert_array_equal(guided[1, :2], batch.actions[1, :2])
    np.testing.assert_allclose(guided, plain, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("rate", [0.0, 1.0])
def test_dropout_hides_the_indicator(small: Any, rate: float) -> None:
    model, batch = small.quick(small.config(pi05=True, indicator_dropout=rate)), small.batch()
    rng = jax.random.key(0)
    loss = model.loss(rng, batch._replace(inputs=indicated(batch.inputs))).steps
    said = model.loss(rng, batch).steps
    hidden = model.loss(rng, batch._replace(inputs=silent(indicated(batch.inputs)))).steps
    assert np.abs(np.asarray(said) - np.asarray(hidden)).max() > 1e-4
    np.testing.assert_allclose(loss, hidden if rate else said, rtol=1e-5)


def test_dropout_is_drawn_for_each_example(small: Any) -> None:
    model, batch = small.quick(small.config(pi05=True, indicator_dropout=0.5)), small.batch(16)
    rng = jax.random.key(0)
    loss = model.loss(rng, batch._replace(inputs=indicated(batch.inputs))).steps
    hidden = model.loss(rng, batch._replace(inputs=silent(indicated(batch.inputs)))).steps
    same = np.isclose(np.asarray(loss), np.asarray(hidden), rtol=1e-5).all(axis=1)
    assert 0 < same.sum() < 16
