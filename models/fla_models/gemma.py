"""Gemma transformer whose experts, each with own weights, share one sequence. openpi-compatible.

Gemma: arXiv:2403.08295; Gemma 3: arXiv:2503.19786. The mixture of experts over one sequence: Black et al., "pi0",
arXiv:2410.24164, section IV. Expert 0 is the language model; the names of expert 1's parameters end in `_1`. Attribute
names are the parameter paths of the published weights.

The experts take turns. Images and prompt never attend to actions, so expert 0 runs first and leaves its keys and
values; expert 1 attends to these and to its own. That is the same function as one joint pass, and the first half of it
need not be repeated: not for each denoising step, not for several draws of noise, and not in a backward pass when it is
frozen.

Shapes: B batch, T queries, S keys, D width, N heads, K key-value heads, G = N // K, H head_dim, L layers.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from flax.nnx import initializers

from fla_models.attention import Keys, Reach, Rotation, Seen, attend, rotate
from fla_models.configs import GemmaConfig
from fla_models.lora import Einsum, FeedForward
from fla_models.norms import RMSNorm, residual
from fla_models.stack import Schedule, scan, stack


class Modulation(NamedTuple):
    """Scale, shift and gate of an expert's adaptive norms. `1` in place of T: the same for all tokens."""

    attention: jax.Array
    """`[L, B, T, 3 D]`."""

    mlp: jax.Array
    """`[L, B, T, 3 D]`."""

    final: jax.Array
    """`[B, T, 3 D]`."""


def of_expert(name: str, expert: int) -> str:
    """The attribute that holds `name` of this expert."""
    return name if expert == 0 else f"{name}_{expert}"


class Block(nnx.Module):
    """One expert's part of one layer: attention, then a gated MLP, each after a norm."""

    # Which of them there are, the config says.
    qkv_einsum: Einsum
    q_einsum: Einsum
    kv_einsum: Einsum
    attn_vec_einsum: Einsum
    q_norm: RMSNorm
    k_norm: RMSNorm
    pre_attention_norm: RMSNorm
    pre_ffw_norm: RMSNorm
    post_attention_norm: RMSNorm
    post_ffw_norm: RMSNorm
    mlp: FeedForward

    def __init__(self, parts: Mapping[str, nnx.Module], *, wide_queries: bool) -> None:
        """`parts` as `attention_parts` and `other_parts` make them. `wide_queries` keeps rotated queries in float32."""
        for name, part in parts.items():
            setattr(self, name, part)
        self.wide_queries = wide_queries
        self.fused = "qkv_einsum" in parts
        self.qk_norm = "q_norm" in parts
        self.post_norms = "post_attention_norm" in parts

    def keys_and_values(self, normed: jax.Array, rotation: Rotation) -> tuple[jax.Array, jax.Array]:
        """`[B, T, K, H]` each."""
        if self.fused:
            _, key, value = self.qkv_einsum("BSD,3KDH->3BSKH", normed)
        else:
            key, value = self.kv_einsum("BSD,2KDH->2BSKH", normed)
        if self.qk_norm:
            key, _ = self.k_norm(key)
        return rotate(key, rotation).astype(normed.dtype), value

    def queries(self, normed: jax.Array, rotation: Rotation) -> jax.Array:
        """`[B, T, N, H]`, rotated, then scaled."""
        query = self.qkv_einsum("BSD,3KDH->3BSKH", normed)[0] if self.fused else self.q_einsum("BTD,NDH->BTNH", normed)
        if self.qk_norm:
            query, _ = self.q_norm(query)
        rotated = rotate(query, rotation)
        if not self.wide_queries:
            rotated = rotated.astype(normed.dtype)
        return rotated * rotated.shape[-1] ** -0.5

    def __call__(
        self,
        x: jax.Array,
        *,
        rotation: Rotation,
        mask: jax.Array,
        seen: Sequence[Keys],
        modulation: tuple[jax.Array, jax.Array] | None,
    ) -> tuple[jax.Array, jax.Array, jax.Array]:
        """The next `[B, T, D]`, and the keys and values of this layer."""
        attention, mlp = modulation or (None, None)
        normed, gate = self.pre_attention_norm(x, attention)
        key, value = self.keys_and_values(normed, rotation)
        mixed = attend(self.queries(normed, rotation), [*seen, Keys(key, value, mask)])
        update = self.attn_vec_einsum("BTNH,NHD->BTD", mixed.astype(x.dtype))
        if self.post_norms:
            update, _ = self.post_attention_norm(update)
        x = residual(x, update, gate)
        normed, gate = self.pre_ffw_norm(x, mlp)
        update = self.mlp(normed)
        if self.post_norms:
            update, _ = self.post_ffw_norm(update)
        return residual(x, update, gate), key, value

    def only_keys(
        self, x: jax.Array, *, rotation: Rotation, modulation: tuple[jax.Array, jax.Array] | None
    ) -> tuple[jax.Array, jax.Array, jax.Array]:
        """`__call__` without the outputs, of which nobody has a use after the last layer of a cache."""
        normed, _ = self.pre_attention_norm(x, None if modulation is None else modulation[0])
        return x, *self.keys_and_values(normed, rotation)


