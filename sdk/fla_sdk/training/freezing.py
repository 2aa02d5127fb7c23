"""`divide`: which parameters of a model are trained."""

import jax.numpy as jnp

from fla_sdk.errors import ConfigError, UnknownNameError
from fla_sdk.model import ModelSpec
from fla_sdk.policy.parameters import Flat
from fla_sdk.records import ModelFamily
from fla_sdk.training.config import TrainConfig


def divide(config: TrainConfig, family: ModelFamily, spec: ModelSpec, flat: Flat) -> tuple[Flat, Flat]:
    """Trainable parameters, and frozen ones in the type that they are kept in.

    Raises when `config.freeze` names a group that the model has not, or all that it has.
    """
    groups = {path: family.group(path) for path in flat}
    for name in config.freeze:
        if name not in groups.values():
            raise UnknownNameError("parameter group to freeze", name, set(groups.values()))
    kept = jnp.dtype(config.frozen_dtype or spec.serving_dtype)
    frozen = {path: jnp.asarray(leaf, kept) for path, leaf in flat.items() if groups[path] in config.freeze}
    params = {path: leaf for path, leaf in flat.items() if path not in frozen}
    if not params:
        raise ConfigError(f"nothing is left to train: freeze covers every group ({', '.join(config.freeze)})")
    return params, frozen
