"""Regularizer `l2sp`: stay close to the starting point.

L2-SP of Li et al. 2018 (arXiv:1802.01483): half the squared distance of the trained parameters to their values at the
start of the run.
"""

from collections.abc import Iterator
from typing import Any

import fla_sdk as fla


def keep_start(beginning: fla.Beginning) -> Any:
    """A copy of the parameters: the originals are donated to the first step."""
    import jax
    import jax.numpy as jnp

    return jax.tree.map(jnp.copy, dict(beginning.params))


def squared_distance(params: Any, start: Any, moment: Any) -> Any:
    """Scalar: 0.5 * |params - start|^2."""
    import jax
    import jax.numpy as jnp

    del moment
    distances = jax.tree.map(lambda now, then: jnp.sum(jnp.square(now - then)), params, start)
    return 0.5 * sum(jax.tree.leaves(distances))


@fla.hookimpl
def fla_regularizers() -> Iterator[fla.Regularizer]:
    yield fla.Regularizer(
        name="l2sp",
        description="squared distance of the trained parameters to their values at the start",
        prepare=keep_start,
        penalty=squared_distance,
    )