_IN_ATTENTION = ("qkv_einsum", "q_einsum", "kv_einsum", "attn_vec_einsum", "q_norm", "k_norm")


def attention_parts(c: GemmaConfig, *, rngs: nnx.Rngs) -> dict[str, nnx.Module]:
    """The modules of an expert's attention, by name."""

    def einsum(*shape: int) -> Einsum:
        init = initializers.lecun_normal(in_axis=-2, out_axis=-1, batch_axis=tuple(range(len(shape) - 2)))
        return Einsum(shape, init=init, lora=c.lora_attention, rngs=rngs)

    parts: dict[str, nnx.Module] = {}
    if c.kv_heads == c.heads:
        parts["qkv_einsum"] = einsum(3, c.heads, c.width, c.head_dim)
    else:
        parts["q_einsum"] = einsum(c.heads, c.width, c.head_dim)
        parts["kv_einsum"] = einsum(2, c.kv_heads, c.width, c.head_dim)
    out_init = initializers.lecun_normal(in_axis=(-3, -2), out_axis=-1)
    parts["attn_vec_einsum"] = Einsum((c.heads, c.head_dim, c.width), init=out_init, lora=c.lora_attention, rngs=rngs)
    if c.qk_norm:
        parts["q_norm"], parts["k_norm"] = RMSNorm(c.head_dim, rngs=rngs), RMSNorm(c.head_dim, rngs=rngs)
    return parts


def other_parts(c: GemmaConfig, *, condition: int | None, rngs: nnx.Rngs) -> dict[str, nnx.Module]:
    """The other modules of a `Block`. `condition` is the width of its norms' condition, None for plain norms."""
    parts: dict[str, nnx.Module] = {
        "pre_attention_norm": RMSNorm(c.width, condition=condition, rngs=rngs),
        "pre_ffw_norm": RMSNorm(c.width, condition=condition, rngs=rngs),
    }
    if c.post_norms:
        parts["post_attention_norm"], parts["post_ffw_norm"] = RMSNorm(c.width, rngs=rngs), RMSNorm(c.width, rngs=rngs)
    return parts | {"mlp": FeedForward(width=c.width, mlp_dim=c.mlp_dim, lora=c.lora_mlp, rngs=rngs)}


class AttentionParts(nnx.Module):
    """Where the weights of all experts' attention live."""

    def __init__(self, parts: Mapping[str, nnx.Module]) -> None:
        for name, part in parts.items():
            setattr(self, name, part)


class Layer(nnx.Module):
    """One layer's weights of all experts, under the names of the published weights."""

    def __init__(self, configs: Sequence[GemmaConfig], *, conditions: Sequence[int | None], rngs: nnx.Rngs) -> None:
        attention: dict[str, nnx.Module] = {}
        for i, c in enumerate(configs):
            attention |= {of_expert(name, i): part for name, part in attention_parts(c, rngs=rngs).items()}
        self.attn = AttentionParts(attention)
        for i, (c, condition) in enumerate(zip(configs, conditions, strict=True)):
            for name, part in other_parts(c, condition=condition, rngs=rngs).items():
                setattr(self, of_expert(name, i), part)

    def block(self, expert: int, *, wide_queries: bool) -> Block:
        """The part of one expert; it shares the weights."""
        names = (*_IN_ATTENTION, "pre_attention_norm", "pre_ffw_norm", "post_attention_norm", "post_ffw_norm", "mlp")
        owners = {name: self.attn if name in _IN_ATTENTION else self for name in names}
        parts = {name: getattr(owner, of_expert(name, expert), None) for name, owner in owners.items()}
        return Block({name: part for name, part in parts.items() if part is not None}, wide_queries=wide_queries)


