"""Cross-entropy of text."""

from collections.abc import Callable

import jax
import jax.numpy as jnp


def next_token_loss(
    logits: Callable[[jax.Array], jax.Array], out: jax.Array, *, tokens: jax.Array, counts: jax.Array
) -> jax.Array:
    """float32 `[B]`: mean cross-entropy of the tokens that count, each predicted from the output before it.

    `out` `[B, P, D]` are outputs of the language model that end with those at `tokens` int `[B, L]`; `counts` is bool
    `[B, L]`; `logits` maps `[..., D]` to `[..., V]`. Examples are decoded one by one, because the vocabulary is large:
    200 tokens of PaliGemma's take 200 MB in float32.
    """
    length = tokens.shape[1]

    @jax.checkpoint
    def one(row: tuple[jax.Array, jax.Array, jax.Array]) -> jax.Array:
        out, tokens, counts = row
        scores = jax.nn.log_softmax(logits(out[-length:-1]).astype(jnp.float32), axis=-1)
        chosen = jnp.take_along_axis(scores, tokens[1:, None], axis=-1)[:, 0]
        counts = counts[1:].astype(jnp.float32)
        return -jnp.sum(chosen * counts) / jnp.maximum(jnp.sum(counts), 1)

    return jax.lax.map(one, (out[:, -length:], jnp.asarray(tokens), jnp.asarray(counts)))
