"""Layers of one kind held as a single module whose parameters have a leading layer axis, and scanned over."""

from collections.abc import Callable
from typing import Any, TypeVar

import attrs
import jax
from flax import nnx

from fla_models.configs import Remat

M = TypeVar("M", bound=nnx.Module)

_KEPT = {
    "cheap": jax.checkpoint_policies.dots_with_no_batch_dims_saveable,
    "all": jax.checkpoint_policies.nothing_saveable,
}


def stack(build: Callable[[nnx.Rngs], M], *, depth: int, rngs: nnx.Rngs) -> M:
    """`depth` independently initialised modules as one, every parameter with a leading axis of `depth`."""
    keys = jax.random.split(rngs.params(), depth)
    return nnx.vmap(lambda key: build(nnx.Rngs(key)))(keys)


@attrs.frozen(kw_only=True)
class Schedule:
    """How a stack of layers is compiled."""

    remat: Remat = "nothing"
    """As `BackboneConfig.remat`."""

    unroll: bool = False
    """Compile every layer by itself, instead of one layer whatever the depth."""


def scan(
    layers: M,
    carry: Any,
    *,
    step: Callable[[M, Any, Any], tuple[Any, Any]],
    schedule: Schedule,
    extras: Any = None,
) -> tuple[Any, Any]:
    """Run `step(layer, carry, extra) -> carry, output` through the stacked `layers`.

    `extras` is a pytree with a leading layer axis, or None; the outputs come back stacked the same way.
    """
    graph, parameters = nnx.split(layers)

    def body(carry: Any, scanned: tuple[Any, Any]) -> tuple[Any, Any]:
        parameters, extra = scanned
        return step(nnx.merge(graph, parameters), carry, extra)

    if schedule.remat != "nothing":
        # Inside a scan XLA cannot merge the recomputation with the original, so the costly CSE barriers are not needed.
        body = jax.checkpoint(body, prevent_cse=False, policy=_KEPT[schedule.remat])
    return jax.lax.scan(body, carry, (parameters, extras), unroll=schedule.unroll)
