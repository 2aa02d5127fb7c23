"""Gemma transformer in which experts with own weights share one sequence. openpi-compatible.

Gemma: arXiv:2403.08295. The mixture of experts over one sequence: Black et al., "pi0", arXiv:2410.24164, section IV.
Expert 0 is the language model; the names of expert 1's parameters end in `_1`. Attribute names are the parameter paths
of the published weights.

Shapes: B batch, T queries, S keys, D width, N heads, K key-value heads, G = N // K, H head_dim.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from flax import nnx
from flax.nnx import initializers

from fla_models.configs import GemmaConfig
from fla_models.lora import Einsum, FeedForward
from fla_models.stack import Schedule, scan, stack

Streams = tuple[jax.Array | None, ...]
"""One `[B, T, D]` per expert; None for an expert that takes no part in this pass."""

Cache = tuple[jax.Array, jax.Array]
"""Rotated keys and values, each `[layers, B, S, K, H]`."""

_MASKED = -2.3819763e38
"""Logit of a forbidden pair: close to the lowest float32, so that a row of them has a finite softmax."""


def of_expert(name: str, expert: int) -> str:
    """The attribute that holds `name` of this expert."""
    return name if expert == 0 else f"{name}_{expert}"


class RMSNorm(nnx.Module):
    """RMS norm; adaptive where it is built with a condition.

    Statistics and product are float32, the result has the input's dtype. The adaptive norm (after DiT,
    arXiv:2212.09748) takes scale, shift and a gate for the residual from a linear map of the condition, zero at the
    start.
    """

    def __init__(self, width: int, *, condition: int | None, rngs: nnx.Rngs) -> None:
        """`condition` is the width of the condition, None for a plain norm."""
        self.adaptive = condition is not None
        if condition is None:
            self.scale = nnx.Param(jnp.zeros(width))
        else:
            self.Dense_0 = nnx.Linear(condition, 3 * width, kernel_init=initializers.zeros, rngs=rngs)

    def __call__(self, x: jax.Array, *, condition: jax.Array | None = None) -> tuple[jax.Array, jax.Array | None]:
        """`[B, T, D]` and condition `[B, C]` to the normed `[B, T, D]` and gate `[B, 1, D]`, None when plain."""
        wide = x.astype(jnp.float32)
        normed = wide * jax.lax.rsqrt(jnp.mean(jnp.square(wide), axis=-1, keepdims=True) + 1e-6)
        if not self.adaptive:
            return (normed * (1 + self.scale[...])).astype(x.dtype), None
        assert condition is not None
        kernel = self.Dense_0.kernel[...].astype(x.dtype)
        assert self.Dense_0.bias is not None
        bias = self.Dense_0.bias[...].astype(x.dtype)
        modulation = (condition.astype(x.dtype) @ kernel + bias)[:, None, :]
        scale, shift, gate = jnp.split(modulation, 3, axis=-1)
        return (normed * (1 + scale) + shift).astype(x.dtype), gate


def residual(x: jax.Array, update: jax.Array, gate: jax.Array | None) -> jax.Array:
    """`x` plus the update, gated by an adaptive norm."""
    return x + update if gate is None else x + update * gate


def rotations(positions: jax.Array, *, head_dim: int) -> tuple[jax.Array, jax.Array]:
    """Cosines and sines of rotary position embedding (arXiv:2104.09864), float32 `[B, T, 1, H / 2]`."""
    timescale = 10_000 ** (2 / head_dim * jnp.arange(head_dim // 2, dtype=jnp.float32))
    angles = (positions[..., None] / timescale)[..., None, :]
    return jnp.cos(angles), jnp.sin(angles)


def rotate(x: jax.Array, rotation: tuple[jax.Array, jax.Array]) -> jax.Array:
    """Rotate the two halves of the last axis of `[B, T, heads, H]` against each other; float32 inside."""
    cos, sin = rotation
    first, second = jnp.split(x, 2, axis=-1)
    return jnp.concatenate([first * cos - second * sin, second * cos + first * sin], axis=-1).astype(x.dtype)


class Attention(nnx.Module):
    """Grouped-query attention of all experts over the joint sequence."""

    def __init__(self, configs: Sequence[GemmaConfig], *, rngs: nnx.Rngs) -> None:
        self.kv_heads = configs[0].kv_heads
        self.fused = configs[0].kv_heads == configs[0].heads
        out_init = initializers.lecun_normal(in_axis=(-3, -2), out_axis=-1)
        for i, c in enumerate(configs):

            def einsum(*shape: int, config: GemmaConfig = c) -> Einsum:
                init = initializers.lecun_normal(in_axis=-2, out_axis=-1, batch_axis=tuple(range(len(shape) - 2)))
                return Einsum(shape, init=init, lora=config.lora_attention, rngs=rngs)

            if self.fused:
                setattr(self, of_expert("qkv_einsum", i), einsum(3, c.heads, c.width, c.head_dim))
            else:
                setattr(self, of_expert("q_einsum", i), einsum(c.heads, c.width, c.head_dim))
                setattr(self, of_expert("kv_einsum", i), einsum(2, c.kv_heads, c.width, c.head_dim))
            out = Einsum((c.heads, c.head_dim, c.width), init=out_init, lora=c.lora_attention, rngs=rngs)
            setattr(self, of_expert("attn_vec_einsum", i), out)

    def _project(self, x: jax.Array, expert: int) -> tuple[jax.Array, jax.Array, jax.Array]:
        if self.fused:
            query, key, value = getattr(self, of_expert("qkv_einsum", expert))("BSD,3KDH->3BSKH", x)
        else:
            query = getattr(self, of_expert("q_einsum", expert))("BTD,NDH->BTNH", x)
            key, value = getattr(self, of_expert("kv_einsum", expert))("BSD,2KDH->2BSKH", x)
        return query, key, value

    def __call__(
        self, xs: Streams, *, rotation: tuple[jax.Array, jax.Array], mask: jax.Array, cache: Cache | None
    ) -> tuple[Streams, Cache]:
        """Attention outputs per expert, and the keys and values of this pass, those of `cache` before them."""
        parts = [self._project(x, i) for i, x in enumerate(xs) if x is not None]
        query, key, value = (jnp.concatenate(part, axis=1) for part in zip(*parts, strict=True))
        query = rotate(query, rotation)
        query = query * query.shape[-1] ** -0.5
        key = rotate(key, rotation)
        if cache is not None:
            key = jnp.concatenate([cache[0], key], axis=1)
            value = jnp.concatenate([cache[1], value], axis=1)

        batch, length, heads, head_dim = query.shape
        grouped = query.reshape(batch, length, self.kv_heads, heads // self.kv_heads, head_dim)
        logits = jnp.einsum("BTKGH,BSKH->BKGTS", grouped, key, preferred_element_type=jnp.float32)
        weights = jax.nn.softmax(jnp.where(mask[:, None, None], logits, _MASKED)).astype(query.dtype)
        mixed = jnp.einsum("BKGTS,BSKH->BTKGH", weights, value).reshape(batch, length, heads, head_dim)

        outs: list[jax.Array | None] = []
        start = 0
        for i, x in enumerate(xs):
            if x is None:
                outs.append(None)
                continue
            own = mixed[:, start : start + x.shape[1]]
            outs.append(getattr(self, of_expert("attn_vec_einsum", i))("BTNH,NHD->BTD", own))
            start += x.shape[1]
        return tuple(outs), (key, value)


class Layer(nnx.Module):
    """Pre-norm attention over the joint sequence, then each expert's own MLP."""

    def __init__(self, configs: Sequence[GemmaConfig], *, conditions: Sequence[int | None], rngs: nnx.Rngs) -> None:
        self.attn = Attention(configs, rngs=rngs)
        for i, (c, condition) in enumerate(zip(configs, conditions, strict=True)):
            setattr(self, of_expert("pre_attention_norm", i), RMSNorm(c.width, condition=condition, rngs=rngs))
            setattr(self, of_expert("pre_ffw_norm", i), RMSNorm(c.width, condition=condition, rngs=rngs))
            mlp = FeedForward(width=c.width, mlp_dim=c.mlp_dim, lora=c.lora_mlp, rngs=rngs)
            setattr(self, of_expert("mlp", i), mlp)

    def __call__(
        self,
        xs: Streams,
        *,
        rotation: tuple[jax.Array, jax.Array],
        mask: jax.Array,
        conditions: Streams,
        cache: Cache | None,
    ) -> tuple[Streams, Cache]:
        normed = self._norm("pre_attention_norm", xs, conditions)
        attended, cache = self.attn(tuple(h for h, _ in normed), rotation=rotation, mask=mask, cache=cache)
        xs = tuple(
            None if x is None or a is None else residual(x, a, gate)
            for x, a, (_, gate) in zip(xs, attended, normed, strict=True)
        )
        normed = self._norm("pre_ffw_norm", xs, conditions)
        xs = tuple(
            None if x is None or h is None else residual(x, getattr(self, of_expert("mlp", i))(h), gate)
            for i, (x, (h, gate)) in enumerate(zip(xs, normed, strict=True))
        )
        return xs, cache

    def _norm(self, name: str, xs: Streams, conditions: Streams) -> list[tuple[jax.Array | None, jax.Array | None]]:
        return [
            (None, None) if x is None else getattr(self, of_expert(name, i))(x, condition=condition)
            for i, (x, condition) in enumerate(zip(xs, conditions, strict=True))
        ]


