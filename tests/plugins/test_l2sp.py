"""`l2sp`: half the squared distance to the start, and a gradient that points back to it."""

import jax
import jax.numpy as jnp
import numpy as np

import fla_sdk as fla
from fla_plugins.l2sp import fla_regularizers


def _regularizer() -> fla.Regularizer:
    (regularizer,) = fla_regularizers()
    return regularizer


def _beginning(params: dict[str, jax.Array]) -> fla.Beginning:
    return fla.Beginning(params=params, options={}, checkpoint=None)


def test_value_and_gradient() -> None:
    penalty = _regularizer()
    start = {"a": jnp.array([1.0, 2.0]), "b": jnp.array([[3.0]])}
    kept = penalty.prepare(_beginning(start))
    assert float(penalty.penalty(start, kept, None)) == 0.0
    moved = {"a": jnp.array([2.0, 4.0]), "b": jnp.array([[0.0]])}
    value, gradient = jax.value_and_grad(penalty.penalty)(moved, kept, None)
    assert float(value) == 0.5 * (1 + 4 + 9)
    np.testing.assert_array_equal(gradient["a"], [1.0, 2.0])
    np.testing.assert_array_equal(gradient["b"], [[-3.0]])


def test_the_start_outlives_the_parameters_it_was_taken_from() -> None:
    """The first training step takes over their memory."""
    start = {"a": jnp.arange(3.0)}
    kept = _regularizer().prepare(_beginning(start))
    start["a"].delete()
    np.testing.assert_array_equal(kept["a"], [0.0, 1.0, 2.0])
