"""`Validation`: the same held-out samples, noise and times again and again, so that what it finds can be compared."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fla_sdk.codec import collate
from fla_sdk.data.mixture import Part
from fla_sdk.errors import ActionTokenError, ConfigError
from fla_sdk.model import Batch
from fla_sdk.policy.parameters import Flat, merge
from fla_sdk.sample import Sample
from fla_sdk.training.config import TrainConfig
from fla_sdk.training.pictures import Chunk

DENOISING_STEPS = 10


class Validation:
    """Held-out loss, and how far the actions of an open loop are from those that were shown, in each joint's unit."""

    def __init__(self, parts: Sequence[Part], config: TrainConfig, graph: Any, *, out_sharding: Any = None) -> None:
        """`parts` are held out. Samples are taken evenly from all of them, and kept in memory.

        `out_sharding` has results whole in every process.
        """
        self.best = float("inf")
        """The lowest loss so far."""

        self.chunks: dict[str, list[Chunk]] = {}
        """Robot -> real steps of the chunks that were predicted last, and of those that were shown."""

        self._parts, self._config, self._graph = parts, config, graph
        self._chosen = _evenly(parts, config.validate_batches * config.batch_size)
        self._batches: list[tuple[list[tuple[int, Sample]], Batch]] | None = None
        self._loss = jax.jit(self._losses, out_shardings=out_sharding)
        self._act = jax.jit(self._actions, out_shardings=out_sharding)
        self._acts = True

    def measure(self, params: Flat) -> dict[str, float]:
        """`held_out/loss`, `held_out/loss/<robot>`, and `held_out/error/<robot>/<dimension>`: mean absolute errors."""
        losses: dict[str, list[float]] = {}
        self.chunks = {}
        rng = jax.random.key(self._config.seed)
        for number, (samples, batch) in enumerate(self._read()):
            batch_rng = jax.random.fold_in(rng, number)
            found = np.asarray(self._loss(params, batch, batch_rng))
            chunks = self._predict(params, batch, batch_rng)
            for row, (part, sample) in enumerate(samples):
                robot = self._parts[part].demonstrations.embodiment.name
                losses.setdefault(robot, []).append(float(found[row]))
                if chunks is not None and (chunk := self._chunk(part, sample, chunks[row])) is not None:
                    self.chunks.setdefault(robot, []).append(chunk)
        report = {"held_out/loss": float(np.mean([loss for one in losses.values() for loss in one]))}
        report |= {f"held_out/loss/{robot}": float(np.mean(one)) for robot, one in losses.items()}
        for robot, some in self.chunks.items():
            names = next(
                p.codec for p in self._parts if p.demonstrations.embodiment.name == robot
            ).embodiment.action.names
            means = np.concatenate([np.abs(chunk.predicted - chunk.shown) for chunk in some]).mean(axis=0)
            report |= {f"held_out/error/{robot}/{name}": float(e) for name, e in zip(names, means, strict=True)}
        return report

    def _read(self) -> list[tuple[list[tuple[int, Sample]], Batch]]:
        if self._batches is None:
            self._batches = []
            size = self._config.batch_size
            for start in range(0, len(self._chosen), size):
                chosen = self._chosen[start : start + size]
                samples = [(part, self._parts[part].demonstrations[place]) for part, place in chosen]
                examples = [self._parts[part].codec.encode_example(sample) for part, sample in samples]
                # The last batch is filled up, so that all are of one shape.
                examples += [examples[-1]] * (size - len(examples))
                self._batches.append((samples, collate(examples)))
        return self._batches

    def _losses(self, params: Mapping[str, Any], batch: Batch, rng: jax.Array) -> jax.Array:
        losses = merge(self._graph, params).loss(rng, batch, train=False).steps
        real = jnp.asarray(batch.action_steps, jnp.float32)
        return jnp.sum(losses * real, axis=1) / jnp.maximum(jnp.sum(real, axis=1), 1)

    def _actions(self, params: Mapping[str, Any], batch: Batch, rng: jax.Array) -> jax.Array:
        inputs = batch.inputs
        if inputs.token_ar is not None:  # the prompt alone: the actions are what is asked for
            inputs = inputs._replace(token_mask=inputs.token_mask & ~inputs.token_ar, token_ar=None)
        return merge(self._graph, params).sample(rng, inputs, steps=DENOISING_STEPS)

    def _predict(self, params: Flat, batch: Batch, rng: jax.Array) -> np.ndarray | None:
        """Chunks as the model gives them; None for a model that does not act."""
        if not self._acts:
            return None
        try:
            return np.asarray(self._act(params, batch, rng))
        except ConfigError:
            self._acts = False
            return None

    def _chunk(self, part: int, sample: Sample, output: np.ndarray) -> Chunk | None:
        """The real steps; None when tokens spell no chunk."""
        assert sample.actions is not None and sample.actions_is_pad is not None
        try:
            predicted = self._parts[part].codec.decode(output, sample.state)
        except ActionTokenError:
            return None
        real = ~sample.actions_is_pad
        return Chunk(predicted[real], sample.actions[real])


def _evenly(parts: Sequence[Part], count: int) -> list[tuple[int, int]]:
    """(part, place) of up to `count` samples, as many of each part as it has of the whole, evenly spaced."""
    total = sum(len(part.demonstrations) for part in parts)
    chosen: list[tuple[int, int]] = []
    for number, part in enumerate(parts):
        length = len(part.demonstrations)
        share = min(length, max(1, round(count * length / total)))
        places = np.unique(np.linspace(0, length - 1, share).round().astype(int))
        chosen += [(number, int(place)) for place in places]
    return chosen
