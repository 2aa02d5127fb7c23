"""RMS norm, plain and adaptive. openpi-compatible."""

import jax
import jax.numpy as jnp
from flax import nnx
from flax.nnx import initializers


class RMSNorm(nnx.Module):
    """RMS norm; adaptive where it is built with a condition.

    Statistics and product are float32, the result has the input's dtype. The adaptive norm (after DiT,
    arXiv:2212.09748) takes scale, shift and a gate for the residual from a linear map of the condition, zero at the
    start.
    """

    def __init__(self, width: int, *, condition: int | None = None, rngs: nnx.Rngs) -> None:
        """`condition` is the width of the condition, None for a plain norm."""
        self.adaptive = condition is not None
        if condition is None:
            self.scale = nnx.Param(jnp.zeros(width))
        else:
            self.Dense_0 = nnx.Linear(condition, 3 * width, kernel_init=initializers.zeros, rngs=rngs)

    def modulation(self, condition: jax.Array, *, dtype: jnp.dtype) -> jax.Array:
        """Condition `[..., C]` to `[..., 3 D]`; to `[L, ..., 3 D]` when this is a stack of norms."""
        assert self.Dense_0.bias is not None
        kernel, bias = self.Dense_0.kernel[...].astype(dtype), self.Dense_0.bias[...].astype(dtype)
        if kernel.ndim == 2:
            return condition.astype(dtype) @ kernel + bias
        mapped = jnp.einsum("...c,lcd->l...d", condition.astype(dtype), kernel)
        return mapped + bias.reshape(bias.shape[0], *[1] * (condition.ndim - 1), bias.shape[1])

    def __call__(self, x: jax.Array, modulation: jax.Array | None = None) -> tuple[jax.Array, jax.Array | None]:
        """`[B, T, D]` and modulation `[B, T, 3 D]` to the normed `[B, T, D]` and the gate, None when plain."""
        wide = x.astype(jnp.float32)
        normed = wide * jax.lax.rsqrt(jnp.mean(jnp.square(wide), axis=-1, keepdims=True) + 1e-6)
        if not self.adaptive:
            return (normed * (1 + self.scale[...])).astype(x.dtype), None
        assert modulation is not None
        scale, shift, gate = jnp.split(modulation, 3, axis=-1)
        return (normed * (1 + scale) + shift).astype(x.dtype), gate


def residual(x: jax.Array, update: jax.Array, gate: jax.Array | None) -> jax.Array:
    """`x` plus the update, gated by an adaptive norm."""
    return x + update if gate is None else x + update * gate
