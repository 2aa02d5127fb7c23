"""A vision tower and a transformer: images and text become one sequence, which experts run through.

Shared by every model of this package. PaliGemma: Beyer et al., arXiv:2407.07726.
"""

import jax
import jax.numpy as jnp
from flax import nnx

from fla_models import pixels
from fla_models.attention import Seen
from fla_models.configs import BackboneConfig
from fla_models.gemma import Gemma
from fla_models.sequence import Segment, block_mask, cut, join, positions
from fla_models.siglip import Siglip
from fla_models.stack import Schedule
from fla_sdk.errors import ObservationError, nearest
from fla_sdk.model import ModelInput, Rows


class PaliGemma(nnx.Module):
    """The vision tower `img` and the transformer `llm` with all its experts."""

    def __init__(
        self,
        config: BackboneConfig,
        *,
        experts: int,
        condition: int | None = None,
        wide_queries: bool = False,
        rngs: nnx.Rngs,
    ) -> None:
        """`experts` is 1 for the language model alone. `condition` is the width of what conditions expert 1's norms."""
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
            config.experts[:experts],
            vocab_size=config.vocab_size,
            conditions=(None, condition)[:experts],
            dtype=dtype,
            schedule=schedule,
            wide_queries=wide_queries,
            rngs=rngs,
        )
        self.slots, self.black_slots, self.image_size = config.image_slots, config.black_slots, config.image_size
        self.causal_prompt = config.causal_prompt
        self.augment, self.openpi = config.augment, config.compat == "openpi"

    def prefill(self, inputs: ModelInput) -> Seen:
        """Run images and prompt through the language model, for experts to look at: all real tokens but those that
        spell actions, which no expert may see.
        """
        prefix = self.embed(inputs)
        where = positions(prefix.valid)
        own = self.llm.keys_and_values(prefix.tokens, positions=where, mask=block_mask(prefix.valid, prefix.starts))
        return Seen(*own, _visible(inputs, prefix), where)

    def read(self, inputs: ModelInput) -> tuple[jax.Array, Seen]:
        """`prefill`, and the language model's outputs `[B, P, D]`."""
        prefix = self.embed(inputs)
        where = positions(prefix.valid)
        out, own = self.llm(prefix.tokens, positions=where, mask=block_mask(prefix.valid, prefix.starts))
        return out, Seen(*own, _visible(inputs, prefix), where)

    def embed(self, inputs: ModelInput) -> Segment:
        """Images in the order of the slots, then the text: a block in which all attend to all, and behind it the tokens
        that spell actions, each of which starts a block of its own.
        """
        starts = jnp.zeros(inputs.tokens.shape, bool) if inputs.token_ar is None else jnp.asarray(inputs.token_ar)
        if self.causal_prompt:
            starts = jnp.ones_like(starts)
        text = Segment(self.llm.embed(inputs.tokens), jnp.asarray(inputs.token_mask), starts)
        inputs = self._with_black_images(inputs)
        slots = self._present_slots(inputs)
        if not slots:
            return text
        tokens = self.embed_images(jnp.stack([self.pixels(inputs, slot) for slot in slots], axis=1))
        batch, cameras, per_image, width = tokens.shape
        present = [jnp.asarray(inputs.image_masks.get(slot, jnp.ones(batch, bool))) for slot in slots]
        valid = jnp.repeat(jnp.stack(present, axis=1), per_image, axis=1)
        images = Segment(tokens.reshape(batch, cameras * per_image, width), valid, jnp.zeros(valid.shape, bool))
        return join([images, text])

    def embed_images(self, pixels: jax.Array) -> jax.Array:
        """float32 `[B, cameras, H, W, 3]` in [-1, 1] to `[B, cameras, tokens, D]`, all cameras in one pass."""
        flat = self.img(pixels.reshape(-1, *pixels.shape[2:]))
        return flat.reshape(*pixels.shape[:2], *flat.shape[1:])

    def pixels(self, inputs: ModelInput, slot: str) -> jax.Array:
        """The image of `slot` as float32 `[B, H, W, 3]` in [-1, 1], resized with padding where it has another size.

        Raises `ObservationError` when it is no image.
        """
        image = jnp.asarray(inputs.images[slot])
        if image.ndim != 4 or image.shape[-1] != 3:
            height, width = self.image_size
            raise ObservationError(
                f"image {slot!r} has shape {image.shape}, the model takes [B, H, W, 3], best with H, W of "
                f"{height}, {width}"
            )
        if image.shape[1:3] != tuple(self.image_size):
            image = pixels.resize_with_pad(image, *self.image_size)
        return pixels.to_range(image)

    def augmented(self, rng: jax.Array, inputs: ModelInput, *, rows: Rows | None = None) -> ModelInput:
        """`inputs` with all images disturbed as the config says, for training; float32 in [-1, 1]."""
        if self.augment is None:
            return inputs
        images: dict[str, jax.Array] = {}
        for number, slot in enumerate(self._present_slots(inputs)):
            shown = self.pixels(inputs, slot)
            total = shown.shape[0] if rows is None else rows.total
            images[slot] = pixels.augment(
                # openpi gives all cameras the same random numbers, and loses the saturation on its way.
                cut(jax.random.split(rng if self.openpi else jax.random.fold_in(rng, number), total), rows),
                shown,
                self.augment,
                fixed_camera="wrist" not in slot,
                saturate=not self.openpi,
            )
        return inputs._replace(images=images)

    def _with_black_images(self, inputs: ModelInput) -> ModelInput:
        batch = inputs.tokens.shape[0]
        images, masks = dict(inputs.images), dict(inputs.image_masks)
        for slot in self.black_slots:
            black = jnp.zeros((batch, *self.image_size, 3), jnp.uint8)
            if slot in images:  # some rows have a camera there
                there = jnp.asarray(masks.get(slot, jnp.ones(batch, bool)))[:, None, None, None]
                black = jnp.where(there, self.pixels(inputs, slot), -1.0)
            images[slot], masks[slot] = black, jnp.ones(batch, bool)
        return inputs._replace(images=images, image_masks=masks)

    def _present_slots(self, inputs: ModelInput) -> list[str]:
        for name in inputs.images:
            if name not in self.slots:
                hint = f"; did you mean {close!r}?" if (close := nearest(name, self.slots)) else ""
                raise ObservationError(f"image slot {name!r} is none of this model's: {', '.join(self.slots)}{hint}")
        return [slot for slot in self.slots if slot in inputs.images]


def _visible(inputs: ModelInput, prefix: Segment) -> jax.Array:
    if inputs.token_ar is None:
        return prefix.valid
    images = prefix.valid.shape[1] - inputs.tokens.shape[1]
    return prefix.valid & ~jnp.pad(jnp.asarray(inputs.token_ar), ((0, 0), (images, 0)))
