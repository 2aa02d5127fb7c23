"""How many samples per second a training would take if it never waited for data. An estimate, to choose by."""

import math
import time
from collections.abc import Collection
from typing import Any

from fla_sdk.model import ModelSpec
from fla_sdk.records import ModelFamily

UTILISATION = 0.4
"""Share of a device's matrix rate that training reaches; large transformers are trained at 0.3 to 0.5."""

PATCH = 14
"""Pixels per side of what becomes one token; that of SigLIP, which the published models have."""


def samples_per_second(family: ModelFamily, config: Any, *, freeze: Collection[str] = ()) -> float:
    """On all devices of this process, for weights that are trained except those of the groups `freeze`.

    6 operations per trained weight and token, 2 per frozen one (Kaplan et al., arXiv:2001.08361, without attention),
    at `UTILISATION` of the measured matrix rate. All cameras are taken to be there and all prompts to be full.
    """
    import jax

    from fla_sdk.policy import parameters

    spec = family.spec(config)
    operations = 0
    for path, leaf in parameters.abstract(family, config)[1].items():
        group = family.group(path)
        operations += (2 if group in freeze else 6) * math.prod(leaf.shape) * tokens(spec, group)
    return UTILISATION * matrix_rate() * jax.local_device_count() / operations


def tokens(spec: ModelSpec, group: str) -> int:
    """Of one sample, those that pass through a parameter group."""
    height, width = spec.image_size
    images = len(spec.image_slots) * max(1, (height // PATCH) * (width // PATCH))
    return {"vision": images, "action_expert": spec.horizon, "projections": spec.horizon}.get(
        group, images + spec.max_tokens
    )


def matrix_rate(*, seconds: float = 0.3) -> float:
    """Operations per second of one device on large matrices: bfloat16 on accelerators, float32 on a CPU."""
    import jax
    import jax.numpy as jnp

    size, dtype = (1024, jnp.float32) if jax.default_backend() == "cpu" else (8192, jnp.bfloat16)
    matrix = jnp.full((size, size), 1 / size, dtype)
    multiply = jax.jit(jnp.matmul)
    multiply(matrix, matrix).block_until_ready()
    begun, done = time.monotonic(), 0
    while True:
        multiply(matrix, matrix).block_until_ready()
        done += 1
        if (took_s := time.monotonic() - begun) >= seconds:
            return done * 2 * size**3 / took_s
