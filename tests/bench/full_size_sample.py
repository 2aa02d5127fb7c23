"""The published Pi0.5 in bfloat16 answering once on this machine's CPU: time and peak memory.

    .venv/bin/python tests/bench/full_size_sample.py

Weights are random, of the published shapes, and made leaf by leaf without a float32 copy of any. It refuses to begin
with less than 10 GiB of free memory.
"""

import resource
import time
import zlib

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
from flax import nnx
from proportions import PUBLISHED, observation

from fla_models.pi0 import Pi0
from fla_sdk.policy.parameters import Flat, merge, split

NEEDED_GIB = 10
CHUNK = 2**22


def peak_gib() -> float:
    """The most memory that this process has held so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def available_gib() -> float:
    """What the kernel thinks a new process can have."""
    with open("/proc/meminfo") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("MemAvailable")) / 2**20


def random_leaf(path: str, shape: tuple[int, ...]) -> jax.Array:
    """bfloat16 normal numbers that keep activations of one size, a few millions at a time."""
    numbers = np.random.default_rng(zlib.crc32(path.encode()))
    name = path.rsplit("/", 1)[-1]
    spread = np.float32(0.1 if name in ("bias", "scale", "pos_embedding") else shape[-2] ** -0.5)
    shift = np.float32(name == "scale" and "/img/" in path)
    leaf = np.empty(int(np.prod(shape)), ml_dtypes.bfloat16)
    for start in range(0, leaf.size, CHUNK):
        part = leaf[start : start + CHUNK]
        part[:] = spread * numbers.standard_normal(part.size, np.float32) + shift
    return jnp.asarray(leaf.reshape(shape))


def main() -> None:
    """Make the model, answer three times, print what it took."""
    if (free := available_gib()) < NEEDED_GIB:
        raise SystemExit(f"{free:.1f} GiB of memory are free, this needs {NEEDED_GIB}: end something else first")
    graph, shapes = split(nnx.eval_shape(lambda: Pi0(PUBLISHED, rngs=nnx.Rngs(0))))
    begun = time.perf_counter()
    leaves: Flat = {path: random_leaf(path, leaf.shape) for path, leaf in shapes.items()}
    count = sum(leaf.size for leaf in leaves.values())
    print(f"{count / 1e9:.3f} billion parameters, {2 * count / 2**30:.2f} GiB, {time.perf_counter() - begun:.0f} s")
    print(f"peak so far {peak_gib():.2f} GiB", flush=True)

    @jax.jit
    def sample(leaves: Flat, inputs: object, noise: jax.Array) -> jax.Array:
        return merge(graph, leaves).sample(jax.random.key(0), inputs, steps=10, noise=noise)

    inputs = observation(PUBLISHED, cameras=3, prompt=40)
    noise = jax.random.normal(jax.random.key(1), (1, PUBLISHED.horizon, PUBLISHED.action_dim))
    for turn in ("first answer, compilation included", "second", "third"):
        begun = time.perf_counter()
        actions = np.asarray(sample(leaves, inputs, noise))
        assert actions.shape == noise.shape and np.isfinite(actions).all()
        print(f"{turn}: {time.perf_counter() - begun:.1f} s, peak {peak_gib():.2f} GiB", flush=True)


if __name__ == "__main__":
    main()