class Embedder(nnx.Module):
    """Token ids to vectors, scaled by sqrt(width) as Gemma does."""

    def __init__(self, *, vocab_size: int, width: int, rngs: nnx.Rngs) -> None:
        self.input_embedding = nnx.Param(initializers.normal(0.01)(rngs.params(), (vocab_size, width)))

    def __call__(self, tokens: jax.Array) -> jax.Array:
        """int `[B, L]` to `[B, L, D]` in the table's dtype."""
        table = self.input_embedding[...]
        # The factor is rounded to the table's dtype: 45.25 for the published width in bfloat16.
        return table[tokens] * jnp.sqrt(table.shape[1]).astype(table.dtype)


class Gemma(nnx.Module):
    """The transformer. Tokens enter as vectors: the embedder is called by the model around it."""

    def __init__(
        self,
        configs: Sequence[GemmaConfig],
        *,
        vocab_size: int,
        conditions: Sequence[int | None],
        dtype: jnp.dtype,
        schedule: Schedule,
        rngs: nnx.Rngs,
    ) -> None:
        """`conditions` gives per expert the width of its norms' condition, None for plain norms."""
        self.embedder = Embedder(vocab_size=vocab_size, width=configs[0].width, rngs=rngs)
        self.layers = stack(lambda r: Layer(configs, conditions=conditions, rngs=r), depth=configs[0].depth, rngs=rngs)
        for i, (c, condition) in enumerate(zip(configs, conditions, strict=True)):
            setattr(self, of_expert("final_norm", i), RMSNorm(c.width, condition=condition, rngs=rngs))
        self.head_dim = configs[0].head_dim
        self.dtype = dtype
        self.schedule = schedule

    def embed(self, tokens: jax.Array) -> jax.Array:
        """int `[B, L]` to `[B, L, D]` in the activation dtype."""
        return self.embedder(tokens).astype(self.dtype)

    def __call__(
        self,
        xs: Streams,
        *,
        positions: jax.Array,
        mask: jax.Array,
        conditions: Streams | None = None,
        cache: Cache | None = None,
    ) -> tuple[Streams, Cache]:
        """Run the present streams, in the order of the experts, as one sequence.

        `positions` is int `[B, T]` over that sequence; `mask` bool `[B, T, S]`, where the S keys are those of `cache`
        followed by the T tokens of this pass; `conditions` per expert `[B, C]` or None. Returns the normed outputs and
        the keys and values of all S tokens.
        """
        conditions = conditions or (None,) * len(xs)
        rotation = rotations(positions, head_dim=self.head_dim)
        xs = tuple(None if x is None else x.astype(self.dtype) for x in xs)

        def step(layer: Layer, xs: Streams, cache: Cache | None) -> tuple[Streams, Cache]:
            return layer(xs, rotation=rotation, mask=mask, conditions=conditions, cache=cache)

        xs, seen = scan(self.layers, xs, step=step, extras=cache, schedule=self.schedule)
        outs = tuple(
            None if x is None else getattr(self, of_expert("final_norm", i))(x, condition=condition)[0]
            for i, (x, condition) in enumerate(zip(xs, conditions, strict=True))
        )
        return outs, seen
