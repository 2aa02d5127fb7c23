"""One training step, from top to bottom. This is the page to read first.

The arithmetic is openpi's: flow-matching loss, AdamW on clipped gradients (`optimizer.py`), a moving average of the
parameters.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from fla_sdk.model import Batch
from fla_sdk.policy.parameters import Flat, merge


class TrainState(NamedTuple):
    """What changes during training. Parameters are flat: `/`-joined path -> array."""

    step: jax.Array
    """int32 `[]`: optimizer steps taken."""

    params: Flat
    """Trainable parameters."""

    frozen: Flat
    """Parameters without gradient, optimizer state or average."""

    opt_state: optax.OptState
    ema: Flat | None
    """Moving average of `params`; None when there is none."""


Penalty = Callable[[Flat], jax.Array]
"""Trainable parameters -> scalar that is added to the loss."""

_NO_KERNEL = re.compile(r".*/(bias|scale|pos_embedding|input_embedding)")


def init_state(params: Flat, frozen: Flat, *, optimizer: optax.GradientTransformation, ema: bool) -> TrainState:
    """The state before the first step."""
    # A copy: the state is donated to the step, and two leaves of it may not share one buffer.
    average = jax.tree.map(jnp.copy, params) if ema else None
    return TrainState(jnp.zeros((), jnp.int32), params, frozen, optimizer.init(params), average)


def train_step(
    state: TrainState,
    batch: Batch,
    rng: jax.Array,
    *,
    graph: Any,
    optimizer: optax.GradientTransformation,
    schedule: optax.Schedule,
    ema_decay: float | None,
    penalties: Sequence[Penalty] = (),
) -> tuple[TrainState, Mapping[str, jax.Array]]:
    """The next state, and metrics as scalars on the device. `rng` is the run's key, the same for every step."""
    # --- Loss -------------------------------------------------------------------------------------------------------

    step_rng = jax.random.fold_in(rng, state.step)

    def objective(params: Flat) -> tuple[jax.Array, jax.Array]:
        model = merge(graph, {**params, **state.frozen})
        losses = model.loss(step_rng, batch)  # [B, T]
        real = batch.action_steps.astype(losses.dtype)
        loss = jnp.sum(losses * real) / jnp.maximum(jnp.sum(real), 1)
        penalty = sum((penalty(params) for penalty in penalties), jnp.zeros(()))
        return loss + penalty, loss

    # --- Gradient, only where something is trained ------------------------------------------------------------------

    (total, loss), gradient = jax.value_and_grad(objective, has_aux=True)(state.params)

    # --- Update -----------------------------------------------------------------------------------------------------

    updates, opt_state = optimizer.update(gradient, state.opt_state, state.params)
    params: Flat = optax.apply_updates(state.params, updates)  # pyright: ignore[reportAssignmentType]

    # --- Moving average ---------------------------------------------------------------------------------------------

    ema = state.ema
    if ema is not None and ema_decay is not None:
        ema = jax.tree.map(lambda old, new: ema_decay * old + (1 - ema_decay) * new, ema, params)

    # --- Metrics ----------------------------------------------------------------------------------------------------

    metrics = {
        "loss": loss,
        "penalty": total - loss,
        "grad_norm": optax.tree.norm(gradient),
        "param_norm": kernel_norm({**params, **state.frozen}),
        "learning_rate": jnp.asarray(schedule(state.step)),
    }
    return TrainState(state.step + 1, params, state.frozen, opt_state, ema), metrics


def kernel_norm(params: Flat) -> jax.Array:
    """Global norm of the weights that multiply: not of biases, scales of norms and embeddings (openpi-compatible)."""
    kernels = [leaf for path, leaf in params.items() if leaf.ndim > 1 and not _NO_KERNEL.fullmatch(path)]
    return optax.tree.norm([leaf.astype(jnp.float32) for leaf in kernels])
