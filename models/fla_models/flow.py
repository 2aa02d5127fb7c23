"""Flow matching over action chunks: what is drawn in training, how a chunk is integrated, and what may steer it.

Lipman et al., arXiv:2210.02747, in the convention of Pi0's published weights: time 1 is noise, time 0 is data.
openpi-compatible.
"""

from collections.abc import Callable
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from fla_sdk.model import ActionPrefix

MAX_GUIDANCE = 5.0
"""Largest weight of the pull towards a prefix: `beta` in arXiv:2506.07339."""


def draw_time(rng: jax.Array, *, batch: int, alpha: float = 1.5) -> jax.Array:
    """float32 `[B]` in [0.001, 1], more often near noise the larger `alpha` is: Beta(alpha, 1)."""
    return jax.random.beta(rng, alpha, 1, (batch,)) * 0.999 + 0.001


def interpolate(actions: jax.Array, *, noise: jax.Array, time: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The noisy actions at `time` `[B]` or `[B, T]`, and the velocity towards noise there, both `[B, T, D]`."""
    t = time.reshape(*time.shape, *[1] * (3 - time.ndim))
    return t * noise + (1 - t) * actions, noise - actions


def time_embedding(time: jax.Array, *, width: int, min_period: float = 4e-3, max_period: float = 4.0) -> jax.Array:
    """`[...]` to float32 `[..., width]`: sines, then cosines, of periods spaced geometrically."""
    fraction = jnp.linspace(0.0, 1.0, width // 2)
    period = min_period * (max_period / min_period) ** fraction
    angles = time[..., None] * (1.0 / period * 2 * jnp.pi)
    return jnp.concatenate([jnp.sin(angles), jnp.cos(angles)], axis=-1)


def times(steps: int) -> NDArray[np.float32]:
    """The times `[steps]` that Euler's method visits, added up in float32 as the reference does."""
    dt = np.float32(-1.0 / steps)
    return np.cumsum(np.array([1.0, *[dt] * (steps - 1)], np.float32), dtype=np.float32)


def integrate(
    velocity: Callable[[jax.Array, jax.Array, Any], jax.Array],
    noise: jax.Array,
    *,
    steps: int,
    moments: Any = None,
    compat: Literal["fixed", "openpi"] = "fixed",
) -> jax.Array:
    """Euler's method from `noise` `[B, T, D]` at time 1 to actions at time 0, in `steps` equal steps.

    `velocity(actions, time, moment)` takes `[B, T, D]`, a scalar, and its slice of `moments`, a pytree whose leaves
    have a leading axis of `steps`: all that depends on time alone. With `compat="openpi"` the step is multiplied in the
    velocity's dtype: for bfloat16 the way is 1.0009765625 times too long at 5, 10, 25 or 50 steps.
    """
    dt = -1.0 / steps

    def step(x: jax.Array, at: tuple[jax.Array, Any]) -> tuple[jax.Array, None]:
        v = velocity(x, *at)
        if compat == "fixed":
            v = v.astype(x.dtype)
        return x + dt * v, None

    actions, _ = jax.lax.scan(step, noise, (jnp.asarray(times(steps)), moments))
    return actions


def prefix_weights(prefix: ActionPrefix, *, horizon: int) -> jax.Array:
    """How much each action of a chunk is bound to the prefix, float32 `[B, T]` (arXiv:2506.07339, equation 5).

    1 for the `delay` actions that will have been executed, then a decay that is exponential in the index, 0 from
    `length` on, where the prefix holds nothing.
    """
    index = jnp.arange(horizon)[None, :]
    delay, length = prefix.delay[:, None], prefix.length[:, None]
    c = (length - index) / (length - delay + 1)
    decay = c * jnp.expm1(c) / jnp.expm1(1.0)
    return jnp.where(index < delay, 1.0, jnp.where(index < length, decay, 0.0)).astype(jnp.float32)


def pull_towards(
    prefix: ActionPrefix,
    velocity: Callable[[jax.Array], jax.Array],
    noisy: jax.Array,
    *,
    time: jax.Array,
    max_guidance: float = MAX_GUIDANCE,
) -> jax.Array:
    """The velocity at `noisy` `[B, T, D]`, bent so that the chunk continues `prefix`.

    Real-time chunking by guidance (arXiv:2506.07339, equations 2 to 4): the error of the denoised estimate against the
    prefix is carried back through the model by the true vector-Jacobian product. `time` is a scalar, 1 at noise, where
    the paper's is 0.
    """
    horizon = noisy.shape[1]

    def denoised(x: jax.Array) -> tuple[jax.Array, jax.Array]:
        v = velocity(x).astype(x.dtype)
        return x - time * v, v

    estimate, backward, v = jax.vjp(denoised, noisy, has_aux=True)
    error = (prefix.actions - estimate) * prefix_weights(prefix, horizon=horizon)[:, :, None]
    (correction,) = backward(error)
    # (1 - tau) / (tau r^2) with r^2 = (1 - tau)^2 / (tau^2 + (1 - tau)^2) and tau = 1 - time; infinite at noise.
    clean = 1 - time
    weight = jnp.minimum(max_guidance, (clean**2 + time**2) / jnp.maximum(clean * time, 1e-9))
    return v - weight * correction
