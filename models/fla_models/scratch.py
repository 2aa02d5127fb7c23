"""Starting values for small models that learn everything from demonstrations.

The published models start from zeros in places, because pre-trained weights fill or tame them. A small model without
such weights finds its targets many times sooner when

- image positions are written in sines and cosines (MoCo v3, arXiv:2104.02057), as strong as the patches themselves;
- image tokens reach the language model from the first step on;
- words are as loud as images in the residual stream;
- the action expert's residual branches are open.
"""

from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
from flax import nnx

if TYPE_CHECKING:
    from fla_models.pi0 import Pi0
    from fla_models.pi0_fast import Pi0Fast
    from fla_models.value import Value


def initialise(model: "Pi0 | Pi0Fast | Value", *, rngs: nnx.Rngs) -> None:
    """Replace these starting values in place."""
    image, language = model.PaliGemma.img, model.PaliGemma.llm
    width = image.pos_embedding[...].shape[-1]
    image.pos_embedding[...] = sincos(model.config.image_grid, width)
    head = image.head.kernel
    head[...] = nnx.initializers.lecun_normal()(rngs.params(), head[...].shape)
    # The embedder multiplies by sqrt(width), which makes this one.
    words = language.embedder.input_embedding
    words[...] = nnx.initializers.normal(words[...].shape[-1] ** -0.5)(rngs.params(), words[...].shape)
    for path, norm in nnx.iter_modules(model):
        if isinstance(norm, nnx.Linear) and path[-1] == "Dense_0" and "llm" in path and norm.bias is not None:
            scale, shift, gate = jnp.split(norm.bias[...], 3, axis=-1)
            norm.bias[...] = jnp.concatenate([scale, shift, jnp.ones_like(gate)], axis=-1)


def sincos(grid: tuple[int, int], width: int) -> jax.Array:
    """float32 `[1, rows * columns, width]`: sines and cosines of column and row, a quarter of the width for each."""
    rows, columns = jnp.mgrid[: grid[0], : grid[1]]
    frequency = 1e4 ** -jnp.linspace(0, 1, width // 4)
    waves = [wave(place.reshape(-1, 1) * frequency) for place in (columns, rows) for wave in (jnp.sin, jnp.cos)]
    embedding = jnp.concatenate(waves, axis=1)
    return jnp.pad(embedding, ((0, 0), (0, width - embedding.shape[1])))[None]
