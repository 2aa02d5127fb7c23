"""SigLIP vision transformer: images to tokens of the language model's width.

Zhai et al., "Sigmoid Loss for Language Image Pre-Training", arXiv:2303.15343, in PaliGemma's arrangement: no class
token, no pooling. openpi-compatible; attribute names are the parameter paths of the published weights.
"""

import jax
import jax.numpy as jnp
from flax import nnx

from fla_models.configs import SiglipConfig
from fla_models.norms import RMSNorm
from fla_models.stack import Schedule, scan, stack

_XAVIER = nnx.initializers.xavier_uniform()


class PatchEmbedding(nnx.Module):
    """A convolution whose stride is its kernel size, as one matrix product per patch. Always float32."""

    def __init__(self, *, patch: int, width: int, rngs: nnx.Rngs) -> None:
        self.kernel = nnx.Param(nnx.initializers.lecun_normal()(rngs.params(), (patch, patch, 3, width)))
        self.bias = nnx.Param(jnp.zeros(width))
        self.patch = patch

    def __call__(self, images: jax.Array) -> jax.Array:
        """float32 `[B, H, W, 3]` to `[B, N, width]`, patches row by row."""
        batch, height, width, channels = images.shape
        rows, columns, patch = height // self.patch, width // self.patch, self.patch
        images = images[:, : rows * patch, : columns * patch]
        patches = images.reshape(batch, rows, patch, columns, patch, channels).transpose(0, 1, 3, 2, 4, 5)
        kernel, bias = self.kernel[...].astype(jnp.float32), self.bias[...].astype(jnp.float32)
        return patches.reshape(batch, rows * columns, -1) @ kernel.reshape(-1, kernel.shape[-1]) + bias


class Attention(nnx.Module):
    """Multi-head self-attention with biases. The softmax runs in `dtype`, as in the reference."""

    def __init__(self, config: SiglipConfig, *, dtype: jnp.dtype, rngs: nnx.Rngs) -> None:
        heads = (config.heads, config.width // config.heads)
        self.query = nnx.LinearGeneral(config.width, heads, dtype=dtype, kernel_init=_XAVIER, rngs=rngs)
        self.key = nnx.LinearGeneral(config.width, heads, dtype=dtype, kernel_init=_XAVIER, rngs=rngs)
        self.value = nnx.LinearGeneral(config.width, heads, dtype=dtype, kernel_init=_XAVIER, rngs=rngs)
        self.out = nnx.LinearGeneral(heads, config.width, axis=(-2, -1), dtype=dtype, kernel_init=_XAVIER, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        query, key, value = self.query(x), self.key(x), self.value(x)
        query = query / jnp.sqrt(query.shape[-1]).astype(query.dtype)
        weights = jax.nn.softmax(jnp.einsum("bqhd,bkhd->bhqk", query, key))
        return self.out(jnp.einsum("bhqk,bkhd->bqhd", weights, value))


class Mlp(nnx.Module):
    """Two linear layers with a tanh-approximated GELU between."""

    def __init__(self, config: SiglipConfig, *, dtype: jnp.dtype, rngs: nnx.Rngs) -> None:
        bias = nnx.initializers.normal(1e-6)
        self.Dense_0 = nnx.Linear(
            config.width, config.mlp_dim, dtype=dtype, kernel_init=_XAVIER, bias_init=bias, rngs=rngs
        )
        self.Dense_1 = nnx.Linear(
            config.mlp_dim, config.width, dtype=dtype, kernel_init=_XAVIER, bias_init=bias, rngs=rngs
        )

    def __call__(self, x: jax.Array) -> jax.Array:
        flat = x.reshape(-1, x.shape[-1])
        return self.Dense_1(nnx.gelu(self.Dense_0(flat), approximate=True)).reshape(x.shape)


class EncoderBlock(nnx.Module):
    """Pre-norm attention and MLP, each with its residual."""

    def __init__(self, config: SiglipConfig, *, dtype: jnp.dtype, rngs: nnx.Rngs) -> None:
        self.LayerNorm_0 = nnx.LayerNorm(config.width, epsilon=1e-6, dtype=dtype, rngs=rngs)
        self.MultiHeadDotProductAttention_0 = Attention(config, dtype=dtype, rngs=rngs)
        self.LayerNorm_1 = nnx.LayerNorm(config.width, epsilon=1e-6, dtype=dtype, rngs=rngs)
        self.MlpBlock_0 = Mlp(config, dtype=dtype, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        """`[B, N, width]` to the same."""
        x = x + self.MultiHeadDotProductAttention_0(self.LayerNorm_0(x))
        return x + self.MlpBlock_0(self.LayerNorm_1(x))


class Encoder(nnx.Module):
    """The stacked blocks and the norm after them."""

    def __init__(self, config: SiglipConfig, *, dtype: jnp.dtype, schedule: Schedule, rngs: nnx.Rngs) -> None:
        self.encoderblock = stack(lambda r: EncoderBlock(config, dtype=dtype, rngs=r), depth=config.depth, rngs=rngs)
        self.encoder_norm = nnx.LayerNorm(config.width, epsilon=1e-6, dtype=dtype, rngs=rngs)
        self.schedule = schedule

    def __call__(self, x: jax.Array) -> jax.Array:
        x, _ = scan(self.encoderblock, x, step=lambda block, x, _: (block(x), None), schedule=self.schedule)
        return self.encoder_norm(x)


class Siglip(nnx.Module):
    """The vision tower with its way into the language model: PaliGemma's head, or Gemma 3's pooling and projection."""

    def __init__(
        self,
        config: SiglipConfig,
        *,
        grid: tuple[int, int],
        out_width: int,
        dtype: jnp.dtype,
        schedule: Schedule,
        rngs: nnx.Rngs,
    ) -> None:
        """`grid` is rows and columns of patches in an image; `out_width` the width of the language model."""
        self.embedding = PatchEmbedding(patch=config.patch, width=config.width, rngs=rngs)
        position_init = nnx.initializers.normal(config.width**-0.5)
        self.pos_embedding = nnx.Param(position_init(rngs.params(), (1, grid[0] * grid[1], config.width)))
        self.Transformer = Encoder(config, dtype=dtype, schedule=schedule, rngs=rngs)
        self.grid, self.pool, self.dtype = grid, config.pool, dtype
        if config.pool is None:
            self.head = nnx.Linear(config.width, out_width, dtype=dtype, kernel_init=nnx.initializers.zeros, rngs=rngs)
        else:
            self.soft_norm = RMSNorm(config.width, rngs=rngs)
            self.projection = nnx.Linear(config.width, out_width, use_bias=False, dtype=dtype, rngs=rngs)

    def __call__(self, images: jax.Array) -> jax.Array:
        """float32 `[B, H, W, 3]` in [-1, 1] to `[B, tokens, out_width]` in the activation dtype."""
        x = self.embedding(images) + self.pos_embedding[...]
        x = self.Transformer(x.astype(self.dtype))
        if self.pool is None:
            return self.head(x)
        rows, columns = (side // self.pool for side in self.grid)
        squares = x.reshape(x.shape[0], rows, self.pool, columns, self.pool, x.shape[-1])
        pooled, _ = self.soft_norm(squares.mean(axis=(2, 4)).reshape(x.shape[0], rows * columns, -1))
        return self.projection(pooled)
