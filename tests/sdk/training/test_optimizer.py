"""Optimizers and schedules beyond what the reference has; tests/parity compares the rest with it."""

from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fla_sdk.errors import ConfigError
from fla_sdk.training.config import Optimizer, TrainConfig, from_yaml, to_yaml
from fla_sdk.training.optimizer import make_optimizer


@given(
    schedule=st.sampled_from(["cosine", "rsqrt", "constant"]),
    warmup=st.integers(0, 20),
    peak=st.floats(1e-6, 1.0),
)
def test_every_schedule_rises_to_its_peak_and_not_above(schedule: str, warmup: int, peak: float) -> None:
    config = Optimizer(
        schedule=schedule,  # pyright: ignore[reportArgumentType]
        peak_lr=peak,
        end_lr=peak / 10,
        warmup_steps=warmup,
        decay_steps=50,
        timescale=10,
    )
    _, schedule_of_step = make_optimizer(config)
    rates = np.array([float(np.asarray(schedule_of_step(step))) for step in range(60)])
    np.testing.assert_allclose(rates[: warmup + 1], peak * np.arange(1, warmup + 2) / (warmup + 1), rtol=1e-4)
    after = rates[warmup:]
    assert (np.diff(after) <= 1e-6 * peak).all()
    if schedule == "constant":
        np.testing.assert_allclose(after, peak, rtol=1e-5)


def test_what_does_not_decay() -> None:
    params: Any = {"layer/kernel": jnp.ones((2, 2)), "layer/bias": jnp.ones(2)}
    still = {path: jnp.zeros_like(leaf) for path, leaf in params.items()}
    config = Optimizer(weight_decay=0.1, undecayed=(".*/bias",), warmup_steps=0, peak_lr=0.5)
    optimizer, _ = make_optimizer(config)
    updates: Any = optimizer.update(still, optimizer.init(params), params)[0]
    np.testing.assert_allclose(updates["layer/kernel"], -0.05, rtol=1e-6)
    np.testing.assert_array_equal(updates["layer/bias"], 0)


def test_without_a_clip_sgd_follows_the_gradient() -> None:
    config = Optimizer(kind="sgd", schedule="constant", momentum=0.0, warmup_steps=0, peak_lr=0.5, clip_norm=None)
    optimizer, _ = make_optimizer(config)
    params = {"w": jnp.zeros(2)}
    updates: Any = optimizer.update({"w": jnp.array([30.0, -40.0])}, optimizer.init(params), params)[0]
    np.testing.assert_allclose(updates["w"], [-15.0, 20.0])


def test_yaml() -> None:
    config = TrainConfig(
        model="pi05/tiny",
        optimizer=Optimizer(kind="sgd", schedule="rsqrt", undecayed=(".*/scale",), clip_norm=None),
    )
    assert from_yaml(to_yaml(config)) == config


@pytest.mark.parametrize(
    ("field", "message"),
    [
        ({"clip_norm": 0.0}, r"clip_norm is 0.0, must be above 0, or null"),
        ({"timescale": 0}, r"timescale \(0\)"),
        ({"warmup_steps": -1}, r"warmup_steps \(-1\)"),
        ({"undecayed": ("(",)}, r"undecayed: '\(' is no regular expression"),
    ],
)
def test_nonsense_is_refused(field: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Optimizer(**field)  # pyright: ignore[reportArgumentType]
