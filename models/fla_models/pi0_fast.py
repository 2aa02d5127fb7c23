"""Pi0-FAST: the language model itself writes action chunks, as tokens.

Pertsch et al., "FAST: Efficient Action Tokenization for Vision-Language-Action Models", arXiv:2501.09747. With
`compat="openpi"` numerically openpi's, which differs from its own training in three ways while it answers; see
docs/models.md.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from fla_models import scratch, text
from fla_models.attention import Seen
from fla_models.configs import Pi0FastConfig
from fla_models.paligemma import PaliGemma
from fla_models.sequence import Segment, block_mask, positions
from fla_models.tokenizers.words import EOS
from fla_sdk.errors import ConfigError
from fla_sdk.model import ActionPrefix, Batch, Losses, ModelInput, Rows


class _Writing(NamedTuple):
    """An answer as far as it is written."""

    step: jax.Array
    rng: jax.Array
    scores: jax.Array
    """`[B, V]`: of the next token."""

    tokens: jax.Array
    """int32 `[B, M]`, zeros where nothing is written."""

    keys: jax.Array
    """`[L, B, M, K, H]`."""

    values: jax.Array
    finished: jax.Array
    """bool `[B]`."""


class Pi0Fast(nnx.Module):
    """One expert, which reads images and prompt and continues the text."""

    def __init__(self, config: Pi0FastConfig, *, rngs: nnx.Rngs) -> None:
        self.config = config
        self.openpi = config.compat == "openpi"
        self.PaliGemma = PaliGemma(config, experts=1, wide_queries=self.openpi, rngs=rngs)
        if config.init == "scratch":
            scratch.initialise(self, rngs=rngs)

    # The two verbs of an ActionModel.

    def loss(self, rng: jax.Array, batch: Batch, *, train: bool = True, rows: Rows | None = None) -> Losses:
        """Cross-entropy of the action tokens, the same for all steps of a chunk."""
        if batch.token_loss is None:
            raise ConfigError("Pi0-FAST learns to write actions as tokens, but the batch has no token_loss")
        out = self.outputs(self.PaliGemma.augmented(rng, batch.inputs, rows=rows) if train else batch.inputs)
        written = text.next_token_loss(
            self.PaliGemma.llm.embedder.logits, out, tokens=batch.inputs.tokens, counts=batch.token_loss
        )
        return Losses(jnp.broadcast_to(written[:, None], batch.actions.shape[:2]))

    def sample(
        self,
        rng: jax.Array,
        inputs: ModelInput,
        *,
        steps: int = 10,
        noise: jax.Array | None = None,
        prefix: ActionPrefix | None = None,
        guidance: float | None = None,
    ) -> jax.Array:
        """Token ids, int32 `[B, max_decode]`, the end mark included and zeros behind it. `steps` means nothing here."""
        del steps
        if noise is not None or prefix is not None or guidance is not None:
            raise ConfigError("Pi0-FAST writes tokens: it takes no noise, continues no prefix and has no guidance")
        scores, seen = self.read(inputs)

        def unfinished(state: _Writing) -> jax.Array:
            return (state.step < self.config.max_decode) & ~jnp.all(state.finished)

        def write(state: _Writing) -> _Writing:
            rng, draw = jax.random.split(state.rng)
            token = self._choose(state.scores, draw)
            if self.openpi:
                finished = jnp.broadcast_to(jnp.all(token == EOS), token.shape)
            else:
                token = jnp.where(state.finished, 0, token)
                finished = state.finished | (token == EOS)
            scores, (keys, values) = self.continue_with(token, seen, state.keys, state.values, step=state.step)
            return _Writing(
                state.step + 1,
                rng,
                scores,
                state.tokens.at[:, state.step].set(token),
                state.keys.at[:, :, state.step].set(keys[:, :, 0]),
                state.values.at[:, :, state.step].set(values[:, :, 0]),
                finished,
            )

        layers, batch, _, kv_heads, head_dim = seen.keys.shape
        room = jnp.zeros((layers, batch, self.config.max_decode, kv_heads, head_dim), seen.keys.dtype)
        tokens = jnp.zeros((batch, self.config.max_decode), jnp.int32)
        start = _Writing(jnp.zeros((), jnp.int32), rng, scores, tokens, room, room, jnp.zeros(batch, bool))
        return jax.lax.while_loop(unfinished, write, start).tokens

    # What they are made of.

    def outputs(self, inputs: ModelInput) -> jax.Array:
        """Outputs of the language model at every token, `[B, P, D]`."""
        prefix = self.PaliGemma.embed(inputs)
        where = positions(prefix.valid)
        if self.openpi:  # absent cameras take positions too
            where = jnp.broadcast_to(jnp.arange(where.shape[1]), where.shape)
        mask = block_mask(prefix.valid, prefix.starts)
        out, _ = self.PaliGemma.llm(prefix.tokens, positions=where, mask=mask)
        return out

    def read(self, inputs: ModelInput) -> tuple[jax.Array, Seen]:
        """Images and prompt: scores `[B, V]` of the first token of the answer, and what it may look at."""
        prefix = self.PaliGemma.embed(inputs)
        if self.openpi:
            prefix = right_aligned(prefix)
        where = positions(prefix.valid)
        llm, size = self.PaliGemma.llm, prefix.valid.shape
        room = ()
        if self.openpi:
            # The empty rest of openpi's cache, which nobody may see: but a query that may see nothing, such as that of
            # an absent camera, takes the mean of everything.
            layers = llm.depth, size[0], self.config.max_decode, self.config.language.kv_heads, llm.head_dim
            empty = jnp.zeros((size[0], self.config.max_decode), bool)
            room = (Seen(jnp.zeros(layers, llm.dtype), jnp.zeros(layers, llm.dtype), empty, empty.astype(jnp.int32)),)
        mask = block_mask(prefix.valid, prefix.starts)
        out, (keys, values) = llm(prefix.tokens, positions=where, mask=mask, seen=room)
        last = size[1] - 1 - jnp.argmax(prefix.valid[:, ::-1], axis=1)
        scores = llm.embedder.logits(jnp.take_along_axis(out, last[:, None, None], axis=1)[:, 0])
        visible = prefix.valid
        if self.openpi:
            # As many as there are real tokens, counted from the end: wrong when a camera in between is absent.
            visible = jnp.arange(size[1]) >= size[1] - jnp.sum(prefix.valid, axis=1, keepdims=True)
        return scores, Seen(keys, values, visible, where)

    def continue_with(
        self, token: jax.Array, seen: Seen, keys: jax.Array, values: jax.Array, *, step: jax.Array
    ) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
        """Scores `[B, V]` after int `[B]`, the answer's token number `step`, and its keys and values.

        `keys` and `values` `[L, B, M, K, H]` are those of the answer; the first `step` of them are written.
        """
        llm, batch = self.PaliGemma.llm, token.shape[0]
        # openpi leaves out a position between prompt and answer.
        count = jnp.max(seen.positions, axis=1) + 1 + self.openpi
        index = jnp.broadcast_to(jnp.arange(keys.shape[2]), (batch, keys.shape[2]))
        answer = Seen(keys, values, index < step, count[:, None] + index)
        out, own = llm(
            llm.embed(token[:, None]),
            positions=count[:, None] + step,
            mask=jnp.ones((batch, 1, 1), bool),
            seen=(seen, answer),
        )
        return llm.embedder.logits(out[:, 0]), own

    def _choose(self, scores: jax.Array, rng: jax.Array) -> jax.Array:
        if self.config.temperature == 0:
            return jnp.argmax(scores, axis=-1).astype(jnp.int32)
        return jax.random.categorical(rng, scores / self.config.temperature, axis=-1).astype(jnp.int32)


def right_aligned(segment: Segment) -> Segment:
    """The segment rolled, row by row, until its last real token stands at the end."""
    length = segment.valid.shape[1]
    last = jnp.max(jnp.where(segment.valid, jnp.arange(length), 0), axis=1)

    def roll(x: jax.Array, last: jax.Array) -> jax.Array:
        return jnp.roll(x, -(last + 1), axis=0)

    return Segment(*(jax.vmap(roll)(leaf, last) for leaf in segment))
