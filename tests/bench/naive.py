"""The published way to compute Pi0 and Pi0.5, on the same parameters: the measure of what the models here save.

Both experts run through every layer together, over one sequence of images, prompt and actions, in each training step.
When a chunk is sampled, images and prompt run once, as here, but nothing else is saved. `SAVINGS` says what; each can
be switched on by itself. As it shares no pass with `fla_models.pi0`, it is also an oracle of what that computes.
"""

from collections.abc import Mapping, Set
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from fla_models import flow
from fla_models.attention import Keys, attend, rotations
from fla_models.configs import Pi0Config
from fla_models.gemma import Gemma, Modulation
from fla_models.norms import residual
from fla_models.pi0 import Pi0
from fla_models.sequence import Segment, block_mask, join, positions
from fla_models.stack import scan
from fla_sdk.model import ActionPrefix, Batch, Losses, ModelInput

SAVINGS: Mapping[str, str] = {
    "absent": "a camera that is absent is not computed as a black image",
    "bucket": "the prompt is padded to 48 tokens, not to the longest there can be",
    "cameras": "all cameras in one pass of the vision tower",
    "last-layer": "no outputs of the last layer for images and prompt",
    "cache": "keys and values of images and prompt are read in place, not copied in every layer of every step",
    "time": "what depends on time alone is computed once for all steps",
}


class Naive(Pi0):
    """`Pi0` with the same parameters and the same two verbs, and of `SAVINGS` only those to `keep`."""

    def __init__(self, config: Pi0Config, *, rngs: nnx.Rngs, keep: Set[str] = frozenset()) -> None:
        super().__init__(config, rngs=rngs)
        self.keep = keep

    def loss_at(self, batch: Batch, *, noise: jax.Array, time: jax.Array, delay: jax.Array | None = None) -> Losses:
        """From one pass of both experts over all tokens, as in the reference."""
        assert delay is None and not self.config.insulate and self.config.flow_samples == 1
        noisy, target = flow.interpolate(jnp.asarray(batch.actions), noise=noise, time=time)
        prefix, suffix = self.prefix(batch.inputs), self.suffix(batch.inputs.state, noisy, time)
        both = join([prefix._replace(tokens=prefix.tokens[..., :0]), suffix._replace(tokens=suffix.tokens[..., :0])])
        outputs, _ = through(
            self.PaliGemma.llm,
            {0: prefix.tokens, 1: suffix.tokens},
            where=positions(both.valid),
            mask=block_mask(both.valid, both.starts),
            condition=self.condition_at(time),
        )
        error = jnp.square(self.decode_velocity(outputs[1]) - target)
        own = jnp.asarray(batch.action_dims)[:, None, :]
        return Losses(jnp.sum(jnp.where(own, error, 0), axis=-1) / jnp.sum(own, axis=-1))

    def sample(
        self,
        rng: jax.Array,
        inputs: ModelInput,
        *,
        steps: int = 10,
        noise: jax.Array | None = None,
        prefix: ActionPrefix | None = None,
        guidance: jax.Array | float | None = None,
    ) -> jax.Array:
        """float32 `[B, T, D]` at given `noise`."""
        assert noise is not None and prefix is None and guidance is None
        llm, batch = self.PaliGemma.llm, noise.shape[0]
        seen = self.prefix(inputs)
        mask = block_mask(seen.valid, seen.starts)
        _, cache = through(
            llm, {0: seen.tokens}, where=positions(seen.valid), mask=mask, only_keys_last="last-layer" in self.keep
        )
        before = jnp.sum(seen.valid, axis=1, dtype=jnp.int32)[:, None]
        moments = None
        if self.config.pi05 and "time" in self.keep:
            every = self.condition(jnp.asarray(flow.times(steps))[:, None, None])
            attention, mlp, final = llm.modulation(every, expert=1)
            moments = Modulation(jnp.moveaxis(attention, 1, 0), jnp.moveaxis(mlp, 1, 0), final)

        def velocity(noisy: jax.Array, time: jax.Array, modulation: Modulation | None) -> jax.Array:
            times = jnp.broadcast_to(time, batch)
            suffix = self.suffix(inputs.state, noisy, times)
            own = block_mask(suffix.valid, suffix.starts)
            outputs, _ = through(
                llm,
                {1: suffix.tokens},
                where=before + positions(suffix.valid),
                mask=own,
                cache=cache,
                cached=seen.valid,
                condition=None if modulation is not None else self.condition_at(times),
                modulation=modulation,
                in_place="cache" in self.keep,
            )
            return self.decode_velocity(outputs[1])

        return flow.integrate(velocity, noise, steps=steps, moments=moments)

    def prefix(self, inputs: ModelInput) -> Segment:
        """Images and prompt as tokens; the images one after another."""
        if "cameras" in self.keep:
            return self.PaliGemma.embed(inputs)
        segments: list[Segment] = []
        for slot in (slot for slot in self.config.image_slots if slot in inputs.images):
            tokens = self.PaliGemma.img(self.PaliGemma.pixels(inputs, slot))
            valid = jnp.broadcast_to(jnp.asarray(inputs.image_masks[slot])[:, None], tokens.shape[:2])
            segments.append(Segment(tokens, valid, jnp.zeros_like(valid)))
        words, real = self.PaliGemma.llm.embed(inputs.tokens), jnp.asarray(inputs.token_mask)
        return join([*segments, Segment(words, real, jnp.zeros_like(real))])

    def suffix(self, state: jax.Array, noisy: jax.Array, time: jax.Array) -> Segment:
        """The action expert's tokens at noisy actions `[B, T, D]` and time `[B]`."""
        tokens = self.action_in_proj(noisy)
        if not self.config.pi05:
            embedded = flow.time_embedding(time, width=tokens.shape[-1])[:, None, :]
            mixed = jnp.concatenate([tokens, jnp.broadcast_to(embedded, tokens.shape)], axis=-1)
            tokens = self.action_time_mlp_out(nnx.swish(self.action_time_mlp_in(mixed)))
            tokens = jnp.concatenate([self.state_proj(state)[:, None, :], tokens], axis=1)
        valid = jnp.ones(tokens.shape[:2], bool)
        return Segment(tokens, valid, jnp.broadcast_to(self.suffix_starts, valid.shape))

    def condition_at(self, time: jax.Array) -> jax.Array | None:
        """`[B, 1, E]` at time `[B]`; None for Pi0, whose norms are plain."""
        return self.condition(time)[:, None, :] if self.config.pi05 else None