class Embedder(nnx.Module):
    """Token ids to vectors, scaled by sqrt(width) as Gemma does, and vectors to logits."""

    def __init__(self, *, vocab_size: int, width: int, rngs: nnx.Rngs) -> None:
        self.input_embedding = nnx.Param(initializers.normal(0.01)(rngs.params(), (vocab_size, width)))

    def __call__(self, tokens: jax.Array) -> jax.Array:
        """int `[B, L]` to `[B, L, D]` in the table's dtype."""
        table = self.input_embedding[...]
        # The factor is rounded to the table's dtype: 45.25 for the published width in bfloat16.
        return table[tokens] * jnp.sqrt(table.shape[1]).astype(table.dtype)

    def logits(self, x: jax.Array) -> jax.Array:
        """`[..., D]` to `[..., V]`, float32 as long as the table is."""
        return x @ self.input_embedding[...].T


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
        wide_queries: bool = False,
    ) -> None:
        """`conditions` gives per expert the width of its norms' condition, None for plain norms.

        `wide_queries` keeps rotated queries in float32, as openpi's Pi0-FAST does.
        """
        self.embedder = Embedder(vocab_size=vocab_size, width=configs[0].width, rngs=rngs)
        self.layers = stack(lambda r: Layer(configs, conditions=conditions, rngs=r), depth=configs[0].depth, rngs=rngs)
        for i, (c, condition) in enumerate(zip(configs, conditions, strict=True)):
            setattr(self, of_expert("final_norm", i), RMSNorm(c.width, condition=condition, rngs=rngs))
        self.depth, self.head_dim, self.local = configs[0].depth, configs[0].head_dim, configs[0].local
        self.dtype = dtype
        self.schedule = schedule
        self.wide_queries = wide_queries

    def embed(self, tokens: jax.Array) -> jax.Array:
        """int `[B, L]` to `[B, L, D]` in the activation dtype."""
        return self.embedder(tokens).astype(self.dtype)

    def modulation(self, condition: jax.Array, *, expert: int) -> Modulation:
        """What the adaptive norms of `expert` do under a condition `[B, T, C]`."""
        norms = (
            getattr(self.layers, of_expert("pre_attention_norm", expert)),
            getattr(self.layers, of_expert("pre_ffw_norm", expert)),
            getattr(self, of_expert("final_norm", expert)),
        )
        return Modulation(*(norm.modulation(condition, dtype=self.dtype) for norm in norms))

    def __call__(
        self,
        x: jax.Array,
        *,
        expert: int = 0,
        positions: jax.Array,
        mask: jax.Array,
        seen: Sequence[Seen] = (),
        modulation: Modulation | None = None,
    ) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
        """Run tokens `[B, T, D]` of one expert, which attend to each other by `mask` and to all that was seen.

        `positions` is int `[B, T]`, `mask` bool `[B, T, T]` with queries before keys. Returns the normed outputs
        `[B, T, D]`, and this pass's own keys and values, `[L, B, T, K, H]` each.
        """
        out, own = self._run(
            x, expert=expert, positions=positions, mask=mask, seen=seen, modulation=modulation, outputs=True
        )
        final = getattr(self, of_expert("final_norm", expert))
        return final(out, None if modulation is None else modulation.final)[0], own

    def keys_and_values(self, x: jax.Array, *, positions: jax.Array, mask: jax.Array) -> tuple[jax.Array, jax.Array]:
        """What `__call__` of the language model leaves to be seen, without its outputs."""
        return self._run(x, expert=0, positions=positions, mask=mask, seen=(), modulation=None, outputs=False)[1]

    def _run(
        self,
        x: jax.Array,
        *,
        expert: int,
        positions: jax.Array,
        mask: jax.Array,
        seen: Sequence[Seen],
        modulation: Modulation | None,
        outputs: bool,
    ) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
        reach = Reach(self.local, depth=self.depth, head_dim=self.head_dim, positions=positions)

        def step(block: Block, x: jax.Array, extra: _Extra) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
            rotation = reach.rotation(extra.is_global)

            def whole(x: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
                sources = [
                    Keys(keys, values, reach.near(one.mask[:, None, :], one.positions, extra.is_global))
                    for one, (keys, values) in zip(seen, extra.seen, strict=True)
                ]
                own = reach.near(mask, positions, extra.is_global)
                return block(x, rotation=rotation, mask=own, seen=sources, modulation=extra.modulation)

            def only_keys(x: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
                return block.only_keys(x, rotation=rotation, modulation=extra.modulation)

            x, key, value = whole(x) if outputs else jax.lax.cond(extra.is_last, only_keys, whole, x)
            return x, (key, value)

        extras = _Extra(
            is_global=reach.is_global,
            is_last=None if outputs else jnp.arange(self.depth) == self.depth - 1,
            modulation=None if modulation is None else (modulation.attention, modulation.mlp),
            seen=tuple((one.keys, one.values) for one in seen),
        )
        block = self.layers.block(expert, wide_queries=self.wide_queries)
        return scan(block, x.astype(self.dtype), step=step, extras=extras, schedule=self.schedule)


class _Extra(NamedTuple):
    """What differs between layers besides their weights; every leaf has a leading layer axis."""

    is_global: jax.Array | None
    is_last: jax.Array | None
    modulation: tuple[jax.Array, jax.Array] | None
    seen: tuple[tuple[jax.Array, jax.Array], ...]
