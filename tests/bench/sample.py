"""How much sooner a chunk is sampled than in the published way, and what each saving has to do with it.

    .venv/bin/python tests/bench/sample.py [--without SAVING ...] [--rounds N] [--shares]

Pi0.5 in its published proportions (`proportions.py`), float32, batch 1, a prompt of 40 tokens, 10 denoising steps, two
cameras and three. The naive path (`naive.py`) sees black images for absent cameras and the prompt padded to 200 tokens.
`--shares` also times the naive path with every saving but one; `--without` measures with all savings but those named.
"""

import argparse
import functools
from collections.abc import Callable, Set
from typing import Any

import jax
import numpy as np
from clock import interleaved, show
from flax import nnx
from naive import SAVINGS, Naive, reference_inputs
from proportions import observation, quarter, random_leaves

from fla_models.pi0 import Pi0
from fla_sdk.model import ModelInput
from fla_sdk.policy.parameters import Flat, merge

STEPS = 10
TARGETS = {2: 1.6, 3: 1.15}


def sampler(build: Callable[[nnx.Rngs], Pi0], leaves: Flat, inputs: ModelInput, noise: np.ndarray) -> Callable[[], Any]:
    """A compiled `sample` with everything on the device."""
    graph, _ = nnx.split(nnx.eval_shape(lambda: build(nnx.Rngs(0))))

    @jax.jit
    def run(leaves: Flat, inputs: ModelInput, noise: jax.Array) -> jax.Array:
        return merge(graph, leaves).sample(jax.random.key(0), inputs, steps=STEPS, noise=noise)

    return functools.partial(run, leaves, *jax.device_put((inputs, noise)))


def main() -> None:
    """Print medians, ratios, and the largest difference between the two ways."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--without", nargs="*", default=[], choices=SAVINGS, help="savings that are left out")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--shares", action="store_true", help="also the naive path with all savings but one")
    args = parser.parse_args()
    config = quarter()
    leaves = random_leaves(config)
    noise = np.random.default_rng(4).standard_normal((1, config.horizon, config.action_dim), np.float32)
    for cameras, target in TARGETS.items():
        inputs = observation(config, cameras=cameras, prompt=40)

        def path(keep: Set[str], inputs: ModelInput = inputs) -> Callable[[], Any]:
            wide = reference_inputs(inputs, config, keep=keep)
            return sampler(lambda rngs: Naive(config, rngs=rngs, keep=keep), leaves, wide, noise)

        everything = frozenset(SAVINGS)
        ours = sampler(lambda rngs: Pi0(config, rngs=rngs), leaves, inputs, noise)
        cases = {"naive": path(frozenset()), "ours": ours}
        if args.without:
            cases["without " + ", ".join(args.without)] = path(everything - set(args.without))
        if args.shares:
            cases |= {f"all but {saving}": path(everything - {saving}) for saving in SAVINGS}
        report(f"{cameras} cameras", cases, target=target, rounds=args.rounds)


def report(title: str, cases: dict[str, Callable[[], Any]], *, target: float, rounds: int) -> None:
    """Run the cases and print what `naive` and the others take against `ours`."""
    actions = {name: np.asarray(run()) for name, run in cases.items()}
    expected = actions["naive"]
    largest = np.abs(expected).max()
    notes = {name: f"differs by {np.abs(a - expected).max() / largest:.1e}" for name, a in actions.items()}
    print(f"{title}: over ours, target x {target} (wall, processor time)")
    show(interleaved(cases, rounds=rounds), against="ours", notes=notes)


if __name__ == "__main__":
    main()
