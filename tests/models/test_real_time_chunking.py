"""Continuing a chunk that is being executed: by guidance, against closed forms, and as learned in training."""

from typing import Any

import attrs
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fla_models import flow
from fla_sdk.errors import ObservationError
from fla_sdk.model import ActionPrefix, action_prefix


def prefix(actions: np.ndarray, *, delay: int, length: int) -> ActionPrefix:
    batch = actions.shape[0]
    return ActionPrefix(jnp.asarray(actions), jnp.full(batch, delay), jnp.full(batch, length))


@given(st.data())
def test_weights_are_those_of_the_paper(data: st.DataObject) -> None:
    horizon = data.draw(st.integers(1, 20))
    length = data.draw(st.integers(0, horizon))
    delay = data.draw(st.integers(0, length))
    weights = flow.prefix_weights(prefix(np.zeros((1, horizon, 1)), delay=delay, length=length), horizon=horizon)[0]
    for i, weight in enumerate(np.asarray(weights)):
        c = (length - i) / (length - delay + 1)
        want = 1.0 if i < delay else c * (np.exp(c) - 1) / (np.e - 1) if i < length else 0.0
        assert weight == pytest.approx(want, rel=1e-5, abs=1e-6)
    assert np.all(np.diff(weights) <= 1e-6)


@pytest.mark.parametrize("time", [1.0, 0.8, 0.5, 0.2])
def test_guidance_on_a_linear_model(time: float) -> None:
    """With velocity `A x` the denoised estimate is `(1 - t A) x`, and its Jacobian is no identity."""
    numbers = np.random.default_rng(0)
    horizon, width = 4, 2
    a = numbers.standard_normal((horizon * width, horizon * width)) * 0.3
    x, y = numbers.standard_normal((2, horizon * width))
    given = prefix(y.reshape(1, horizon, width).astype(np.float32), delay=1, length=3)

    def velocity(noisy: jax.Array) -> jax.Array:
        return (jnp.asarray(a, jnp.float32) @ noisy.reshape(-1)).reshape(noisy.shape)

    noisy = jnp.asarray(x.reshape(1, horizon, width), jnp.float32)
    out = flow.pull_towards(given, velocity, noisy, time=jnp.asarray(time))
    tau = 1 - time  # the paper's time
    jacobian = np.eye(len(a)) - time * a
    weights = np.repeat(np.asarray(flow.prefix_weights(given, horizon=horizon))[0], width)
    correction = jacobian.T @ (weights * (y - jacobian @ x))
    r2 = (1 - tau) ** 2 / (tau**2 + (1 - tau) ** 2)
    weight = 5.0 if tau == 0 else min(5.0, (1 - tau) / (tau * r2))
    want = a @ x - weight * correction  # ours points to noise, the paper's to data
    np.testing.assert_allclose(np.asarray(out).reshape(-1), want, rtol=2e-4, atol=2e-4)


def test_guidance_pulls_a_sample_to_its_prefix() -> None:
    """Data that is anywhere: the model's denoised estimate is the noisy chunk itself."""
    target = np.random.default_rng(1).standard_normal((2, 6, 3)).astype(np.float32)
    noise = np.random.default_rng(2).standard_normal((2, 6, 3)).astype(np.float32)
    given = prefix(target, delay=2, length=4)

    def step(noisy: jax.Array, time: jax.Array, _: Any) -> jax.Array:
        return flow.pull_towards(given, jnp.zeros_like, noisy, time=time)

    out = np.asarray(flow.integrate(step, jnp.asarray(noise), steps=5))
    before, after = np.abs(noise - target), np.abs(out - target)
    assert (after[:, :2] < 0.05 * before[:, :2] + 1e-3).all()  # executed by then
    np.testing.assert_allclose(out[:, 4:], noise[:, 4:], atol=1e-6)  # free
    assert (after[:, 2:4] < before[:, 2:4]).all()


@pytest.mark.parametrize("pi05", [False, True])
def test_a_model_continues_by_guidance(small: Any, pi05: bool) -> None:
    model, batch = small.quick(small.config(pi05=pi05)), small.batch()
    given = prefix(batch.actions, delay=1, length=2)
    rng = jax.random.key(0)
    free = np.asarray(model.sample(rng, batch.inputs, steps=5))
    bound = np.asarray(model.sample(rng, batch.inputs, steps=5, prefix=given))
    distance = [np.abs(chunk - batch.actions)[:, 0].max() for chunk in (free, bound)]
    assert distance[1] < 0.2 * distance[0]


