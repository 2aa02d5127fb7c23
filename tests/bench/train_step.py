"""What a training step takes when the backbone is frozen, and what several draws of noise cost.

    .venv/bin/python tests/bench/train_step.py [--rounds N] [--batch N] [--cameras N] [--prompt N]

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

from fla_models.configs import Pi0Config
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
    return max(float(np.abs(a[path] - b[path]).max() / np.abs(b[path]).max()) for path in a)


def main() -> None:
    """Print medians and ratios."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--cameras", type=int, default=3)
    parser.add_argument("--prompt", type=int, default=40)
    args = parser.parse_args()
    config = quarter()
    leaves = random_leaves(config)
    batch = demonstration(observation(config, cameras=args.cameras, prompt=args.prompt, batch=args.batch), config)
    padded = batch._replace(inputs=reference_inputs(batch.inputs, config))
    of = functools.partial(attrs.evolve, config)

    def ours(config: Pi0Config, batch: Batch, **freeze: Any) -> Callable[[], Any]:
        return stepper(lambda rngs: Pi0(config, rngs=rngs), leaves, batch, **freeze)

    def naive(batch: Batch) -> Callable[[], Any]:
        return stepper(lambda rngs: Naive(config, rngs=rngs), leaves, batch)

    cases = {"ours": ours(config, batch), "naive": naive(padded), "naive, same tokens": naive(batch)}
    expected = cases["ours"]()
    for name in ("naive", "naive, same tokens"):
        print(f"{name}: gradients differ by {difference(expected, cases[name]()):.1e}")
    print("frozen backbone: over ours, target x 2.5 (wall, processor time)")
    show(interleaved(cases, rounds=args.rounds), against="ours")
    for title, options, freeze, data in (
        ("frozen backbone", {}, BACKBONE, batch),
        ("insulated, everything trained", {"insulate": True}, (), written(batch)),
    ):
        cases = {f"{k} draws": ours(of(flow_samples=k, **options), data, freeze=freeze) for k in (1, 8)}
        print(f"{title}: draws of noise and time, target x 1.25 (wall, processor time)")
        show(interleaved(cases, rounds=args.rounds), against="1 draws")


if __name__ == "__main__":
    main()
