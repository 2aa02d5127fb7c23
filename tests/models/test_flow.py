"""Integration of the flow, and what is drawn in training."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fla_models import flow


@pytest.mark.parametrize("steps", [1, 3, 10])
def test_constant_velocity_is_integrated_exactly(steps: int) -> None:
    noise = np.random.default_rng(0).standard_normal((2, 3, 4), np.float32)
    target = np.float32(2) * noise - 1
    out = flow.integrate(lambda x, *_: jnp.asarray(noise - target), jnp.asarray(noise), steps=steps)
    np.testing.assert_allclose(out, target, rtol=1e-5, atol=1e-5)


def test_times_run_from_one_in_equal_steps() -> None:
    # With velocity = time, four steps add -(1 + 0.75 + 0.5 + 0.25) / 4.
    out = flow.integrate(lambda x, time, _: jnp.broadcast_to(time, x.shape), jnp.zeros((1, 1, 1)), steps=4)
    np.testing.assert_allclose(out, -0.625, rtol=1e-6)


@pytest.mark.parametrize(("compat", "length"), [("fixed", 1.0), ("openpi", 1.0009765625)])
def test_bfloat16_steps_go_too_far_only_under_openpi(compat: str, length: float) -> None:
    velocity = jnp.full((1, 1, 1), -1.0, jnp.bfloat16)
    out = flow.integrate(lambda *_: velocity, jnp.zeros((1, 1, 1)), steps=10, compat=compat)  # type: ignore[arg-type]
    assert out.dtype == jnp.float32
    np.testing.assert_allclose(out, length, rtol=2e-6)


def test_times_are_drawn_towards_noise() -> None:
    time = np.asarray(flow.draw_time(jax.random.key(0), batch=20_000))
    assert time.min() >= 0.001 and time.max() <= 1.0
    assert time.mean() == pytest.approx(0.6 * 0.999 + 0.001, abs=0.01)  # the mean of Beta(1.5, 1) is 0.6


def test_interpolation_ends() -> None:
    actions, noise = jnp.ones((2, 3, 4)), jnp.full((2, 3, 4), 5.0)
    noisy, target = flow.interpolate(actions, noise=noise, time=jnp.array([0.0, 1.0]))
    np.testing.assert_array_equal(noisy[0], actions[0])
    np.testing.assert_array_equal(noisy[1], noise[1])
    np.testing.assert_array_equal(target, noise - actions)
