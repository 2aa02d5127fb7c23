"""Regularizer `l2sp`: stay close to the starting point.

L2-SP of Li et al. 2018 (arXiv:1802.01483): half the squared distance of the trained parameters to their values at the
start of the run; and, with `beta`, half the squared size of those that the starting checkpoint lacks.
"""

from typing import Any

import attrs

import fla_sdk as fla
from fla_sdk.config import structure
from fla_sdk.errors import ConfigError


@attrs.frozen(kw_only=True)
class Options:
    """What the config may say beside the strength."""

    beta: float | None = None
    """Pull towards zero of parameters that the checkpoint lacks, such as fresh adapters, relative to the strength; null
    holds them at their start like all others."""

    def __attrs_post_init__(self) -> None:
        if self.beta is not None and self.beta < 0:
            raise ConfigError(f"beta is {self.beta}, must be at least 0, or null")


def prepare(beginning: fla.Beginning) -> Any:
    """`start` path -> array, and `weight` path -> scalar. Copies: the originals are donated to the first step."""
    import jax.numpy as jnp

    options = structure(beginning.options, Options, where="options of regularizer 'l2sp'")
    beta = None if beginning.resumes else options.beta
    new = set[str]() if beta is None else _new(beginning)
    return {
        "start": {p: jnp.zeros_like(leaf) if p in new else jnp.copy(leaf) for p, leaf in beginning.params.items()},
        "weight": {path: jnp.float32(beta if path in new else 1.0) for path in beginning.params},
    }


def penalty(params: Any, carried: Any, moment: Any) -> Any:
    """Scalar: 0.5 * sum(weight * |params - start|^2)."""
    import jax.numpy as jnp

    del moment
    start, weight = carried["start"], carried["weight"]
    terms = (weight[path] * jnp.sum(jnp.square(leaf - start[path])) for path, leaf in params.items())
    return 0.5 * sum(terms, jnp.zeros(()))


def _new(beginning: fla.Beginning) -> set[str]:
    """Paths that the checkpoint lacks, or has in another shape."""
    from fla_sdk.policy.checkpoint import read_shapes

    if beginning.checkpoint is None:
        raise ConfigError(
            "regularizer 'l2sp': beta is about parameters that the starting checkpoint lacks, but this run starts from "
            "none"
        )
    given = read_shapes(beginning.checkpoint)
    return {path for path, leaf in beginning.params.items() if path not in given or given[path].shape != leaf.shape}


L2SP = fla.Regularizer(
    name="l2sp",
    description="squared distance of the trained parameters to their values at the start",
    prepare=prepare,
    penalty=penalty,
)
