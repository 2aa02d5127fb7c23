"""Pieces of the token sequence: which tokens are real, and which may attend to which. And pieces of a batch."""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp

from fla_sdk.model import Rows


class Segment(NamedTuple):
    """Consecutive tokens of the sequence."""

    tokens: jax.Array
    """`[B, N, width]`."""

    valid: jax.Array
    """bool `[B, N]`: False on padding and on images that are not there."""

    starts: jax.Array
    """bool `[B, N]`: True where a block begins that earlier tokens may not attend to. Within a block, and from a block
    to all before it, attention is free."""


def join(segments: Sequence[Segment]) -> Segment:
    """The segments one after another."""
    return Segment(
        tokens=jnp.concatenate([s.tokens for s in segments], axis=1),
        valid=jnp.concatenate([s.valid for s in segments], axis=1),
        starts=jnp.concatenate([s.starts for s in segments], axis=1),
    )


def block_mask(valid: jax.Array, starts: jax.Array) -> jax.Array:
    """bool `[B, N, N]`, True where query (second axis) may attend to key (last axis).

    Both arguments are `[B, N]`.
    """
    block = jnp.cumsum(starts, axis=1)
    return (block[:, None, :] <= block[:, :, None]) & (valid[:, None, :] & valid[:, :, None])


def positions(valid: jax.Array) -> jax.Array:
    """int32 `[B, N]`: the index of each token among the valid ones, so that padding takes no position."""
    return jnp.cumsum(valid, axis=1, dtype=jnp.int32) - 1


def cut(drawn: jax.Array, rows: Rows | None) -> jax.Array:
    """What was drawn for a whole batch, `[K * total, ...]` with K per row, for some of its rows: `[K * B, ...]`."""
    if rows is None:
        return drawn
    each = drawn.reshape(rows.total, -1, *drawn.shape[1:])
    return each[rows.index].reshape(-1, *drawn.shape[1:])
