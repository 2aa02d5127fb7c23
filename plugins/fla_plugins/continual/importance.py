"""How much each parameter of a checkpoint matters to what it has learned: diagonal Fisher information, or MAS.

Both are means over samples of something of one sample's gradient. The gradient of a batch will not do: gradients of
different samples cancel in it, and its square is up to the size of the batch too small.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, get_args

import jax
import jax.numpy as jnp
import numpy as np

import fla_sdk as fla
from fla_plugins.continual import anchored
from fla_plugins.continual.trained import Trained
from fla_sdk.codec import collate
from fla_sdk.data.demonstrations import Demonstrations
from fla_sdk.data.quarantine import Quarantine
from fla_sdk.errors import ConfigError, UnknownNameError
from fla_sdk.model import Batch, FlowModel
from fla_sdk.policy.checkpoint import write_importance
from fla_sdk.policy.parameters import Flat, merge
from fla_sdk.terminal import progress
from fla_sdk.training.preparation import bind, open_dataset

Kind = Literal["ewc", "mas"]


def mean_of_gradients(
    objective: Callable[[Flat, Any], jax.Array],
    fold: Callable[[jax.Array], jax.Array],
    params: Mapping[str, Any],
    samples: Iterable[Any],
) -> dict[str, np.ndarray]:
    """Path -> mean over all samples of `fold` of the gradient of `objective(params, sample)`.

    One sample at a time: memory holds parameters, one gradient and one sum. Samples are pytrees of arrays; each shape
    among them compiles once.
    """

    def add(sums: Flat, params: Flat, sample: Any) -> Flat:
        gradient = jax.grad(objective)(params, sample)
        return {path: sums[path] + fold(leaf.astype(jnp.float32)) for path, leaf in gradient.items()}

    added = jax.jit(add, donate_argnums=0)
    held = {path: jnp.asarray(leaf) for path, leaf in params.items()}
    sums: Flat = {path: jnp.zeros(leaf.shape, jnp.float32) for path, leaf in held.items()}
    count = 0
    for sample in samples:
        sums = added(sums, held, sample)
        count += 1
    return {path: np.asarray(leaf) / count for path, leaf in sums.items()}


def fisher(
    loss: Callable[[Flat, Any], jax.Array], params: Mapping[str, Any], samples: Iterable[Any]
) -> dict[str, np.ndarray]:
    """Diagonal of the empirical Fisher information, `loss` being minus the log-likelihood of one sample."""
    return mean_of_gradients(loss, jnp.square, params, samples)


def sensitivity(
    output: Callable[[Flat, Any], jax.Array], params: Mapping[str, Any], samples: Iterable[Any]
) -> dict[str, np.ndarray]:
    """MAS: the mean of |gradient of the squared norm of the output| (arXiv:1711.09601, section 4.1)."""

    def squared(params: Flat, sample: Any) -> jax.Array:
        return jnp.sum(jnp.square(output(params, sample)))

    return mean_of_gradients(squared, jnp.abs, params, samples)


def measure(
    trained: Trained,
    sources: Sequence[fla.Source],
    registry: fla.Registry,
    *,
    kind: Kind = "ewc",
    samples: int = 1000,
    seed: int = 0,
    previous: Path | None = None,
    gamma: float = 1.0,
) -> dict[str, np.ndarray]:
    """Path -> importance of each trained parameter of a checkpoint, for what `sources` show.

    `samples` are spread evenly over all sources, each with noise and time of its own. With `previous`, `gamma` times
    the importances of that file are added (online EWC, Schwarz et al., arXiv:1805.06370). Raises `ConfigError` for
    numbers that make no sense, for a robot that the checkpoint does not know, and for a file of another model.
    """
    if kind not in get_args(Kind):
        raise UnknownNameError("kind of importance", kind, get_args(Kind))
    if samples < 1:
        raise ConfigError(f"samples is {samples}, must be at least 1")
    if not 0 <= gamma <= 1:
        raise ConfigError(f"gamma is {gamma}, must be from 0 to 1")
    earlier = None if previous is None else anchored.read(previous, trained.params)
    parts = [_open(trained, source, registry) for source in sources]

    frozen = {path: jnp.asarray(leaf) for path, leaf in trained.frozen.items()}

    def model(params: Flat, fixed: Flat) -> Any:
        return merge(trained.graph, {**params, **fixed})

    def loss(params: Flat, sample: Any) -> jax.Array:
        fixed, rng, batch = sample
        steps = jnp.asarray(batch.action_steps, jnp.float32)
        losses = model(params, fixed).loss(rng, batch, train=False)
        return jnp.sum(losses.steps * steps) / jnp.maximum(jnp.sum(steps), 1)

    def velocity(params: Flat, sample: Any) -> jax.Array:
        fixed, rng, batch = sample
        present = model(params, fixed)
        if not isinstance(present, FlowModel):
            raise ConfigError(f"mas is about velocities, which {type(present).__name__} does not predict; take ewc")
        real = batch.action_steps[:, :, None] & batch.action_dims[:, None, :]
        return present.velocities(rng, batch, train=False) * real

    key = jax.random.key(seed)
    with progress(f"importance ({kind})", samples) as advance:

        def one_by_one() -> Iterator[Any]:
            for number, batch in enumerate(_batches(parts, samples)):
                yield frozen, jax.random.fold_in(key, number), batch
                advance()

        find, objective = (fisher, loss) if kind == "ewc" else (sensitivity, velocity)
        found = find(objective, trained.params, one_by_one())
    if earlier is not None:
        found = {path: gamma * np.asarray(earlier[path], np.float32) + leaf for path, leaf in found.items()}
    return found


def write(file: Path, importance: Mapping[str, np.ndarray]) -> None:
    """As safetensors; a file is there when it is complete."""
    partial = file.with_name(f".{file.name}.partial")
    write_importance(partial, importance)
    partial.replace(file)


def _open(trained: Trained, source: fla.Source, registry: fla.Registry) -> tuple[Demonstrations, fla.Codec]:
    if source.embodiment not in trained.codecs:
        raise UnknownNameError(f"embodiment of checkpoint {trained.folder}", source.embodiment, trained.codecs)
    codec = trained.codecs[source.embodiment]
    dataset = open_dataset(source.data, registry)
    horizon = codec.spec.horizon
    chosen, _ = bind(source, dataset, codec.embodiment, horizon=horizon, quarantine=Quarantine())
    return chosen, codec


def _batches(parts: Sequence[tuple[Demonstrations, fla.Codec]], count: int) -> Iterator[Batch]:
    """`count` batches of one, evenly from all samples; some come again when there are fewer."""
    ends = np.cumsum([len(demonstrations) for demonstrations, _ in parts])
    for place in np.linspace(0, ends[-1] - 1, count).round().astype(int):
        number = int(np.searchsorted(ends, place, side="right"))
        demonstrations, codec = parts[number]
        first = int(ends[number]) - len(demonstrations)
        yield collate([codec.encode_example(demonstrations[int(place) - first])])