@pytest.mark.parametrize("pi05", [False, True])
def test_a_trained_model_continues_by_itself(small: Any, pi05: bool) -> None:
    model, batch = small.quick(small.config(pi05=pi05, max_delay=2)), small.batch()
    given = prefix(batch.actions, delay=2, length=3)._replace(delay=jnp.array([1, 2]))
    out = np.asarray(model.sample(jax.random.key(0), batch.inputs, steps=3, prefix=given))
    np.testing.assert_array_equal(out[0, :1], batch.actions[0, :1])
    np.testing.assert_array_equal(out[1, :2], batch.actions[1, :2])
    # What comes after depends on the prefix, and only on as much of it as is fixed.
    other = given._replace(actions=given.actions.at[:, 2].add(1.0))
    np.testing.assert_array_equal(out, model.sample(jax.random.key(0), batch.inputs, steps=3, prefix=other))
    other = given._replace(actions=given.actions.at[:, 0].add(1.0))
    changed = np.asarray(model.sample(jax.random.key(0), batch.inputs, steps=3, prefix=other))
    assert (np.abs(changed - out)[:, 2] > 1e-4).any(axis=-1).all()
    # No delay at all is an ordinary sample.
    nothing = given._replace(delay=jnp.zeros(2, jnp.int32))
    plain = model.sample(jax.random.key(0), batch.inputs, steps=3)
    np.testing.assert_allclose(
        model.sample(jax.random.key(0), batch.inputs, steps=3, prefix=nothing), plain, rtol=1e-5, atol=1e-5
    )


@pytest.mark.parametrize("pi05", [False, True])
def test_training_counts_only_what_comes_after_the_prefix(small: Any, pi05: bool) -> None:
    model, batch = small.quick(small.config(pi05=pi05, max_delay=2)), small.batch()
    numbers = np.random.default_rng(3)
    noise, time = numbers.standard_normal(batch.actions.shape).astype(np.float32), jnp.array([0.4, 0.9])
    delay = jnp.array([0, 2])
    losses = np.asarray(model.loss_at(batch, noise=noise, time=time, delay=delay).steps)
    plain = np.asarray(model.loss_at(batch, noise=noise, time=time).steps)
    np.testing.assert_allclose(losses[0], plain[0], rtol=1e-5)
    np.testing.assert_array_equal(losses[1, :2], 0)
    other = noise.copy()
    other[1, :2] += 3  # the prefix is given clean: its noise is nowhere
    np.testing.assert_array_equal(losses, model.loss_at(batch, noise=other, time=time, delay=delay).steps)
    # The mean over steps is the mean over those that count: here a single one.
    times = jnp.where(jnp.arange(small.horizon) >= delay[:, None], time[:, None], 0)
    noisy, target = flow.interpolate(batch.actions, noise=noise, time=times)
    bare = model.model
    seen = bare.PaliGemma.prefill(batch.inputs)
    velocity = bare.velocity(jnp.asarray(batch.inputs.state), seen, noisy=noisy, moment=bare.moment(times))
    np.testing.assert_allclose(losses[1].mean(), np.square(velocity - target)[1, 2].mean(), rtol=1e-5)
    assert np.isfinite(np.asarray(model.loss(jax.random.key(1), batch).steps)).all()


def test_what_is_left_of_a_chunk() -> None:
    rest = np.arange(6, dtype=np.float32).reshape(3, 2)
    given = action_prefix(rest, delay=2, horizon=5)
    assert given.actions.shape == (1, 5, 2)
    np.testing.assert_array_equal(given.actions[0, :3], rest)
    assert int(given.delay[0]) == 2 and int(given.length[0]) == 3
    for delay, horizon in ((3, 5), (-1, 5), (1, 3)):
        with pytest.raises(ObservationError, match="delay"):
            action_prefix(rest, delay=delay, horizon=horizon)


def test_the_longest_delay_leaves_something_to_predict(small: Any) -> None:
    from fla_sdk.errors import ConfigError

    with pytest.raises(ConfigError, match="max_delay"):
        attrs.evolve(small.config(pi05=True), max_delay=small.horizon)
