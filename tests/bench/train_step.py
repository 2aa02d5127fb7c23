"""What a training step takes: frozen backbone, adapters, everything trained; and what several draws of noise cost.

    .venv/bin/python tests/bench/train_step.py [--rounds N] [--batch N] [--cameras N] [--prompt N]
    .venv/bin/python tests/bench/train_step.py --only frozen --language 512,18,4096,2,1,64 --image-size 112 --tokens 48

The dimensions are by default a quarter of the published ones; each can be given.

Pi0.5 in its published proportions (`proportions.py`), float32, AdamW, through the trainer's own `train_step`. The naive
path (`naive.py`) runs both experts through all layers together and recomputes layers in the backward pass, as the
published one does, once with the same tokens and once with the prompt padded to 200.
"""

import argparse
import functools
from collections.abc import Callable, Collection
from typing import Any

import attrs
import jax
import numpy as np
import optax
from clock import interleaved, show
from flax import nnx
from naive import Naive, reference_inputs
from proportions import demonstration, observation, quarter, random_leaves

from fla_models.configs import GemmaConfig, LoraConfig, Pi0Config, SiglipConfig
from fla_models.parameters import group
from fla_models.pi0 import Pi0
from fla_sdk.model import Batch
from fla_sdk.policy.parameters import Flat
from fla_sdk.training.config import Optimizer
from fla_sdk.training.optimizer import make_optimizer
from fla_sdk.training.step import init_state, train_step

BACKBONE = ("vision", "language")


def stepper(
    build: Callable[[nnx.Rngs], Pi0], leaves: Flat, batch: Batch, *, freeze: Collection[str] = BACKBONE
) -> Callable[[], Any]:
    """A compiled `train_step` on a batch that is on the device; the state is not donated, so it can be run again."""
    graph, _ = nnx.split(nnx.eval_shape(lambda: build(nnx.Rngs(0))))
    optimizer, schedule = make_optimizer(Optimizer())
    frozen = {path: leaf for path, leaf in leaves.items() if group(path) in freeze}
    trained = {path: leaf for path, leaf in leaves.items() if path not in frozen}
    step = jax.jit(functools.partial(train_step, graph=graph, optimizer=optimizer, schedule=schedule, ema_decay=None))
    state = init_state(trained, frozen, optimizer=optimizer, ema=False)
    return functools.partial(step, state, jax.device_put(batch), jax.random.key(0))


def written(batch: Batch) -> Batch:
    """`batch` whose last 16 tokens spell actions."""
    spells = np.broadcast_to(np.arange(48) >= 32, batch.inputs.tokens.shape).copy()
    return batch._replace(inputs=batch.inputs._replace(token_ar=spells), token_loss=spells & batch.inputs.token_mask)


def difference(one: Any, other: Any) -> float:
    """Largest difference of two steps' clipped gradients, leaf by leaf, relative to the largest entry of the leaf."""
    # AdamW's first moment after the first step is the gradient times a constant.
    a, b = (optax.tree.get(state.opt_state, "mu") for state, _ in (one, other))
    assert a.keys() == b.keys()
    # The bias of a key moves all of a query's logits alike: its gradient is zero, and what is computed is rounding.
    real = [path for path in a if not path.endswith("key/bias") and np.abs(b[path]).max() > 0]
    return max(float(np.abs(a[path] - b[path]).max() / np.abs(b[path]).max()) for path in real)


MODES = {"frozen": BACKBONE, "lora": ("language", "action_expert"), "full": ()}
TARGETS = {"frozen": 2.5, "lora": 1.15, "full": 1.15}


def sizes(args: argparse.Namespace) -> Pi0Config:
    """The model that the arguments ask for."""
    config = quarter()

    def gemma(text: str) -> GemmaConfig:
        width, depth, mlp_dim, heads, kv_heads, head_dim = map(int, text.split(","))
        return GemmaConfig(width=width, depth=depth, mlp_dim=mlp_dim, heads=heads, kv_heads=kv_heads, head_dim=head_dim)

    changes: dict[str, Any] = {}
    if args.language:
        changes["language"] = gemma(args.language)
    if args.expert:
        changes["expert"] = gemma(args.expert)
    if args.vision:
        width, depth, mlp_dim, heads, patch = map(int, args.vision.split(","))
        changes["vision"] = SiglipConfig(width=width, depth=depth, mlp_dim=mlp_dim, heads=heads, patch=patch)
    for name in ("horizon", "dtype", "vocab_size"):
        if (value := getattr(args, name)) is not None:
            changes[name] = value
    return attrs.evolve(config, image_size=(args.image_size, args.image_size), max_tokens=args.tokens, **changes)


