"""Pi0 and Pi0.5: a vision-language model with an action expert that denoises chunks by flow matching.

Pi0: Black et al., arXiv:2410.24164. Pi0.5: Physical Intelligence, arXiv:2504.16054. Numerically openpi's.
"""

import jax
import jax.numpy as jnp
from flax import nnx

from fla_models import flow, scratch
from fla_models.configs import Pi0Config
from fla_models.gemma import Cache, Gemma
from fla_models.sequence import Segment, block_mask, join, positions
from fla_models.siglip import Siglip
from fla_models.stack import Schedule
from fla_sdk.errors import ConfigError, ObservationError, nearest
from fla_sdk.model import Batch, ModelInput


class PaliGemma(nnx.Module):
    """The vision tower and the transformer with both its experts."""

    def __init__(self, config: Pi0Config, *, rngs: nnx.Rngs) -> None:
        dtype = jnp.dtype(config.dtype)
        schedule = Schedule(remat=config.remat, unroll=config.unroll)
        self.img = Siglip(
            config.vision,
            grid=config.image_grid,
            out_width=config.language.width,
            dtype=dtype,
            schedule=schedule,
            rngs=rngs,
        )
        self.llm = Gemma(
            (config.language, config.expert),
            vocab_size=config.vocab_size,
            conditions=(None, config.expert.width if config.pi05 else None),
            dtype=dtype,
            schedule=schedule,
            rngs=rngs,
        )


