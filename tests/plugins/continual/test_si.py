"""Synaptic intelligence on paths that are known."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fla_sdk as fla
from fla_plugins.continual.si import SI
from fla_sdk.errors import ConfigError


def _beginning(start: Any, **options: Any) -> fla.Beginning:
    return fla.Beginning(params={"x": jnp.asarray(start)}, options=options, checkpoint=None)


def _walk(carried: Any, *steps: tuple[Any, Any, Any]) -> Any:
    """`steps` are gradient, before, after."""
    assert SI.update is not None
    for step in steps:
        carried = SI.update(carried, *({"x": jnp.asarray(one, jnp.float32)} for one in step))
    return carried


def _importance(carried: Any, params: Any) -> np.ndarray:
    assert SI.importance is not None
    return np.asarray(SI.importance(carried, {"x": jnp.asarray(params, jnp.float32)})["x"])


def test_a_path_by_hand() -> None:
    carried = SI.prepare(_beginning([1.0, 0.0], xi=0.5))
    carried = _walk(carried, ([2, 1], [1, 0], [0, -2]), ([1, -1], [0, -2], [-1, -1]))
    np.testing.assert_allclose(carried["path"]["x"], [2 * 1 + 1 * 1, 1 * 2 + 1 * 1])
    np.testing.assert_allclose(_importance(carried, [-1, -1]), [3 / (4 + 0.5), 3 / (1 + 0.5)])


def test_the_path_adds_up_to_the_fall_of_the_loss() -> None:
    """Small steps down 0.5 * a x^2: the integral of the gradient is what the loss lost."""
    a = jnp.array([4.0, 1.0])
    carried = SI.prepare(_beginning([1.0, 1.0], xi=1e-9))
    assert SI.update is not None

    def step(state: Any, _: None) -> Any:
        x, carried = state
        after = x - 1e-3 * a * x
        return (after, SI.update({**carried}, {"x": a * x}, {"x": x}, {"x": after})), None  # pyright: ignore

    (x, carried), _ = jax.lax.scan(step, (jnp.ones(2), carried), None, length=5000)
    np.testing.assert_allclose(carried["path"]["x"], 0.5 * a * (1 - x**2), rtol=5e-3)
    np.testing.assert_allclose(_importance(carried, x), 0.5 * a * (1 + x) / (1 - x), rtol=5e-3)


def test_where_the_loss_rose_nothing_is_important() -> None:
    carried = _walk(SI.prepare(_beginning([0.0])), ([1], [0], [1]))
    assert _importance(carried, [1.0]) == 0


@pytest.mark.parametrize(("gamma", "left"), [(0.0, 0.0), (0.5, 3.0), (1.0, 6.0)])
def test_what_is_left_of_earlier_importances(gamma: float, left: float) -> None:
    carried = SI.prepare(_beginning([0.0], gamma=gamma))
    carried["importance"]["x"] = jnp.array([6.0])
    assert _importance(carried, [0.0]) == left


def test_bad_options() -> None:
    with pytest.raises(ConfigError, match=r"xi is 0\.0, must be above 0"):
        SI.prepare(_beginning([0.0], xi=0.0))
    with pytest.raises(ConfigError, match=r"gamma is 2\.0, must be from 0 to 1"):
        SI.prepare(_beginning([0.0], gamma=2.0))
