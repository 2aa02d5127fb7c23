"""A model's parameters as a flat mapping from `/`-joined path to array, and back.

Paths are those of openpi's checkpoints for the models that openpi has.
"""

from collections.abc import Callable, Collection, Mapping
from typing import TYPE_CHECKING, Any

from fla_sdk.errors import CheckpointError, nearest
from fla_sdk.model import ActionModel, Array

if TYPE_CHECKING:
    from fla_sdk.records import ModelFamily

Flat = dict[str, Array]


def split(model: ActionModel) -> tuple[Any, Flat]:
    """The static part of a Flax NNX module, and its parameters, sorted by path."""
    from flax import nnx, traverse_util

    graph, state = nnx.split(model)
    flat: Flat = traverse_util.flatten_dict(nnx.to_pure_dict(state), sep="/")
    return graph, dict(sorted(flat.items()))


def abstract(family: "ModelFamily", config: Any) -> tuple[Any, Flat]:
    """`split` of a model that is not made: shapes and types in place of arrays."""
    import jax

    return split(jax.eval_shape(lambda: family.build(config, 0)))


def shapes(family: "ModelFamily", config: Any) -> dict[str, tuple[int, ...]]:
    """Path -> shape of every parameter."""
    return {path: tuple(leaf.shape) for path, leaf in abstract(family, config)[1].items()}


def initialise(build: Callable[[], ActionModel], *, only: Collection[str] | None = None) -> tuple[Any, Flat]:
    """`split(build())` without the wait: building op by op compiles hundreds of little programs, this compiles one.

    With `only`, parameters at other paths are not made.
    """
    import jax

    graph, flat = split(jax.eval_shape(build))
    paths = flat.keys() if only is None else only
    # Run once, so time spent on optimizing it is lost.
    options = {"xla_backend_optimization_level": 0}

    def make() -> Flat:
        made = split(build())[1]
        return {path: made[path] for path in paths}

    return graph, jax.jit(make, compiler_options=options)()


def merge(graph: Any, flat: Mapping[str, Array]) -> Any:
    """The module that `split` took apart, around the arrays of `flat`."""
    from flax import nnx, traverse_util

    return nnx.merge(graph, traverse_util.unflatten_dict(dict(flat), sep="/"))


def check(flat: Mapping[str, Array], expected: Mapping[str, Array], *, where: str) -> None:
    """Raise `CheckpointError` unless both have the same paths and shapes; `where` names the source of `flat`."""
    problems = [f"missing {path} {tuple(expected[path].shape)}" for path in sorted(expected.keys() - flat.keys())]
    for path in sorted(flat.keys() - expected.keys()):
        close = nearest(path, expected)
        problems.append(f"unexpected {path}" + (f" (did you mean {close}?)" if close else ""))
    for path in sorted(expected.keys() & flat.keys()):
        theirs, ours = tuple(flat[path].shape), tuple(expected[path].shape)
        if theirs != ours:
            problems.append(f"{path}: {theirs} in the checkpoint, {ours} in the model")
    if problems:
        shown = "\n  ".join(problems[:20])
        more = f"\n  and {len(problems) - 20} more" if len(problems) > 20 else ""
        raise CheckpointError(
            f"{where} was made for another model: {len(problems)} of {len(expected)} parameters differ\n  {shown}{more}"
        )