class Pi0(nnx.Module):
    """Both models; they differ in how time and state reach the action expert.

    Pi0 has a state token and mixes time into the action tokens. Pi0.5 has neither: time conditions the expert's norms,
    and the state is in the prompt.
    """

    def __init__(self, config: Pi0Config, *, rngs: nnx.Rngs) -> None:
        width = config.expert.width
        self.config = config
        self.PaliGemma = PaliGemma(config, rngs=rngs)
        self.action_in_proj = nnx.Linear(config.action_dim, width, rngs=rngs)
        if config.pi05:
            self.time_mlp_in = nnx.Linear(width, width, rngs=rngs)
            self.time_mlp_out = nnx.Linear(width, width, rngs=rngs)
        else:
            self.state_proj = nnx.Linear(config.action_dim, width, rngs=rngs)
            self.action_time_mlp_in = nnx.Linear(2 * width, width, rngs=rngs)
            self.action_time_mlp_out = nnx.Linear(width, width, rngs=rngs)
        self.action_out_proj = nnx.Linear(width, config.action_dim, rngs=rngs)
        if config.init == "scratch":
            scratch.initialise(self, rngs=rngs)

    # The two verbs of an ActionModel.

    def loss(self, rng: jax.Array, batch: Batch) -> jax.Array:
        """float32 `[B, T]`: squared error of the velocity, averaged over the robot's own action dimensions."""
        # The unused first key keeps the draws of noise and time those of openpi for the same `rng`.
        _, noise_rng, time_rng = jax.random.split(rng, 3)
        noise = jax.random.normal(noise_rng, batch.actions.shape)
        time = flow.draw_time(time_rng, batch=noise.shape[0], alpha=self.config.time_alpha)
        return self.loss_at(batch, noise=noise, time=time)

    def sample(
        self,
        rng: jax.Array,
        inputs: ModelInput,
        *,
        steps: int = 10,
        noise: jax.Array | None = None,
        prefix: jax.Array | None = None,
        guidance: float | None = None,
    ) -> jax.Array:
        """Action chunks, float32 `[B, T, D]`, normalized. `steps` must be static under `jit`."""
        if prefix is not None or guidance is not None:
            raise NotImplementedError("Pi0.sample takes no prefix and no guidance")
        if steps < 1:
            raise ConfigError(f"sampling needs at least one step, not {steps}")
        if noise is None:
            shape = (inputs.state.shape[0], self.config.horizon, self.config.action_dim)
            noise = jax.random.normal(rng, shape)
        cache, valid = self.prefill(inputs)

        def velocity(noisy: jax.Array, time: jax.Array) -> jax.Array:
            times = jnp.broadcast_to(time, noisy.shape[:1])
            return self.cached_velocity(inputs.state, noisy=noisy, time=times, cache=cache, prefix_valid=valid)

        return flow.integrate(velocity, noise, steps=steps, compat=self.config.compat)

    # What they are made of.

    def loss_at(self, batch: Batch, *, noise: jax.Array, time: jax.Array) -> jax.Array:
        """`loss` with given noise `[B, T, D]` and time `[B]`."""
        noisy, target = flow.interpolate(batch.actions, noise=noise, time=time)
        error = jnp.square(self.velocity(batch.inputs, noisy=noisy, time=time) - target)
        own = jnp.asarray(batch.action_dims)[:, None, :]
        return jnp.sum(jnp.where(own, error, 0), axis=-1) / jnp.maximum(jnp.sum(own, axis=-1), 1)

    def velocity(self, inputs: ModelInput, *, noisy: jax.Array, time: jax.Array) -> jax.Array:
        """Predicted velocity `[B, T, D]` at noisy actions `[B, T, D]` and time `[B]`, in one pass of both experts."""
        prefix = self.embed_prefix(inputs)
        suffix, condition = self.embed_suffix(inputs.state, noisy=noisy, time=time)
        _, out = self.joint_pass(prefix, suffix, condition)
        return self.decode_velocity(out)

    def joint_pass(self, prefix: Segment, suffix: Segment, condition: jax.Array | None) -> tuple[jax.Array, jax.Array]:
        """Outputs of the language model `[B, P, D]` and of the action expert `[B, S, E]`."""
        valid = jnp.concatenate([prefix.valid, suffix.valid], axis=1)
        starts = jnp.concatenate([prefix.starts, suffix.starts])
        outs, _ = self.PaliGemma.llm(
            (prefix.tokens, suffix.tokens),
            positions=positions(valid),
            mask=block_mask(valid, starts),
            conditions=(None, condition),
        )
        prefix_out, suffix_out = outs
        assert prefix_out is not None and suffix_out is not None
        return prefix_out, suffix_out

    def prefill(self, inputs: ModelInput) -> tuple[Cache, jax.Array]:
        """Keys and values of images and prompt, and which of them are real, bool `[B, P]`."""
        prefix = self.embed_prefix(inputs)
        _, cache = self.PaliGemma.llm(
            (prefix.tokens, None), positions=positions(prefix.valid), mask=block_mask(prefix.valid, prefix.starts)
        )
        return cache, prefix.valid

    def cached_velocity(
        self,
        state: jax.Array,
        *,
        noisy: jax.Array,
        time: jax.Array,
        cache: Cache,
        prefix_valid: jax.Array,
    ) -> jax.Array:
        """`velocity` with the prefix taken from `prefill`."""
        suffix, condition = self.embed_suffix(state, noisy=noisy, time=time)
        batch, length = suffix.valid.shape
        to_prefix = jnp.broadcast_to(prefix_valid[:, None, :], (batch, length, prefix_valid.shape[1]))
        outs, _ = self.PaliGemma.llm(
            (None, suffix.tokens),
            positions=jnp.sum(prefix_valid, axis=1)[:, None] + positions(suffix.valid),
            mask=jnp.concatenate([to_prefix, block_mask(suffix.valid, suffix.starts)], axis=-1),
            conditions=(None, condition),
            cache=cache,
        )
        assert outs[1] is not None
        return self.decode_velocity(outs[1])

    def decode_velocity(self, suffix_out: jax.Array) -> jax.Array:
        """`[B, S, E]` to `[B, T, D]`, from the action tokens at the end."""
        return self.action_out_proj(suffix_out[:, -self.config.horizon :])

    def embed_prefix(self, inputs: ModelInput) -> Segment:
        """Images in the order of the slots, then the prompt: one block in which all attend to all."""
        prompt = self._segment(self.PaliGemma.llm.embed(inputs.tokens), valid=inputs.token_mask)
        slots = self._present_slots(inputs)
        if not slots:
            return prompt
        tokens = self.embed_images(jnp.stack([self._pixels(inputs, slot) for slot in slots], axis=1))
        batch, cameras, per_image, width = tokens.shape
        present = [inputs.image_masks.get(slot, jnp.ones(batch, bool)) for slot in slots]
        valid = jnp.repeat(jnp.stack(present, axis=1), per_image, axis=1)
        images = self._segment(tokens.reshape(batch, cameras * per_image, width), valid=valid)
        return join([images, prompt])

    def embed_images(self, pixels: jax.Array) -> jax.Array:
        """float32 `[B, cameras, H, W, 3]` in [-1, 1] to `[B, cameras, tokens, D]`."""
        flat = self.PaliGemma.img(pixels.reshape(-1, *pixels.shape[2:]))
        return flat.reshape(*pixels.shape[:2], *flat.shape[1:])

    def embed_suffix(self, state: jax.Array, *, noisy: jax.Array, time: jax.Array) -> tuple[Segment, jax.Array | None]:
        """The action expert's tokens, and the condition `[B, E]` of its norms (Pi0.5; None for Pi0).

        Pi0: a block of one state token, then a block of action tokens. Pi0.5: the action tokens alone.
        """
        tokens = self.action_in_proj(noisy)
        embedded_time = flow.time_embedding(time, width=self.config.expert.width)
        starts = jnp.arange(tokens.shape[1]) == 0
        if self.config.pi05:
            condition = nnx.swish(self.time_mlp_out(nnx.swish(self.time_mlp_in(embedded_time))))
        else:
            condition = None
            repeated = jnp.broadcast_to(embedded_time[:, None, :], tokens.shape)
            mixed = self.action_time_mlp_in(jnp.concatenate([tokens, repeated], axis=-1))
            tokens = self.action_time_mlp_out(nnx.swish(mixed))
            tokens = jnp.concatenate([self.state_proj(state)[:, None, :], tokens], axis=1)
            starts = jnp.concatenate([jnp.ones(1, bool), starts])
        return Segment(tokens=tokens, valid=jnp.ones(tokens.shape[:2], bool), starts=starts), condition

    @staticmethod
    def _segment(tokens: jax.Array, *, valid: jax.Array) -> Segment:
        return Segment(tokens=tokens, valid=valid, starts=jnp.zeros(tokens.shape[1], bool))

    def _present_slots(self, inputs: ModelInput) -> list[str]:
        slots = self.config.image_slots
        for name in inputs.images:
            if name not in slots:
                hint = f"; did you mean {close!r}?" if (close := nearest(name, slots)) else ""
                raise ObservationError(f"image slot {name!r} is none of this model's: {', '.join(slots)}{hint}")
        return [slot for slot in slots if slot in inputs.images]

    def _pixels(self, inputs: ModelInput, slot: str) -> jax.Array:
        image = inputs.images[slot]
        height, width = self.config.image_size
        if tuple(image.shape[-3:]) != (height, width, 3) or image.ndim != 4:
            raise ObservationError(
                f"image {slot!r} has shape {tuple(image.shape)}, the model takes [B, {height}, {width}, 3]: "
                "resize it with padding before it reaches the model, as the codec does"
            )
        if image.dtype == jnp.uint8:
            return image.astype(jnp.float32) / 255.0 * 2.0 - 1.0
        return image.astype(jnp.float32)
