"""Regularizer `distillation`: act as the model did before the run, on what it now learns from.

Learning without forgetting (Li and Hoiem, arXiv:1606.09282) for flow matching: the mean squared difference between the
velocities of the present and of the starting parameters, at the noise and times that the loss is taken at. It costs a
second set of the trained parameters and two more forward passes. With earlier data in the mixture it says more.
"""

from typing import Any

import attrs

import fla_sdk as fla
from fla_sdk.config import structure
from fla_sdk.errors import ConfigError
from fla_sdk.model import FlowModel


@attrs.frozen(kw_only=True)
class Options:
    """There are none."""


def prepare(beginning: fla.Beginning) -> Any:
    """Path -> array: a copy of the parameters, which are donated to the first step."""
    import jax
    import jax.numpy as jnp

    structure(beginning.options, Options, where="options of regularizer 'distillation'")
    return jax.tree.map(jnp.copy, dict(beginning.params))


def penalty(params: Any, carried: Any, moment: Any) -> Any:
    """Scalar: the mean over the robots' own dimensions and real steps. Raises `ConfigError` for other models."""
    import jax
    import jax.numpy as jnp

    from fla_sdk.policy.parameters import merge, split

    del params
    model = moment.model
    if not isinstance(model, FlowModel):
        raise ConfigError(
            f"regularizer 'distillation' compares velocities, which {type(model).__name__} does not predict; "
            "for this model take ewc, si or l2sp"
        )
    graph, flat = split(model)
    teacher = merge(graph, {**flat, **carried})
    was = jax.lax.stop_gradient(teacher.velocities(moment.rng, moment.batch, rows=moment.rows))
    now = model.velocities(moment.rng, moment.batch, rows=moment.rows)
    dims, steps = jnp.asarray(moment.batch.action_dims), jnp.asarray(moment.batch.action_steps)
    real = (steps[:, :, None] & dims[:, None, :]).astype(jnp.float32)
    real = jnp.repeat(real, now.shape[0] // real.shape[0], axis=0)
    return jnp.sum(jnp.square(now - was) * real) / jnp.maximum(jnp.sum(real), 1)


DISTILLATION = fla.Regularizer(
    name="distillation",
    description="velocities of the model before the run, on the batches that it learns from",
    prepare=prepare,
    penalty=penalty,
)
