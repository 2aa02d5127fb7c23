"""From an `Optimizer` config to optax: how a gradient changes the parameters, and how fast."""

import re
from typing import Any

import jax
import jax.numpy as jnp
import optax

from fla_sdk.training.config import Optimizer


def make_optimizer(config: Optimizer) -> tuple[optax.GradientTransformation, optax.Schedule]:
    """The optimizer for flat parameters, behind a clip of the gradient's global norm, and its learning-rate schedule.

    openpi-compatible.
    """
    schedule = make_schedule(config)
    if config.kind == "sgd":
        update = optax.sgd(schedule, momentum=config.momentum, nesterov=config.nesterov)
    else:
        update = optax.adamw(
            schedule,
            b1=config.b1,
            b2=config.b2,
            eps=config.eps,
            weight_decay=config.weight_decay,
            mask=_decayed(config.undecayed) if config.undecayed else None,
        )
    if config.clip_norm is None:
        return update, schedule
    return optax.chain(optax.clip_by_global_norm(config.clip_norm), update), schedule


def make_schedule(config: Optimizer) -> optax.Schedule:
    """Number of steps taken -> learning rate of the next one."""
    first, peak = config.peak_lr / (config.warmup_steps + 1), config.peak_lr
    if config.schedule == "cosine":
        return optax.warmup_cosine_decay_schedule(
            init_value=first,
            peak_value=peak,
            warmup_steps=config.warmup_steps,
            decay_steps=config.decay_steps,
            end_value=config.end_lr,
        )

    def after(step: Any) -> Any:
        if config.schedule == "constant":
            return peak
        # Asked during the warm-up too, with a negative number.
        return peak * jax.lax.rsqrt(1 + jnp.maximum(step, 0) / config.timescale)

    warmup = optax.linear_schedule(first, peak, max(config.warmup_steps, 1))
    return optax.join_schedules([warmup, after], [config.warmup_steps])


def _decayed(undecayed: tuple[str, ...]) -> Any:
    """Parameters -> True where weight decay applies."""
    return lambda params: {path: not any(re.fullmatch(u, path) for u in undecayed) for path in params}
