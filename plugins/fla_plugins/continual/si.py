"""Regularizer `si`: synaptic intelligence (Zenke et al., arXiv:1703.04200).

What a parameter did for the loss, over the path that training took, is its importance for later runs. It costs
two additions per parameter and step, and no pass over old data.
"""

from collections.abc import Mapping
from typing import Any

import attrs

import fla_sdk as fla
from fla_plugins.continual import anchored
from fla_sdk.config import structure
from fla_sdk.errors import ConfigError


@attrs.frozen(kw_only=True)
class Options(anchored.Options):
    """`importance: none` begins without any, as a run from scratch does."""

    xi: float = 1e-3
    """Added to the squared distance that a parameter went, so that one that stayed is not infinitely important."""

    gamma: float = 1.0
    """What is left of earlier importances after each run: 1 adds up, 0 forgets all but the last run."""

    def __attrs_post_init__(self) -> None:
        if self.xi <= 0:
            raise ConfigError(f"xi is {self.xi}, must be above 0")
        if not 0 <= self.gamma <= 1:
            raise ConfigError(f"gamma is {self.gamma}, must be from 0 to 1")


def prepare(beginning: fla.Beginning) -> Any:
    """`anchor`, `importance` and `path`, each path -> float32 array; `xi` and `gamma`."""
    import jax.numpy as jnp

    options = structure(beginning.options, Options, where="options of regularizer 'si'")
    scratch = beginning.checkpoint is None and options.importance is None
    if beginning.resumes or scratch or options.importance == "none":
        known = anchored.zeros(beginning)
    else:
        known = anchored.importance("si", beginning, options)
    own = {"path": anchored.zeros(beginning), "xi": jnp.float32(options.xi), "gamma": jnp.float32(options.gamma)}
    return {**anchored.anchored(beginning, known), **own}


def update(carried: Any, gradient: Any, before: Any, after: Any) -> Any:
    """Add what this step took off the loss, to first order: -gradient * movement."""
    import jax.numpy as jnp

    path = {
        name: total - (gradient[name] * (after[name] - before[name])).astype(jnp.float32)
        for name, total in carried["path"].items()
    }
    return {**carried, "path": path}


def importance(carried: Any, params: Any) -> Mapping[str, Any]:
    """gamma * importance + path / (distance^2 + xi), path -> array; where the loss rose on the way, nothing is added.

    Without that limit a penalty could become negative, and push parameters away.
    """
    import jax.numpy as jnp

    return {
        name: carried["gamma"] * known
        + jnp.maximum(carried["path"][name], 0)
        / (jnp.square(params[name].astype(jnp.float32) - carried["anchor"][name]) + carried["xi"])
        for name, known in carried["importance"].items()
    }


SI = fla.Regularizer(
    name="si",
    description="hold parameters in proportion to what they did for earlier losses (synaptic intelligence)",
    prepare=prepare,
    penalty=anchored.penalty,
    update=update,
    importance=importance,
)
