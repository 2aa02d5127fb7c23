"""`preview`: what a run begins with, for `fla train --dry-run`: its weights, and samples as the model gets them."""

import textwrap
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from fla_sdk.codec import collate
from fla_sdk.data.mixture import Part
from fla_sdk.model import Batch
from fla_sdk.policy import checkpoint
from fla_sdk.training.config import TrainConfig
from fla_sdk.training.preparation import Preparation

SAMPLES = 8
"""Of each source, from its first to its last."""


def preview(config: TrainConfig, prepared: Preparation) -> Iterator[str]:
    """Lines to print. Nothing is fetched, and no parameter is read."""
    yield from _weights(config, prepared)
    for part in prepared.parts:
        yield ""
        yield from _samples(part)


def _weights(config: TrainConfig, prepared: Preparation) -> Iterator[str]:
    places = ", ".join((config.init, *config.init_also))
    if checkpoint.steps(config.out / "checkpoints"):
        yield f"weights: {config.out} holds a run already, which --resume goes on with"
    elif config.init == "scratch":
        yield "weights: none; all parameters begin anew"
    elif prepared.report is None:
        yield f"weights: {places}; fetched and checked when training begins"
    else:
        yield from str(prepared.report).splitlines()


def _samples(part: Part) -> Iterator[str]:
    demonstrations, codec = part.demonstrations, part.codec
    robot = codec.embodiment
    places = np.unique(np.linspace(0, len(demonstrations) - 1, SAMPLES).astype(int)).tolist()
    samples = [demonstrations[place] for place in places]
    batch = collate([codec.encode_example(sample) for sample in samples])
    yield (
        f"{demonstrations.dataset.path}: {len(demonstrations):,} samples of {robot.name} in "
        f"{len(demonstrations.episodes):,} episodes. {len(samples)} of them as the model gets them:"
    )
    for name, array in _arrays(batch):
        yield f"  {name:18} {list(array.shape)} {array.dtype}, {array.min():.4g} to {array.max():.4g}"
    yield "the prompt of the first:"
    yield from textwrap.wrap(codec.prompt(samples[0]), 100, initial_indent="  ", subsequent_indent="  ")
    yield f"{'actions, step by step:':20} {'recorded':>23}  {'as the model sees them':>24}"
    real = np.asarray(batch.action_steps)
    recorded = np.stack([sample.actions for sample in samples if sample.actions is not None])[real]
    seen = np.asarray(batch.actions)[real]
    for i, (name, unit) in enumerate((name, field.unit) for field in robot.action for name in field.names):
        yield f"  {name:18} {_range(recorded[:, i]):>24}  {_range(seen[:, i]):>24}  {unit}"


def _arrays(batch: Batch) -> Iterator[tuple[str, NDArray[np.generic]]]:
    inputs = batch.inputs
    yield from sorted((slot, np.asarray(image)) for slot, image in inputs.images.items())
    yield from (("state", np.asarray(inputs.state)), ("tokens", np.asarray(inputs.tokens)))
    yield "actions", np.asarray(batch.actions)


def _range(values: NDArray[np.floating]) -> str:
    return f"{values.min():.4g} to {values.max():.4g}"
