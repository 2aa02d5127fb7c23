"""One training step, from top to bottom. This is the page to read first.

The arithmetic is openpi's: flow-matching loss, AdamW on clipped gradients (`optimizer.py`), a moving average of the
parameters.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import attrs
import jax
import jax.numpy as jnp
import optax

from fla_sdk.model import Batch, Losses, Rows
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

    penalties: tuple[Any, ...] = ()
    """What each regularizer carries."""


class Moment(NamedTuple):
    """What a penalty may look at: the model with its present parameters, and what it learns from."""

    model: Any
    batch: Batch
    rng: jax.Array
    rows: Rows | None


@attrs.frozen(kw_only=True)
class Penalty:
    """A regularizer inside the step, already weighted."""

    value: Callable[[Flat, Any, Moment], jax.Array]
    """(trainable parameters, carried state, moment) -> scalar that is added to the loss."""

    update: Callable[[Any, Flat, Flat, Flat], Any] | None = None
    """(carried state, gradient of the loss without penalties, parameters before, after) -> carried state."""


class Metrics(NamedTuple):
    """What a step measured, on the device."""

    scalars: Mapping[str, jax.Array]
    means: Mapping[str, tuple[jax.Array, jax.Array]]
    """Sum and count of what not every batch has: the loss of each robot, and of each dimension of its action."""

    gradient_norms: jax.Array
    """float32 `[P]`: of each trainable parameter, in the order of sorted paths. Not finite where it went wrong."""

    taken: jax.Array
    """bool `[]`: False when loss or gradient was not finite, and nothing changed."""


@attrs.frozen(kw_only=True)
class Robots:
    """Which robot each part of the mixture is of, to report the loss of each."""

    names: tuple[str, ...]
    dims: tuple[tuple[str, ...], ...]
    """Names of each robot's action dimensions."""

    of_part: tuple[int, ...]
    """Part of the mixture -> place in `names`."""


def init_state(
    params: Flat,
    frozen: Flat,
    *,
    optimizer: optax.GradientTransformation,
    ema: bool,
    penalties: tuple[Any, ...] = (),
) -> TrainState:
    """The state before the first step."""
    # A copy: the state is donated to the step, and two leaves of it may not share one buffer.
    average = jax.tree.map(jnp.copy, params) if ema else None
    return TrainState(jnp.zeros((), jnp.int32), params, frozen, optimizer.init(params), average, penalties)


def train_step(
    state: TrainState,
    batch: Batch,
    rng: jax.Array,
    *,
    graph: Any,
    optimizer: optax.GradientTransformation,
    schedule: optax.Schedule,
    ema_decay: float | None,
    accumulate: int = 1,
    penalties: Sequence[Penalty] = (),
    groups: Mapping[str, str] | None = None,
    robots: Robots | None = None,
) -> tuple[TrainState, Metrics]:
    """The next state, and what was measured. `rng` is the run's key, the same for every step.

    `accumulate` parts of the batch go through the model one after another, with the gradient of the whole. `groups` is
    path -> parameter group, for norms by group.
    """
    # --- Loss -------------------------------------------------------------------------------------------------------

    step_rng = jax.random.fold_in(rng, state.step)
    # Weights of steps add up over the whole batch, not within its parts: the gradient is that of the whole.
    real_steps = jnp.maximum(jnp.sum(jnp.asarray(batch.action_steps, jnp.float32)), 1)

    def objective(params: Flat, part: Batch, rows: Rows | None) -> tuple[jax.Array, Losses]:
        model = merge(graph, {**params, **state.frozen})
        losses = model.loss(step_rng, part) if rows is None else model.loss(step_rng, part, rows=rows)
        loss = jnp.sum(losses.steps * jnp.asarray(part.action_steps, jnp.float32)) / real_steps
        return loss, losses

    def penalty(params: Flat, part: Batch, rows: Rows | None) -> jax.Array:
        moment = Moment(merge(graph, {**params, **state.frozen}), part, step_rng, rows)
        values = [one.value(params, kept, moment) for one, kept in zip(penalties, state.penalties, strict=True)]
        return sum(values, jnp.zeros(())) / accumulate

    # --- Gradient, only where something is trained ------------------------------------------------------------------

    def differentiate(part: Batch, rows: Rows | None) -> Any:
        (loss, losses), gradient = jax.value_and_grad(objective, has_aux=True)(state.params, part, rows)
        if not penalties:
            return gradient, None, loss, jnp.zeros(()), losses
        extra, pull = jax.value_and_grad(penalty)(state.params, part, rows)
        return gradient, pull, loss, extra, losses

    if accumulate == 1:
        gradient, pull, loss, extra, losses = differentiate(batch, None)
    else:
        gradient, pull, loss, extra, losses = _in_parts(differentiate, batch, accumulate)
    total = gradient if pull is None else jax.tree.map(jnp.add, gradient, pull)

    # --- Update, unless something is not finite -----------------------------------------------------------------------

    squares = {path: jnp.sum(jnp.square(leaf.astype(jnp.float32))) for path, leaf in sorted(total.items())}
    taken = jnp.isfinite(sum(squares.values(), loss + extra))
    updates, opt_state = optimizer.update(total, state.opt_state, state.params)
    params: Flat = optax.apply_updates(state.params, updates)  # pyright: ignore[reportAssignmentType]

    # --- Moving average ---------------------------------------------------------------------------------------------

    ema = state.ema
    if ema is not None and ema_decay is not None:
        ema = jax.tree.map(lambda old, new: ema_decay * old + (1 - ema_decay) * new, ema, params)

    # --- What regularizers carry --------------------------------------------------------------------------------------

    carried = tuple(
        kept if one.update is None else one.update(kept, gradient, state.params, params)
        for one, kept in zip(penalties, state.penalties, strict=True)
    )

    # --- Metrics ----------------------------------------------------------------------------------------------------

    changed = (params, opt_state, ema, carried)
    before = (state.params, state.opt_state, state.ema, state.penalties)
    params, opt_state, ema, carried = jax.tree.map(lambda new, old: jnp.where(taken, new, old), changed, before)
    following = TrainState(state.step + 1, params, state.frozen, opt_state, ema, carried)
    scalars = {
        "loss": loss,
        "penalty": extra,
        "grad_norm": jnp.sqrt(sum(squares.values(), jnp.zeros(()))),
        "param_norm": kernel_norm({**params, **state.frozen}),
        "learning_rate": jnp.asarray(schedule(state.step)),
        **_norms_by_group(squares, params, groups or {}),
    }
    means = {} if robots is None or batch.origin is None else losses_by_robot(losses, batch, robots)
    norms = jnp.sqrt(jnp.stack(list(squares.values())))
    return following, Metrics(scalars, means, norms, taken)


