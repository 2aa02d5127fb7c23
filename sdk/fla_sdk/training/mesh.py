"""All devices as one mesh, and which arrays are split over it. openpi-compatible.

Axis `fsdp` holds what does not fit on one device: parameters, gradients, moments and moving averages are split along
one of their axes (fully sharded data parallelism, Zhao et al., arXiv:2304.11277). Every device has samples of its own,
so a batch is split over both axes.
"""

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from fla_sdk.errors import ConfigError

MIN_BYTES = 4 << 20
"""Smaller arrays stay whole: sending pieces around would cost more than it saves."""


def make_mesh(*, fsdp_devices: int, batch_size: int, devices: Sequence[Any] | None = None) -> Mesh:
    """`[devices / fsdp_devices, fsdp_devices]`, axes `batch` and `fsdp`. `devices` are all of this run by default.

    Raises `ConfigError` when devices or batch cannot be divided.
    """
    devices = jax.devices() if devices is None else devices
    check_division(fsdp_devices=fsdp_devices, batch_size=batch_size, devices=len(devices))
    return Mesh(np.asarray(devices).reshape(-1, fsdp_devices), ("batch", "fsdp"))


def check_division(*, fsdp_devices: int, batch_size: int, devices: int) -> None:
    """Raise `ConfigError` when devices or batch cannot be divided."""
    if devices % fsdp_devices:
        raise ConfigError(
            f"fsdp_devices is {fsdp_devices}, which does not divide the {devices} devices of this run; "
            f"take one of {', '.join(str(n) for n in range(1, devices + 1) if devices % n == 0)}"
        )
    if batch_size % devices:
        raise ConfigError(
            f"batch_size is {batch_size}, which cannot be divided evenly over {devices} devices; "
            f"take {max(batch_size // devices, 1) * devices}"
        )


def split_axis(shape: Sequence[int], dtype: Any, *, devices: int, min_bytes: int = MIN_BYTES) -> int | None:
    """The axis along which an array is split over `devices`; None when each of them has all of it.

    The longest that can be divided; of equally long ones the last. Vectors and small arrays stay whole.
    """
    size = int(np.prod(shape, dtype=np.int64)) * jax.numpy.dtype(dtype).itemsize
    if devices == 1 or len(shape) < 2 or size < min_bytes:
        return None
    dividing = [axis for axis, length in enumerate(shape) if length % devices == 0]
    return max(dividing, key=lambda axis: (shape[axis], axis), default=None)


def state_shardings(mesh: Mesh, state: Any) -> Any:
    """A sharding for each array of a tree of parameters, moments or averages."""
    devices = mesh.shape["fsdp"]

    def place(leaf: Any) -> NamedSharding:
        axis = split_axis(leaf.shape, leaf.dtype, devices=devices)
        split = () if axis is None else (*[None] * axis, "fsdp")
        return NamedSharding(mesh, PartitionSpec(*split))

    return jax.tree.map(place, state)


def batch_sharding(mesh: Mesh) -> NamedSharding:
    """Rows of a batch over all devices."""
    return NamedSharding(mesh, PartitionSpec(("batch", "fsdp")))


def whole(mesh: Mesh) -> NamedSharding:
    """The same on every device."""
    return NamedSharding(mesh, PartitionSpec())
