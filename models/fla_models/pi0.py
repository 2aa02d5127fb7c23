"""Pi0, Pi0.5 and Pi0.6: a vision-language model with an action expert that denoises chunks by flow matching.

Pi0: Black et al., arXiv:2410.24164. Pi0.5: Physical Intelligence, arXiv:2504.16054. Numerically openpi's. Pi0.6 is
Pi0.5 around Gemma 3, after its model card; no weights of it are published.

Shapes: B batch, R rows of the action expert (B times the draws per example), T actions, D action width, E expert width.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from fla_models import flow, scratch, text
from fla_models.attention import Seen
from fla_models.configs import Pi0Config
from fla_models.gemma import Modulation
from fla_models.paligemma import PaliGemma
from fla_models.sequence import block_mask, cut, positions
from fla_sdk.errors import ConfigError
from fla_sdk.model import ActionPrefix, Batch, Losses, ModelInput, Rows


class Moment(NamedTuple):
    """All that the action expert knows of time. `1` in place of T: the same time for all tokens."""

    embedded: jax.Array | None
    """Pi0: time's half of the mix with the actions, `[R, T, E]`."""

    modulation: Modulation | None
    """Pi0.5: what the adaptive norms do."""


class Pi0(nnx.Module):
    """The models differ in how time and state reach the action expert.

    Pi0 has a state token and mixes time into the action tokens. Pi0.5 has neither: time conditions the expert's norms,
    and the state is in the prompt.
    """

    def __init__(self, config: Pi0Config, *, rngs: nnx.Rngs) -> None:
        width = config.expert.width
        self.config = config
        self.PaliGemma = PaliGemma(config, experts=2, condition=width if config.pi05 else None, rngs=rngs)
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

    def loss(self, rng: jax.Array, batch: Batch, *, train: bool = True, rows: Rows | None = None) -> Losses:
        """Squared error of the velocity; in an insulated model, with the cross-entropy of the action tokens."""
        batch, draws = self._draw(rng, batch, train=train, rows=rows)
        return self.loss_at(batch, **draws)

    def velocities(self, rng: jax.Array, batch: Batch, *, train: bool = True, rows: Rows | None = None) -> jax.Array:
        """Predicted velocity `[R, T, D]` at what `loss` draws from the same `rng`."""
        batch, draws = self._draw(rng, batch, train=train, rows=rows)
        noisy, _, time, _ = self._disturbed(batch, **draws)
        state = jnp.repeat(jnp.asarray(batch.inputs.state), noisy.shape[0] // batch.actions.shape[0], axis=0)
        return self.velocity(state, self.PaliGemma.prefill(batch.inputs), noisy=noisy, moment=self.moment(time))

    def _draw(self, rng: jax.Array, batch: Batch, *, train: bool, rows: Rows | None) -> tuple[Batch, dict[str, Any]]:
        """The batch as training disturbs it, and noise, time and delay."""
        image_rng, noise_rng, time_rng = jax.random.split(rng, 3)
        if train:
            batch = batch._replace(inputs=self.PaliGemma.augmented(image_rng, batch.inputs, rows=rows))
        size, *shape = batch.actions.shape
        whole = size if rows is None else rows.total
        draws = whole * self.config.flow_samples
        noise = cut(jax.random.normal(noise_rng, (draws, *shape)), rows)
        time = cut(flow.draw_time(time_rng, batch=draws, alpha=self.config.time_alpha), rows)
        delay = None
        if self.config.max_delay:
            delay = jax.random.randint(jax.random.fold_in(rng, 1), (draws,), 0, self.config.max_delay + 1)
            delay = cut(delay, rows)
        if train and batch.inputs.indicator is not None:
            hide = jax.random.bernoulli(jax.random.fold_in(rng, 2), self.config.indicator_dropout, (whole, 1))
            batch = batch._replace(inputs=without_indicator(batch.inputs, where=cut(hide, rows)))
        return batch, {"noise": noise, "time": time, "delay": delay}

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
        """Action chunks, float32 `[B, T, D]`, normalized. `steps` must be static under `jit`.

        With a `prefix` the chunk continues it: by itself when the model was trained to (`max_delay`), else by guidance.
        With `guidance` `w` the velocity is `unconditioned + w * (conditioned - unconditioned)` in the prompt's
        indicator (classifier-free guidance, arXiv:2207.12598; 1.5 to 2.5 in RECAP).
        """
        if steps < 1:
            raise ConfigError(f"sampling needs at least one step, not {steps}")
        batch = inputs.state.shape[0]
        if noise is None:
            noise = jax.random.normal(rng, (batch, self.config.horizon, self.config.action_dim))
        if guidance is not None:
            # Row by row: the prompt as it is, then the same without its indicator.
            both = [inputs, without_indicator(inputs)]
            inputs = jax.tree.map(lambda *pair: jnp.stack(pair, axis=1).reshape(-1, *pair[0].shape[1:]), *both)
        seen = self.PaliGemma.prefill(inputs)
        state = jnp.asarray(inputs.state)
        moments = self.moment(jnp.asarray(flow.times(steps))[:, None, None])
        if moments.modulation is not None:  # steps first, then layers
            attention, mlp, final = moments.modulation
            stacked = Modulation(jnp.moveaxis(attention, 1, 0), jnp.moveaxis(mlp, 1, 0), final)
            moments = moments._replace(modulation=stacked)
        trained = prefix is not None and self.config.max_delay > 0
        given = clean = None
        if prefix is not None and trained:
            given = (jnp.arange(self.config.horizon) < prefix.delay[:, None])[:, :, None]
            clean = self.moment(jnp.zeros((1, 1)))

        def velocity(noisy: jax.Array, moment: Moment) -> jax.Array:
            if guidance is None:
                return self.velocity(state, seen, noisy=noisy, moment=moment)
            doubled = jnp.repeat(noisy, 2, axis=0)
            if given is not None:
                moment = jax.tree.map(lambda x: jnp.repeat(x, 2, axis=-3) if x.shape[-3] == batch else x, moment)
            v = self.velocity(state, seen, noisy=doubled, moment=moment)
            return v[1::2] + guidance * (v[::2] - v[1::2])

        def step(noisy: jax.Array, time: jax.Array, moment: Moment) -> jax.Array:
            if prefix is None:
                return velocity(noisy, moment)
            if (fixed := given) is None:
                return flow.pull_towards(prefix, lambda x: velocity(x, moment), noisy, time=time)
            moment = jax.tree.map(lambda a, b: jnp.where(fixed, a, b), clean, moment)
            return jnp.where(fixed, 0, velocity(noisy, moment))

        if prefix is not None and given is not None:
            noise = jnp.where(given, prefix.actions, noise)
        return flow.integrate(step, noise, steps=steps, moments=moments, compat=self.config.compat)

    # What they are made of.

    def loss_at(self, batch: Batch, *, noise: jax.Array, time: jax.Array, delay: jax.Array | None = None) -> Losses:
        """`loss` with given noise `[R, T, D]` and time `[R]`; the rows of one example follow each other.

        `delay` int `[R]`: so many first actions are given without noise and do not count.
        """
        if self.config.insulate and batch.token_loss is None:
            raise ConfigError("an insulated model learns to write actions as tokens, but the batch has no token_loss")
        noisy, target, time, counts = self._disturbed(batch, noise=noise, time=time, delay=delay)
        size, draws, horizon = counts.shape
        out = None
        if self.config.insulate:
            out, seen = self.PaliGemma.read(batch.inputs)
            seen = seen._replace(keys=jax.lax.stop_gradient(seen.keys), values=jax.lax.stop_gradient(seen.values))
        else:
            seen = self.PaliGemma.prefill(batch.inputs)
        state = jnp.repeat(jnp.asarray(batch.inputs.state), draws, axis=0)
        error = jnp.square(self.velocity(state, seen, noisy=noisy, moment=self.moment(time)) - target)
        own = jnp.asarray(batch.action_dims)[:, None, None, :]
        error = jnp.where(own, error.reshape(size, draws, horizon, -1), 0)
        losses = jnp.sum(error, axis=-1) / jnp.maximum(jnp.sum(own, axis=-1), 1)
        loss = jnp.mean(losses * counts, axis=1)
        dims = jnp.mean(error * counts[..., None], axis=(1, 2))
        if out is None or batch.token_loss is None:
            return Losses(loss, dims)
        written = text.next_token_loss(
            self.PaliGemma.llm.embedder.logits, out, tokens=batch.inputs.tokens, counts=batch.token_loss
        )
        return Losses(self.config.flow_weight * loss + written[:, None], dims)

    def _disturbed(
        self, batch: Batch, *, noise: jax.Array, time: jax.Array, delay: jax.Array | None
    ) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
        """Noisy actions and velocity `[R, T, D]`, times `[R, 1 or T]`, and how much steps count `[B, draws, T]`."""
        size, horizon, _ = batch.actions.shape
        draws = noise.shape[0] // size
        actions = jnp.repeat(jnp.asarray(batch.actions), draws, axis=0)
        counts = jnp.ones((size, draws, horizon))
        time = jnp.asarray(time)[:, None]
        if delay is not None:
            free = jnp.arange(horizon) >= delay[:, None]
            time = jnp.where(free, time, 0)
            counts = (free * (horizon / jnp.sum(free, axis=1, keepdims=True))).reshape(counts.shape)
        noisy, target = flow.interpolate(actions, noise=noise, time=time)
        return noisy, target, time, counts

    def velocity(self, state: jax.Array, seen: Seen, *, noisy: jax.Array, moment: Moment) -> jax.Array:
        """Predicted velocity `[R, T, D]` at noisy actions `[R, T, D]`, given images and prompt from `prefill`."""
        return self.decode_velocity(self.expert_pass(state, seen, noisy=noisy, moment=moment))

    def expert_pass(self, state: jax.Array, seen: Seen, *, noisy: jax.Array, moment: Moment) -> jax.Array:
        """Outputs of the action expert, `[R, S, E]`."""
        tokens = self.embed_actions(state, noisy=noisy, moment=moment)
        valid = jnp.ones(tokens.shape[:2], bool)
        rows = tokens.shape[0] // seen.mask.shape[0]
        before = jnp.repeat(jnp.sum(seen.mask, axis=1, dtype=jnp.int32), rows)
        out, _ = self.PaliGemma.llm(
            tokens,
            expert=1,
            positions=before[:, None] + positions(valid),
            mask=block_mask(valid, jnp.broadcast_to(self.suffix_starts, valid.shape)),
            seen=(seen,),
            modulation=moment.modulation,
        )
        return out

    def decode_velocity(self, out: jax.Array) -> jax.Array:
        """`[R, S, E]` to `[R, T, D]`, from the action tokens at the end."""
        return self.action_out_proj(out[:, -self.config.horizon :])

    @property
    def suffix_starts(self) -> jax.Array:
        """bool `[S]`: a block of one state token (Pi0), then a block of action tokens."""
        first = jnp.arange(self.config.horizon) == 0
        return first if self.config.pi05 else jnp.concatenate([jnp.ones(1, bool), first])

    def embed_actions(self, state: jax.Array, *, noisy: jax.Array, moment: Moment) -> jax.Array:
        """The action expert's tokens `[R, S, E]`. Pi0: the state token, then the actions mixed with time."""
        tokens = self.action_in_proj(noisy)
        if self.config.pi05:
            return tokens
        assert moment.embedded is not None
        mixed = tokens @ self.action_time_mlp_in.kernel[: tokens.shape[-1]] + moment.embedded
        tokens = self.action_time_mlp_out(nnx.swish(mixed))
        return jnp.concatenate([self.state_proj(state)[:, None, :], tokens], axis=1)

    def moment(self, time: jax.Array) -> Moment:
        """What depends on time alone, at float32 `[..., T]`; T is 1 when all tokens share it."""
        if self.config.pi05:
            return Moment(None, self.PaliGemma.llm.modulation(self.condition(time), expert=1))
        embedded = flow.time_embedding(time, width=self.config.expert.width)
        assert self.action_time_mlp_in.bias is not None
        half = self.action_time_mlp_in.kernel[embedded.shape[-1] :]
        return Moment(embedded @ half + self.action_time_mlp_in.bias[...], None)

    def condition(self, time: jax.Array) -> jax.Array:
        """The condition of the expert's norms in Pi0.5: float32 `[..., E]` at `[...]`."""
        embedded = flow.time_embedding(time, width=self.config.expert.width)
        return nnx.swish(self.time_mlp_out(nnx.swish(self.time_mlp_in(embedded))))


def without_indicator(inputs: ModelInput, *, where: jax.Array | bool = True) -> ModelInput:
    """`inputs` with the indicator masked out of the prompt, in the rows that are True in `where` `[B, 1]`.

    A masked token takes no position and is seen by nobody, so this is the prompt without it. Raises `ConfigError` when
    the prompt has no indicator.
    """
    if inputs.indicator is None:
        raise ConfigError(
            "guidance needs a prompt that says how good its actions are: give the sample an advantage "
            "(Sample.advantage, or 'advantage' in an observation)"
        )
    return inputs._replace(token_mask=inputs.token_mask & ~(inputs.indicator & where))
