"""Made-up states and actions that a robot could have."""

import numpy as np
from numpy.typing import NDArray

from fla_sdk.space import Field, Space


def random_vectors(space: Space, rows: int, *, seed: int) -> NDArray[np.float32]:
    """`[rows, width]`, uniform within each field's limits, -1 to 1 where it has none; rotations are real rotations."""
    rng = np.random.default_rng(seed)
    return np.concatenate([_field(field, rows, rng) for field in space], axis=1).astype(np.float32)


def _field(field: Field, rows: int, rng: np.random.Generator) -> NDArray[np.floating]:
    if field.rotation == "quaternion_xyzw":
        quaternion = rng.standard_normal((rows, 4))
        return quaternion / np.linalg.norm(quaternion, axis=1, keepdims=True)
    if field.rotation == "rotation_6d":  # the first two columns of an orthogonal matrix
        q, _ = np.linalg.qr(rng.standard_normal((rows, 3, 3)))
        return q[:, :, :2].transpose(0, 2, 1).reshape(rows, 6)
    low, high = field.limits or (-1.0, 1.0)
    return rng.uniform(low, high, (rows, field.width))
