"""Weights of an einsum or a gated MLP, with optional low-rank adapters. openpi-compatible.

Hu et al., "LoRA: Low-Rank Adaptation of Large Language Models", arXiv:2106.09685. Two properties of the reference that
published LoRA weights depend on: both factors start from N(0, 0.01), so a fresh adapter changes the model a little;
and the MLP's adapters ignore alpha.
"""

import math

import jax
import jax.numpy as jnp
from flax import nnx
from flax.nnx import initializers

from fla_models.configs import LoraConfig

_ADAPTER = initializers.normal(0.01)


def scaling(lora: LoraConfig) -> float:
    """What the adapter's output is multiplied by."""
    return lora.alpha / (math.sqrt(lora.rank) if lora.rslora else lora.rank)


class Einsum(nnx.Module):
    """A weight `w` contracted with the input by an equation given at call, computed in the input's dtype."""

    def __init__(
        self, shape: tuple[int, ...], *, init: jax.nn.initializers.Initializer, lora: LoraConfig | None, rngs: nnx.Rngs
    ) -> None:
        self.w = nnx.Param(init(rngs.params(), shape))
        self.lora = lora
        if lora is not None:
            self.lora_a = nnx.Param(_ADAPTER(rngs.params(), (*shape[:-1], lora.rank)))
            self.lora_b = nnx.Param(_ADAPTER(rngs.params(), (*shape[:-2], lora.rank, shape[-1])))

    def __call__(self, equation: str, x: jax.Array) -> jax.Array:
        """`equation` has the form `x,w->out`, for example `BTD,NDH->BTNH`."""
        out = jnp.einsum(equation, x, self.w[...].astype(x.dtype))
        if self.lora is None:
            return out
        to_rank, from_rank = adapter_equations(equation)
        low = jnp.einsum(to_rank, x, self.lora_a[...].astype(x.dtype))
        return out + jnp.einsum(from_rank, low, self.lora_b[...].astype(x.dtype)) * scaling(self.lora)


def adapter_equations(equation: str) -> tuple[str, str]:
    """Equations of the two adapter products of `x,w->out`, with `L` as the rank.

    The rank takes the place of the weight's last axis in the first factor and of its last but one in the second. An
    axis that the first product does not carry to the output is summed there: for `BTNH,NHD->BTD` the heads are summed
    at the bottleneck, `BTNH,NHL->BTL` and then `BTL,NLD->BTD`.
    """
    inputs, out = equation.split("->")
    x, w = inputs.split(",")
    contracted, kept = w[-2], w[-1]
    low = out.replace(kept, "L")
    return f"{x},{w.replace(kept, 'L')}->{low}", f"{low},{w.replace(contracted, 'L')}->{out}"


class FeedForward(nnx.Module):
    """Gated GELU (tanh-approximated) MLP without biases, computed in the input's dtype."""

    def __init__(self, *, width: int, mlp_dim: int, lora: LoraConfig | None, rngs: nnx.Rngs) -> None:
        gate_init = initializers.lecun_normal(in_axis=-2, out_axis=-1, batch_axis=(0,))
        self.gating_einsum = nnx.Param(gate_init(rngs.params(), (2, width, mlp_dim)))
        self.linear = nnx.Param(initializers.lecun_normal()(rngs.params(), (mlp_dim, width)))
        self.lora = lora
        if lora is not None:
            rank = lora.rank
            self.gating_einsum_lora_a = nnx.Param(_ADAPTER(rngs.params(), (2, width, rank)))
            self.gating_einsum_lora_b = nnx.Param(_ADAPTER(rngs.params(), (2, rank, mlp_dim)))
            self.linear_lora_a = nnx.Param(_ADAPTER(rngs.params(), (mlp_dim, rank)))
            self.linear_lora_b = nnx.Param(_ADAPTER(rngs.params(), (rank, width)))

    def __call__(self, x: jax.Array) -> jax.Array:
        """`[..., width]` to the same."""
        # Flat, because XLA's CPU backend takes twice as long over gradients of products with two leading axes.
        return self._flat(x.reshape(-1, x.shape[-1])).reshape(x.shape)

    def _flat(self, x: jax.Array) -> jax.Array:
        dtype = x.dtype
        gate_up, down = self.gating_einsum[...].astype(dtype), self.linear[...].astype(dtype)
        if self.lora is None:
            return (nnx.gelu(x @ gate_up[0], approximate=True) * (x @ gate_up[1])) @ down
        gate_up_a = self.gating_einsum_lora_a[...].astype(dtype)
        gate_up_b = self.gating_einsum_lora_b[...].astype(dtype)
        down_a, down_b = self.linear_lora_a[...].astype(dtype), self.linear_lora_b[...].astype(dtype)
        gate = x @ gate_up[0] + (x @ gate_up_a[0]) @ gate_up_b[0]
        up = x @ gate_up[1] + (x @ gate_up_a[1]) @ gate_up_b[1]
        hidden = nnx.gelu(gate, approximate=True) * up
        return hidden @ down + (hidden @ down_a) @ down_b