def _in_parts(differentiate: Callable[[Batch, Rows], Any], batch: Batch, count: int) -> Any:
    """`differentiate` over `count` parts: sums, and the losses of all rows in their order.

    A part takes every `count`th row, so that each device that holds consecutive rows has some of every part.
    """
    size = batch.actions.shape[0]
    parts = jax.tree.map(lambda leaf: jnp.asarray(leaf).reshape(-1, count, *leaf.shape[1:]).swapaxes(0, 1), batch)
    index = jnp.arange(size).reshape(-1, count).T

    def add(sums: Any, part: tuple[Batch, jax.Array]) -> tuple[Any, Losses]:
        *found, losses = differentiate(part[0], Rows(part[1], size))
        return jax.tree.map(jnp.add, sums, found), losses

    first = jax.tree.map(lambda leaf: leaf[0], (parts, index))
    *shapes, _ = jax.eval_shape(lambda part, rows: differentiate(part, Rows(rows, size)), *first)
    zeros = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)
    sums, losses = jax.lax.scan(add, zeros, (parts, index))
    return *sums, jax.tree.map(lambda leaf: leaf.swapaxes(0, 1).reshape(size, *leaf.shape[2:]), losses)


def losses_by_robot(losses: Losses, batch: Batch, robots: Robots) -> dict[str, tuple[jax.Array, jax.Array]]:
    """`loss/<robot>` and `loss/<robot>/<dimension>`, each with how many samples it is a sum over."""
    real = jnp.asarray(batch.action_steps, jnp.float32)
    by_sample = jnp.sum(losses.steps * real, axis=1) / jnp.maximum(jnp.sum(real, axis=1), 1)
    which = jnp.asarray(robots.of_part)[jnp.asarray(batch.origin)[:, 0]]
    found: dict[str, tuple[jax.Array, jax.Array]] = {}
    for number, (name, dims) in enumerate(zip(robots.names, robots.dims, strict=True)):
        here = (which == number).astype(jnp.float32)
        count = jnp.sum(here)
        found[f"loss/{name}"] = jnp.sum(by_sample * here), count
        if losses.dims is not None:
            sums = jnp.sum(losses.dims * here[:, None], axis=0)
            found |= {f"loss/{name}/{dim}": (sums[i], count) for i, dim in enumerate(dims)}
    return found


def _norms_by_group(squares: Mapping[str, jax.Array], params: Flat, groups: Mapping[str, str]) -> dict[str, jax.Array]:
    """Norms of gradient and parameters of each group that is trained."""
    found: dict[str, jax.Array] = {}
    for group in sorted({groups[path] for path in params if path in groups}):
        paths = [path for path in params if groups.get(path) == group]
        found[f"grad_norm/{group}"] = jnp.sqrt(sum((squares[path] for path in paths), jnp.zeros(())))
        found[f"param_norm/{group}"] = optax.tree.norm([params[path].astype(jnp.float32) for path in paths])
    return found


_NO_KERNEL = re.compile(r".*/(bias|scale|pos_embedding|input_embedding)")


def kernel_norm(params: Flat) -> jax.Array:
    """Global norm of the weights that multiply: not of biases, scales of norms and embeddings (openpi-compatible)."""
    kernels = [leaf for path, leaf in params.items() if leaf.ndim > 1 and not _NO_KERNEL.fullmatch(path)]
    return optax.tree.norm([leaf.astype(jnp.float32) for leaf in kernels])
