"""The value model of RECAP: how far a task is from done, as a distribution over returns.

Physical Intelligence, "pi*0.6: a VLA that learns from experience", arXiv:2511.14759, section IV; the distributional
form is that of Bellemare et al., arXiv:1707.06887, learned by cross-entropy as in Farebrother et al., arXiv:2403.03950.
"""

import jax
import jax.numpy as jnp
from flax import nnx

from fla_models import scratch
from fla_models.configs import ValueConfig
from fla_models.paligemma import PaliGemma
from fla_sdk.errors import ConfigError
from fla_sdk.model import ActionPrefix, Batch, Losses, ModelInput, Rows


class Value(nnx.Module):
    """Images and prompt run through a small language model; a linear head reads its output at the last real token."""

    def __init__(self, config: ValueConfig, *, rngs: nnx.Rngs) -> None:
        self.config = config
        self.PaliGemma = PaliGemma(config, experts=1, rngs=rngs)
        self.value_head = nnx.Linear(config.language.width, config.bins, rngs=rngs)
        if config.init == "scratch":
            scratch.initialise(self, rngs=rngs)

    def loss(self, rng: jax.Array, batch: Batch, *, train: bool = True, rows: Rows | None = None) -> Losses:
        """Cross-entropy of the return's bin, the same for all steps of a chunk.

        Raises `ConfigError` when the batch has no returns.
        """
        if batch.returns is None:
            raise ConfigError("a value model learns from returns, but the batch has none: give each sample its return")
        inputs = self.PaliGemma.augmented(rng, batch.inputs, rows=rows) if train else batch.inputs
        scores = jax.nn.log_softmax(self.logits(inputs).astype(jnp.float32), axis=-1)
        target = self.bin_of(jnp.asarray(batch.returns))
        loss = -jnp.take_along_axis(scores, target[:, None], axis=-1)
        return Losses(jnp.broadcast_to(loss, batch.actions.shape[:2]))

    def value(self, inputs: ModelInput) -> jax.Array:
        """Expected return, float32 `[B]`."""
        chances = jax.nn.softmax(self.logits(inputs).astype(jnp.float32), axis=-1)
        return chances @ self.centers

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
        """Raises `ConfigError`: a value model judges and does not act."""
        raise ConfigError("a value model judges observations and does not act: serve a policy instead")

    def logits(self, inputs: ModelInput) -> jax.Array:
        """`[B, bins]`."""
        out, seen = self.PaliGemma.read(inputs)
        last = seen.mask.shape[1] - 1 - jnp.argmax(seen.mask[:, ::-1], axis=1)
        return self.value_head(jnp.take_along_axis(out, last[:, None, None], axis=1)[:, 0])

    @property
    def centers(self) -> jax.Array:
        """The returns that the bins stand for, float32 `[bins]`, evenly from `lowest` to `highest`, both included."""
        return jnp.linspace(self.config.lowest, self.config.highest, self.config.bins)

    def bin_of(self, returns: jax.Array) -> jax.Array:
        """The nearest bin, int32 `[B]`; returns beyond the ends belong to the outermost ones."""
        fraction = (returns - self.config.lowest) / (self.config.highest - self.config.lowest)
        return jnp.clip(jnp.round(fraction * (self.config.bins - 1)), 0, self.config.bins - 1).astype(jnp.int32)
