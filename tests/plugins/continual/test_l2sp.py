"""`l2sp`: half the squared distance to the start, and a gradient that points back to it."""

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fla_sdk as fla
from fla_plugins.continual.l2sp import L2SP
from fla_sdk.errors import ConfigError


def _beginning(params: dict[str, jax.Array], checkpoint: Path | None = None, **options: Any) -> fla.Beginning:
    return fla.Beginning(params=params, options=options, checkpoint=checkpoint)


def test_value_and_gradient() -> None:
    start = {"a": jnp.array([1.0, 2.0]), "b": jnp.array([[3.0]])}
    kept = L2SP.prepare(_beginning(start))
    assert float(L2SP.penalty(start, kept, None)) == 0.0
    moved = {"a": jnp.array([2.0, 4.0]), "b": jnp.array([[0.0]])}
    value, gradient = jax.value_and_grad(L2SP.penalty)(moved, kept, None)
    assert float(value) == 0.5 * (1 + 4 + 9)
    np.testing.assert_array_equal(gradient["a"], [1.0, 2.0])
    np.testing.assert_array_equal(gradient["b"], [[-3.0]])


def test_the_start_outlives_the_parameters_it_was_taken_from() -> None:
    """The first training step takes over their memory."""
    start = {"a": jnp.arange(3.0)}
    kept = L2SP.prepare(_beginning(start))
    start["a"].delete()
    np.testing.assert_array_equal(kept["start"]["a"], [0.0, 1.0, 2.0])


def test_parameters_that_the_checkpoint_lacks_are_pulled_to_zero(trained: Path) -> None:
    from fla_sdk.policy.checkpoint import read_params

    params = {path: jnp.asarray(leaf) for path, leaf in read_params(trained).items()}
    kept = L2SP.prepare(_beginning({**params, "adapter": jnp.array([3.0])}, trained, beta=0.5))
    value = L2SP.penalty({**params, "adapter": jnp.array([2.0])}, kept, None)
    assert float(value) == 0.5 * 0.5 * 4


def test_bad_options() -> None:
    params = {"a": jnp.zeros(1)}
    with pytest.raises(ConfigError, match=r"beta is -1\.0, must be at least 0, or null"):
        L2SP.prepare(_beginning(params, beta=-1.0))
    with pytest.raises(ConfigError, match="has no field 'betta'; did you mean 'beta'"):
        L2SP.prepare(_beginning(params, betta=1.0))
    with pytest.raises(ConfigError, match="but this run starts from none"):
        L2SP.prepare(_beginning(params, beta=1.0))