def with_adapters(config: Pi0Config) -> Pi0Config:
    """As openpi's low-memory configs have them."""

    def adapted(gemma: GemmaConfig, rank: int) -> GemmaConfig:
        lora = LoraConfig(rank=rank, alpha=float(rank))
        return attrs.evolve(gemma, lora_attention=lora, lora_mlp=lora)

    return attrs.evolve(config, language=adapted(config.language, 16), expert=adapted(config.expert, 32))


def main() -> None:
    """Print medians and ratios."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--cameras", type=int, default=3)
    parser.add_argument("--prompt", type=int, default=40, help="tokens that are real")
    parser.add_argument("--tokens", type=int, default=200, help="longest prompt, which the naive path pads to")
    parser.add_argument("--image-size", type=int, default=224)
    parser.add_argument("--vision", metavar="WIDTH,DEPTH,MLP,HEADS,PATCH")
    parser.add_argument("--language", metavar="WIDTH,DEPTH,MLP,HEADS,KV_HEADS,HEAD_DIM")
    parser.add_argument("--expert", metavar="WIDTH,DEPTH,MLP,HEADS,KV_HEADS,HEAD_DIM")
    parser.add_argument("--horizon", type=int)
    parser.add_argument("--vocab-size", type=int)
    parser.add_argument("--dtype", choices=("float32", "bfloat16"))
    parser.add_argument("--remat", choices=("nothing", "cheap", "all"), default="all", help="of ours")
    parser.add_argument("--only", choices=(*MODES, "draws"), action="append", help="may be repeated")
    args = parser.parse_args()
    config = sizes(args)
    batch = demonstration(observation(config, cameras=args.cameras, prompt=args.prompt, batch=args.batch), config)
    padded = batch._replace(inputs=reference_inputs(batch.inputs, config))
    chosen = args.only or [*MODES, "draws"]
    for mode in (mode for mode in MODES if mode in chosen):
        one = with_adapters(config) if mode == "lora" else config
        mine = attrs.evolve(one, remat=args.remat)
        leaves = random_leaves(one)
        cases = {
            "ours": stepper(lambda rngs, one=mine: Pi0(one, rngs=rngs), leaves, batch, freeze=MODES[mode]),
            "naive": stepper(lambda rngs, one=one: Naive(one, rngs=rngs), leaves, padded, freeze=MODES[mode]),
            "naive, same tokens": stepper(
                lambda rngs, one=one: Naive(one, rngs=rngs), leaves, batch, freeze=MODES[mode]
            ),
        }
        expected = cases["ours"]()
        for name in ("naive", "naive, same tokens"):
            print(f"{mode}, {name}: gradients differ by {difference(expected, cases[name]()):.1e}")
        print(f"{mode}: over ours, target x {TARGETS[mode]} (wall, processor time)")
        show(interleaved(cases, rounds=args.rounds), against="ours")
    if "draws" not in chosen:
        return
    leaves = random_leaves(config)
    for title, options, freeze, data in (
        ("frozen backbone", {}, BACKBONE, batch),
        ("insulated, everything trained", {"insulate": True}, (), written(batch)),
    ):
        cases = {
            f"{k} draws": stepper(
                lambda rngs, k=k, options=options: Pi0(attrs.evolve(config, flow_samples=k, **options), rngs=rngs),
                leaves,
                data,
                freeze=freeze,
            )
            for k in (1, 8)
        }
        print(f"{title}: draws of noise and time, target x 1.25 (wall, processor time)")
        show(interleaved(cases, rounds=args.rounds), against="1 draws")


if __name__ == "__main__":
    main()