def through(
    llm: Gemma,
    tokens: Mapping[int, jax.Array],
    *,
    where: jax.Array,
    mask: jax.Array,
    condition: jax.Array | None = None,
    modulation: Modulation | None = None,
    cache: tuple[jax.Array, jax.Array] | None = None,
    cached: jax.Array | None = None,
    in_place: bool = False,
    only_keys_last: bool = False,
) -> tuple[dict[int, jax.Array], tuple[jax.Array, jax.Array]]:
    """Run the tokens `[B, N, D]` of each expert, one sequence in this order, through all layers at once.

    `where` is int `[B, T]`, `mask` bool `[B, T, T]` over the whole sequence. `cache` holds keys and values of earlier
    tokens, `[L, B, S, K, H]` each, of which those in `cached` bool `[B, S]` are real. Expert 1 is modulated by
    `condition` `[B, 1, E]`, or by the `modulation` computed from it. Returns normed outputs by expert, and the keys and
    values of the whole sequence.
    """
    ends = np.cumsum([x.shape[1] for x in tokens.values()])[:-1]
    turns = [rotations(part, head_dim=llm.head_dim) for part in jnp.split(where, ends, axis=1)]
    blocks: Any = [llm.layers.block(expert, wide_queries=llm.wide_queries) for expert in tokens]
    whole_mask = mask
    if cached is not None and not in_place:
        earlier = jnp.broadcast_to(cached[:, None, :], (*mask.shape[:2], cached.shape[1]))
        whole_mask = jnp.concatenate([earlier, mask], axis=2)

    def modulated(norm: Any, x: jax.Array, given: jax.Array | None) -> tuple[jax.Array, jax.Array | None]:
        if norm.adaptive and given is None:
            given = norm.modulation(condition, dtype=x.dtype)
        return norm(x, given if norm.adaptive else None)

    def step(blocks: Any, streams: list[jax.Array], extra: Any) -> tuple[list[jax.Array], Any]:
        kept, is_last, (attention, mlp) = extra
        normed, gates = zip(
            *(modulated(b.pre_attention_norm, x, attention) for b, x in zip(blocks, streams, strict=True)), strict=True
        )
        pairs = [b.keys_and_values(x, turn) for b, x, turn in zip(blocks, normed, turns, strict=True)]
        key, value = (jnp.concatenate(part, axis=1) for part in zip(*pairs, strict=True))

        def rest(streams: list[jax.Array]) -> list[jax.Array]:
            query = jnp.concatenate([b.queries(x, t) for b, x, t in zip(blocks, normed, turns, strict=True)], axis=1)
            if kept is not None and in_place:
                assert cached is not None
                mixed = attend(query, [Keys(kept[0], kept[1], cached[:, None, :]), Keys(key, value, mask)])
            else:
                keys, values = key, value
                if kept is not None:
                    keys, values = jnp.concatenate([kept[0], key], axis=1), jnp.concatenate([kept[1], value], axis=1)
                mixed = attention_over(query, keys, values, whole_mask)
            ahead: list[jax.Array] = []
            parts = jnp.split(mixed, ends, axis=1)
            for block, x, part, gate in zip(blocks, streams, parts, gates, strict=True):
                x = residual(x, block.attn_vec_einsum("BTNH,NHD->BTD", part.astype(x.dtype)), gate)
                inner, gate = modulated(block.pre_ffw_norm, x, mlp)
                ahead.append(residual(x, block.mlp(inner), gate))
            return ahead

        streams = rest(streams) if is_last is None else jax.lax.cond(is_last, lambda s: s, rest, streams)
        return streams, (key, value)

    depth = np.arange(llm.depth)
    given = (None, None) if modulation is None else (modulation.attention, modulation.mlp)
    extras = (cache, jnp.asarray(depth == llm.depth - 1) if only_keys_last else None, given)
    start = [x.astype(llm.dtype) for x in tokens.values()]
    streams, own = scan(blocks, start, step=step, schedule=llm.schedule, extras=extras)
    finals = {0: getattr(llm, "final_norm", None), 1: getattr(llm, "final_norm_1", None)}
    final = None if modulation is None else modulation.final
    return {e: modulated(finals[e], x, final)[0] for e, x in zip(tokens, streams, strict=True)}, own


