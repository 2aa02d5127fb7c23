"""Attention over one sequence that several passes contribute to: rotary positions, windows, grouped queries.

Shapes: B batch, T queries, S keys, N heads, K key-value heads, G = N // K, H head_dim, L layers.
"""

import functools
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp

from fla_models.configs import LocalAttention

_MASKED = -2.3819763e38
"""Logit of a forbidden pair: close to the lowest float32, so that a row of them has a finite softmax."""


class Seen(NamedTuple):
    """Tokens of earlier passes. `C` divides the batch `B` of the pass that looks at them: each row here serves `B // C`
    consecutive rows there.
    """

    keys: jax.Array
    """`[L, C, S, K, H]`, rotated."""

    values: jax.Array
    """`[L, C, S, K, H]`."""

    mask: jax.Array
    """bool `[C, S]`: True on those that may be attended to."""

    positions: jax.Array
    """int `[C, S]`."""


Rotation = tuple[jax.Array, jax.Array]
"""Cosines and sines, float32 `[B, T, 1, H / 2]`."""


def rotations(positions: jax.Array, *, head_dim: int, base: float = 10_000, scale: float = 1) -> Rotation:
    """Angles of rotary position embedding (arXiv:2104.09864) at int `[B, T]`."""
    timescale = base ** (2 / head_dim * jnp.arange(head_dim // 2, dtype=jnp.float32))
    angles = (positions[..., None] / (timescale * scale))[..., None, :]
    return jnp.cos(angles), jnp.sin(angles)


def rotate(x: jax.Array, rotation: Rotation) -> jax.Array:
    """Rotate the two halves of the last axis of `[B, T, heads, H]` against each other; float32 inside and out."""
    cos, sin = rotation
    first, second = jnp.split(x, 2, axis=-1)
    return jnp.concatenate([first * cos - second * sin, second * cos + first * sin], axis=-1)


class Keys(NamedTuple):
    """What the queries of one layer may attend to; `C` as in `Seen`."""

    keys: jax.Array
    """`[C, S, K, H]`."""

    values: jax.Array
    mask: jax.Array
    """bool `[C, T, S]`, or `[C, 1, S]` when all queries may see the same. With `C` below B: over the B // C * T queries
    that a row serves."""


def attend(query: jax.Array, sources: Sequence[Keys]) -> jax.Array:
    """Grouped-query attention of `[B, T, N, H]` over all `sources` together, as if they were concatenated.

    They are not: a long cache is read where it is, not copied in every layer of every denoising step.
    """
    batch, length, heads, head_dim = query.shape
    logits: list[jax.Array] = []
    for keys, _, mask in sources:
        rows, size, kv_heads, _ = keys.shape
        grouped = query.reshape(rows, batch // rows, length, kv_heads, heads // kv_heads, head_dim)
        one = jnp.einsum("CRTKGH,CSKH->CRKGTS", grouped, keys, preferred_element_type=jnp.float32)
        allowed = mask.reshape(rows, -1, 1, 1, min(length, mask.shape[1]), size)
        one = jnp.where(allowed, one, _MASKED)
        logits.append(one.reshape(batch, kv_heads, -1, length, size))
    # A softmax over all sources, piece by piece.
    largest = functools.reduce(jnp.maximum, [jnp.max(one, axis=-1, keepdims=True) for one in logits])
    weights = [jnp.exp(one - jax.lax.stop_gradient(largest)) for one in logits]
    total = functools.reduce(jnp.add, [jnp.sum(one, axis=-1, keepdims=True) for one in weights])
    mixed: list[jax.Array] = []
    for (_, values, _), one in zip(sources, weights, strict=True):
        share = (one / total).astype(values.dtype).reshape(values.shape[0], -1, *one.shape[1:])
        mixed.append(jnp.einsum("CRKGTS,CSKH->CRTKGH", share, values).reshape(query.shape))
    return functools.reduce(jnp.add, mixed)


class Reach:
    """How far the layers of one pass see: rotations and windows of local and global ones, computed once."""

    def __init__(self, local: LocalAttention | None, *, depth: int, head_dim: int, positions: jax.Array) -> None:
        self.local, self.positions = local, positions
        self.near_rotation = rotations(positions, head_dim=head_dim)
        self.is_global = None
        if local is not None:
            self.is_global = jnp.arange(1, depth + 1) % local.global_every == 0
            base, scale = local.global_rope_base, local.global_rope_scale
            self.far_rotation = rotations(positions, head_dim=head_dim, base=base, scale=scale)

    def rotation(self, is_global: jax.Array | None) -> Rotation:
        if is_global is None:
            return self.near_rotation
        (near_cos, near_sin), (far_cos, far_sin) = self.near_rotation, self.far_rotation
        return jnp.where(is_global, far_cos, near_cos), jnp.where(is_global, far_sin, near_sin)

    def near(self, mask: jax.Array, keys: jax.Array, is_global: jax.Array | None) -> jax.Array:
        """`mask` `[C, T or 1, S]`, without the keys at int `[C, S]` that are too far away for a local layer."""
        if self.local is None or is_global is None:
            return mask
        queries = self.positions.reshape(keys.shape[0], -1)
        distance = jnp.abs(queries[:, :, None] - keys[:, None, :])
        return mask & (is_global | (distance < self.local.window))
