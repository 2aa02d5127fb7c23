"""How much memory a training step of the published Pi0.5 takes, as its compiled program says. No array is made.

    .venv/bin/python tests/bench/train_memory.py [--batch N]

With a frozen backbone there are gradients, optimizer moments and averages of the trained parameters alone. Temporaries
are those of the backend that compiles: a CPU computes bfloat16 products by way of float32 copies, which a GPU does not.
"""

import argparse
import functools
import time
from collections.abc import Collection, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from proportions import PUBLISHED, demonstration, observation

from fla_models.parameters import group
from fla_models.pi0 import Pi0
from fla_sdk.policy.parameters import split
from fla_sdk.training.config import Optimizer
from fla_sdk.training.optimizer import make_optimizer
from fla_sdk.training.step import init_state, train_step


def size(tree: Any) -> float:
    """GB (10^9 bytes) of all leaves."""
    return sum(float(np.prod(leaf.shape)) * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree)) / 1e9


def memory(*, freeze: Collection[str], batch: int) -> Mapping[str, float]:
    """GB by what they hold, for a step that is donated its state, as the trainer does."""
    graph, flat = split(nnx.eval_shape(lambda: Pi0(PUBLISHED, rngs=nnx.Rngs(0))))
    frozen = {path: leaf for path, leaf in flat.items() if group(path) in freeze}
    trained = {path: leaf for path, leaf in flat.items() if path not in frozen}
    optimizer, schedule = make_optimizer(Optimizer())
    state = jax.eval_shape(functools.partial(init_state, optimizer=optimizer, ema=True), trained, frozen)
    data = jax.eval_shape(
        lambda: jax.tree.map(
            jnp.asarray, demonstration(observation(PUBLISHED, cameras=3, prompt=40, batch=batch), PUBLISHED)
        )
    )
    step = functools.partial(train_step, graph=graph, optimizer=optimizer, schedule=schedule, ema_decay=0.99)
    lowered = jax.jit(step, donate_argnums=0).lower(state, data, jax.eval_shape(lambda: jax.random.key(0)))
    begun = time.perf_counter()
    found = lowered.compile().memory_analysis()
    assert found is not None
    return {
        "trained parameters": size(state.params),
        "frozen parameters": size(state.frozen),
        "optimizer": size(state.opt_state),
        "moving average": size(state.ema),
        "all arguments": found.argument_size_in_bytes / 1e9,
        "outputs that are no argument": (found.output_size_in_bytes - found.alias_size_in_bytes) / 1e9,
        "temporaries, gradients included": found.temp_size_in_bytes / 1e9,
        "seconds to compile": time.perf_counter() - begun,
    }


def main() -> None:
    """Print both kinds of training, side by side."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--batch", type=int, default=8)
    batch = parser.parse_args().batch
    kinds = {"all trained": (), "frozen backbone": ("vision", "language")}
    found = {kind: memory(freeze=freeze, batch=batch) for kind, freeze in kinds.items()}
    print(f"GB at batch {batch:<20} {'   '.join(f'{kind:>16}' for kind in kinds)}")
    for what in found["all trained"]:
        print(f"{what:32} {'   '.join(f'{found[kind][what]:16.2f}' for kind in kinds)}")


if __name__ == "__main__":
    main()
