"""How long the published Pi0.5 takes to answer on an accelerator, beside the least that the device allows.

    .venv/bin/python tests/bench/latency_gpu.py [--cameras N] [--prompt N] [--steps N] [--rounds N] [--quarter]

The floor is made of two rates that are measured on the same device: how fast a large array is read, and how fast large
bfloat16 matrices are multiplied. Vision and language read their weights once, the expert once per step, and each takes
at least the longer of its reading and its arithmetic.
`--quarter` takes the model of `proportions.py` instead, to try this out on a CPU.
"""

import argparse
import functools
from collections.abc import Callable
from typing import Any

import attrs
import jax
import jax.numpy as jnp
from clock import interleaved
from flax import nnx
from proportions import PUBLISHED, observation, quarter, work

from fla_models.configs import Pi0Config
from fla_models.parameters import group
from fla_models.pi0 import Pi0
from fla_sdk.policy.parameters import Flat, merge, split

HOST = "cpu"


def repeated(step: Callable[..., jax.Array], start: jax.Array, data: jax.Array, *, times: int) -> Callable[[], Any]:
    """`times` applications in one program, so that launching it does not count."""
    run = jax.jit(lambda x, data: jax.lax.fori_loop(0, times, lambda _, x: step(x, data), x))
    return functools.partial(run, start, data)


def floors(*, small: bool, rounds: int) -> tuple[float, float]:
    """Bytes read per second, and multiplications with additions per second in bfloat16."""
    side, cells, times = (1024, 2**26, 4) if small else (8192, 2**29, 20)
    matrix = jax.random.normal(jax.random.key(0), (side, side), jnp.bfloat16) * side**-0.5
    long = jax.random.uniform(jax.random.key(1), (cells,), jnp.bfloat16)

    def mean(x: jax.Array, long: jax.Array) -> jax.Array:
        # The next mean depends on this one, and not linearly: no turn can be left out, nor taken out of the loop.
        return jnp.sum(jnp.maximum(long, x.astype(jnp.bfloat16)), dtype=jnp.float32) / cells

    reading = repeated(mean, jnp.zeros(()), long, times=times)
    product = repeated(jnp.matmul, matrix, matrix, times=times)
    costs = interleaved({"reading": reading, "product": product}, rounds=rounds)
    return times * 2 * cells / costs["reading"].wall, times * side**3 / costs["product"].wall


def weights(config: Pi0Config) -> tuple[Any, Flat]:
    """The model's static part, and ones of its shapes: what they are does not change how long it takes."""
    graph, shapes = split(nnx.eval_shape(lambda: Pi0(config, rngs=nnx.Rngs(0))))
    return graph, {path: jnp.full(leaf.shape, 0.01, jnp.bfloat16) for path, leaf in shapes.items()}


def weight_bytes(leaves: Flat) -> tuple[int, int]:
    """Bytes of weights that are read once in a sample, and once per step."""
    once = each = 0
    for path, leaf in leaves.items():
        if path.endswith("input_embedding"):
            continue  # a few rows are looked up
        # Modulations are computed for all steps at once.
        if group(path) in ("action_expert", "projections") and "/Dense_0/" not in path:
            each += leaf.nbytes
        else:
            once += leaf.nbytes
    return once, each


def main() -> None:
    """Print the median latency, the floor, and their ratio."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--cameras", type=int, default=3)
    parser.add_argument("--prompt", type=int, default=40)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--quarter", action="store_true")
    args = parser.parse_args()
    device = jax.devices()[0]
    config = attrs.evolve(quarter(), dtype="bfloat16") if args.quarter else PUBLISHED
    if device.platform == HOST and not args.quarter:
        raise SystemExit("no accelerator here: --quarter tries this out, full_size_sample.py measures the CPU")
    bandwidth, rate = floors(small=args.quarter, rounds=args.rounds)
    graph, leaves = weights(config)
    inputs = jax.device_put(observation(config, cameras=args.cameras, prompt=args.prompt))
    noise = jax.random.normal(jax.random.key(1), (1, config.horizon, config.action_dim))

    @jax.jit
    def sample(leaves: Flat, inputs: Any, noise: jax.Array) -> jax.Array:
        return merge(graph, leaves).sample(jax.random.key(0), inputs, steps=args.steps, noise=noise)

    latency = interleaved({"sample": lambda: sample(leaves, inputs, noise)}, rounds=args.rounds)["sample"].wall
    parts = work(config, cameras=args.cameras, prompt=inputs.tokens.shape[1], steps=args.steps)
    language = parts["language"] * (1 - 1 / config.language.depth)  # the last layer has keys and values only
    once, each = weight_bytes(leaves)
    prefix = max(once / bandwidth, (parts["vision"] + language) / rate)
    suffix = max(args.steps * each / bandwidth, parts["expert"] / rate)
    floor = prefix + suffix
    print(
        f"{device.device_kind}: reads {bandwidth / 1e9:.0f} GB/s, multiplies {2 * rate / 1e12:.2f} TFLOP/s in bfloat16"
    )
    print(
        f"sample, {args.cameras} cameras, {args.steps} steps: {latency * 1e3:.1f} ms, x {latency / floor:.2f} the floor"
    )
    print(f"floor {floor * 1e3:.1f} ms: images and prompt {prefix * 1e3:.1f}, denoising {suffix * 1e3:.1f}")


if __name__ == "__main__":
    main()
