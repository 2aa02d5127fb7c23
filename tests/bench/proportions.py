"""Pi0.5 in its published proportions, small enough for a CPU, and observations for it.

Widths and heads are a quarter of the published ones, depths, head sizes of the vision tower, tokens and action chunks
are the same. Matrix products then take a sixteenth, and so does the attention of both experts, whose number of heads
times head size is a sixteenth: vision, language and expert keep their shares of the work. Only the vision tower's
attention grows, from 4 to 15 % of the tower; `python tests/bench/proportions.py` prints the table.
"""

import attrs
import jax.numpy as jnp
import numpy as np
from flax import nnx

from fla_models import parameters
from fla_models.configs import GemmaConfig, Pi0Config, variants
from fla_models.pi0 import Pi0
from fla_sdk.model import Batch, ModelInput
from fla_sdk.policy.parameters import Flat

PUBLISHED = variants(pi05=True)["base"]


def quarter(config: Pi0Config = PUBLISHED) -> Pi0Config:
    """`config` in float32 with a sixteenth of the work per token. Words are only looked up, so there may be few."""

    def gemma(c: GemmaConfig) -> GemmaConfig:
        return attrs.evolve(c, width=c.width // 4, mlp_dim=c.mlp_dim // 4, heads=c.heads // 4, head_dim=c.head_dim // 4)

    v = config.vision
    return attrs.evolve(
        config,
        vision=attrs.evolve(v, width=v.width // 4, mlp_dim=v.mlp_dim // 4, heads=v.heads // 4),
        language=gemma(config.language),
        expert=gemma(config.expert),
        vocab_size=1024,
        dtype="float32",
    )


def random_leaves(config: Pi0Config, *, seed: int = 0) -> Flat:
    """Parameters of which none is zero, as large as keeps activations of one size through all layers."""
    numbers = np.random.default_rng(seed)
    leaves: Flat = {}
    for path, leaf in parameters.flatten(nnx.eval_shape(lambda: Pi0(config, rngs=nnx.Rngs(0)))).items():
        name = path.rsplit("/", 1)[-1]
        small = name in ("bias", "scale", "pos_embedding")
        x = numbers.standard_normal(leaf.shape, np.float32) * (0.1 if small else leaf.shape[-2] ** -0.5)
        leaves[path] = jnp.asarray(x + 1 if name == "scale" and "/img/" in path else x)
    return leaves


def observation(config: Pi0Config, *, cameras: int, prompt: int, batch: int = 1) -> ModelInput:
    """Noise in the first `cameras` slots, and a prompt of `prompt` tokens in the bucket of 48."""
    numbers = np.random.default_rng(1)
    slots = config.image_slots[:cameras]
    return ModelInput(
        images={slot: numbers.integers(0, 256, (batch, *config.image_size, 3), np.uint8) for slot in slots},
        image_masks={slot: np.ones(batch, bool) for slot in slots},
        state=numbers.standard_normal((batch, config.action_dim), np.float32),
        tokens=numbers.integers(4, config.vocab_size, (batch, 48), np.int32),
        token_mask=np.broadcast_to(np.arange(48) < prompt, (batch, 48)).copy(),
    )


def demonstration(inputs: ModelInput, config: Pi0Config) -> Batch:
    """`inputs` with a chunk of noise."""
    batch, width = inputs.state.shape
    actions = np.random.default_rng(2).standard_normal((batch, config.horizon, width), np.float32)
    return Batch(inputs, actions, np.ones((batch, width), bool), np.ones((batch, config.horizon), bool))


def work(config: Pi0Config, *, cameras: int, prompt: int, steps: int) -> dict[str, float]:
    """Multiplications and additions, in pairs, of one naive `sample`, by part of the model."""
    v, total = config.vision, config.image_grid[0] * config.image_grid[1]
    length = cameras * total + prompt

    def gemma(c: GemmaConfig, queries: int, keys: int) -> float:
        products = c.width * c.head_dim * (2 * c.heads + 2 * c.kv_heads) + 3 * c.width * c.mlp_dim
        return c.depth * queries * (products + 2 * c.heads * c.head_dim * keys)

    tower = v.depth * cameras * total * (4 * v.width**2 + 2 * v.width * v.mlp_dim + 2 * v.width * total)
    return {
        "vision": tower,
        "language": gemma(config.language, length, length),
        "expert": steps * gemma(config.expert, config.horizon, length + config.horizon),
    }


def main() -> None:
    """Print the shares of work in the published and in the small model."""
    for name, config in {"published": PUBLISHED, "a quarter": quarter()}.items():
        parts = work(config, cameras=3, prompt=config.max_tokens, steps=10)
        total = sum(parts.values())
        shares = "   ".join(f"{part} {100 * amount / total:4.1f} %" for part, amount in parts.items())
        print(f"{name:10} {total / 1e9:8.1f} G   {shares}")


if __name__ == "__main__":
    main()
