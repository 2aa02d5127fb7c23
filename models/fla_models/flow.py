"""Flow matching over action chunks: what is drawn in training, and how a chunk is integrated.

Lipman et al., arXiv:2210.02747, in the convention of Pi0's published weights: time 1 is noise, time 0 is data.
openpi-compatible.
"""

from collections.abc import Callable
from typing import Literal

import jax
import jax.numpy as jnp


def draw_time(rng: jax.Array, *, batch: int, alpha: float = 1.5) -> jax.Array:
    """float32 `[B]` in [0.001, 1], more often near noise the larger `alpha` is: Beta(alpha, 1)."""
    return jax.random.beta(rng, alpha, 1, (batch,)) * 0.999 + 0.001


def interpolate(actions: jax.Array, *, noise: jax.Array, time: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The noisy actions at `time` `[B]` and the velocity towards noise there, both `[B, T, D]`."""
    t = time[:, None, None]
    return t * noise + (1 - t) * actions, noise - actions


def time_embedding(time: jax.Array, *, width: int, min_period: float = 4e-3, max_period: float = 4.0) -> jax.Array:
    """`[B]` to float32 `[B, width]`: sines, then cosines, of periods spaced geometrically."""
    fraction = jnp.linspace(0.0, 1.0, width // 2)
    period = min_period * (max_period / min_period) ** fraction
    angles = time[:, None] * (1.0 / period * 2 * jnp.pi)[None, :]
    return jnp.concatenate([jnp.sin(angles), jnp.cos(angles)], axis=-1)


def integrate(
    velocity: Callable[[jax.Array, jax.Array], jax.Array],
    noise: jax.Array,
    *,
    steps: int,
    compat: Literal["fixed", "openpi"] = "fixed",
) -> jax.Array:
    """Euler's method from `noise` `[B, T, D]` at time 1 to actions at time 0, in `steps` equal steps.

    `velocity(actions, time)` takes `[B, T, D]` and a scalar. With `compat="openpi"` the step is multiplied in the
    velocity's dtype: for bfloat16 the way is 1.0009765625 times too long at 5, 10, 25 or 50 steps.
    """
    dt = -1.0 / steps

    def step(_: int, state: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        x, time = state
        v = velocity(x, time)
        if compat == "fixed":
            v = v.astype(x.dtype)
        return x + dt * v, time + dt

    actions, _ = jax.lax.fori_loop(0, steps, step, (noise, jnp.asarray(1.0, jnp.float32)))
    return actions
