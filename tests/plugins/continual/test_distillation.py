"""Velocity distillation: what it is, that it holds a model, and that a step in parts says the same."""

import operator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fla_sdk as fla
from fla_plugins.continual.distillation import DISTILLATION
from fla_plugins.continual.trained import Trained, open_trained
from fla_sdk.codec import collate
from fla_sdk.data.demonstrations import Demonstrations
from fla_sdk.errors import ConfigError
from fla_sdk.model import Batch, Rows
from fla_sdk.policy.parameters import merge
from fla_sdk.training.preparation import open_dataset
from fla_sdk.training.step import Moment


@pytest.fixture(scope="module")
def opened(trained: Path, registry: fla.Registry) -> Trained:
    return open_trained(trained, registry)


@pytest.fixture(scope="module")
def batch(opened: Trained, arms: dict[str, Path], registry: fla.Registry) -> Batch:
    codec = opened.codecs["planar2"]
    shown = Demonstrations(open_dataset(str(arms["planar2"]), registry), codec.embodiment, horizon=codec.spec.horizon)
    return collate([codec.encode_example(shown[place]) for place in (0, 5, 9, 13)])


def _start(opened: Trained) -> dict[str, Any]:
    return {path: jnp.asarray(leaf) for path, leaf in opened.params.items()}


def _moved(params: dict[str, Any]) -> dict[str, Any]:
    return {**params, "action_out_proj/bias": params["action_out_proj/bias"] + 0.5}


def _value(opened: Trained, params: Any, carried: Any, batch: Batch, rows: Rows | None = None) -> float:
    @jax.jit
    def value(params: Any, carried: Any, batch: Batch) -> jax.Array:
        moment = Moment(merge(opened.graph, params), batch, jax.random.key(3), rows)
        return DISTILLATION.penalty(params, carried, moment)

    return float(value(params, carried, batch))


def test_a_shift_of_every_velocity_costs_its_square(opened: Trained, batch: Batch) -> None:
    params = _start(opened)
    carried = DISTILLATION.prepare(fla.Beginning(params=params, options={}, checkpoint=None))
    assert _value(opened, params, carried, batch) == 0
    assert _value(opened, _moved(params), carried, batch) == pytest.approx(0.25, rel=1e-4)
    # Parts of a batch draw what the whole does; here all rows have as many real steps.
    full = batch._replace(action_steps=np.ones_like(batch.action_steps))
    whole = _value(opened, _moved(params), carried, full)
    parts = []
    for index in (np.array([0, 1]), np.array([2, 3])):
        part = jax.tree.map(operator.itemgetter(index), full)
        parts.append(_value(opened, _moved(params), carried, part, Rows(jnp.asarray(index), 4)))
    assert np.mean(parts) == pytest.approx(whole, rel=1e-4)


def test_velocities_are_those_that_the_loss_is_taken_at(opened: Trained, batch: Batch) -> None:
    """With the same key: loss = |velocity - (noise - actions)|^2, so moving the head moves both alike."""
    model = merge(opened.graph, _start(opened))
    rng = jax.random.key(5)
    velocities = model.velocities(rng, batch)
    drawn, draws = model._draw(rng, batch, train=True, rows=None)
    target = draws["noise"] - jnp.asarray(drawn.actions)
    own = jnp.asarray(batch.action_dims)[:, None, :]
    by_hand = jnp.sum(jnp.square(velocities - target) * own, axis=-1) / jnp.sum(own, axis=-1)
    np.testing.assert_allclose(model.loss(rng, batch).steps, by_hand, rtol=1e-4)


def test_a_model_without_velocities_is_refused(batch: Batch) -> None:
    moment = Moment(object(), batch, jax.random.key(0), None)
    with pytest.raises(ConfigError, match="compares velocities, which object does not predict"):
        DISTILLATION.penalty({}, {}, moment)