def attention_over(query: jax.Array, keys: jax.Array, values: jax.Array, mask: jax.Array) -> jax.Array:
    """Grouped-query attention of `[B, T, N, H]` over `[B, S, K, H]`, where `mask` `[B, T, S]` allows it."""
    batch, length, heads, size = query.shape
    grouped = query.reshape(batch, length, keys.shape[2], -1, size)
    logits = jnp.einsum("btkgh,bskh->bkgts", grouped, keys, preferred_element_type=jnp.float32)
    weights = jax.nn.softmax(jnp.where(mask[:, None, None], logits, -1e38))
    mixed = jnp.einsum("bkgts,bskh->btkgh", weights.astype(values.dtype), values)
    return mixed.reshape(batch, length, heads, size)


def reference_inputs(inputs: ModelInput, config: Pi0Config, *, keep: Set[str] = frozenset()) -> ModelInput:
    """What the reference makes of the same observation: black images for absent cameras, the longest prompt."""
    images, masks = dict(inputs.images), dict(inputs.image_masks)
    batch, length = inputs.tokens.shape
    if "absent" not in keep:
        for slot in config.image_slots:
            if slot not in images:
                images[slot] = np.zeros((batch, *config.image_size, 3), np.uint8)
                masks[slot] = np.zeros(batch, bool)
    tokens, mask = inputs.tokens, inputs.token_mask
    if "bucket" not in keep:
        more = ((0, 0), (0, config.max_tokens - length))
        tokens, mask = np.pad(tokens, more), np.pad(mask, more)
    return inputs._replace(images=images, image_masks=masks, tokens=tokens, token_mask=mask)
