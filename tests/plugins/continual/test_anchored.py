"""The quadratic penalty of EWC, SI and MAS, and the file that it reads."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import fla_sdk as fla
from fla_plugins.continual import anchored
from fla_plugins.continual.ewc import EWC, MAS
from fla_plugins.continual.si import SI
from fla_sdk.errors import ConfigError
from fla_sdk.policy.checkpoint import write_importance

VECTORS = hnp.arrays(np.float32, 3, elements=st.floats(-4, 4, width=32))


def _beginning(params: Mapping[str, Any], **options: Any) -> fla.Beginning:
    return fla.Beginning(params=params, options=options, checkpoint=None)


def _file(folder: Path, **tensors: Any) -> str:
    write_importance(folder / "importance.safetensors", {k: np.asarray(v, np.float32) for k, v in tensors.items()})
    return str(folder / "importance.safetensors")


@settings(max_examples=30)
@given(anchor=VECTORS, importance=hnp.arrays(np.float32, 3, elements=st.floats(0, 9, width=32)), now=VECTORS)
def test_the_gradient_is_importance_times_distance(anchor: Any, importance: Any, now: Any) -> None:
    carried = {"anchor": {"a": jnp.asarray(anchor)}, "importance": {"a": jnp.asarray(importance)}}
    value, gradient = jax.value_and_grad(anchored.penalty)({"a": jnp.asarray(now)}, carried, None)
    np.testing.assert_allclose(gradient["a"], importance * (now - anchor), rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(value, 0.5 * np.sum(importance * (now - anchor) ** 2), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("strength", [0.0, 0.5, 100.0])
def test_the_minimiser_of_a_quadratic_loss(tmp_path: Path, strength: float) -> None:
    """The new loss is 0.5 (x - b)' A (x - b): the minimum is at (A + s F)^-1 (A b + s F x*)."""
    a, b = np.array([[2.0, 0.5], [0.5, 1.0]], np.float32), np.array([1.0, -2.0], np.float32)
    old, f = np.array([3.0, 0.5], np.float32), np.array([0.3, 4.0], np.float32)
    carried = EWC.prepare(_beginning({"x": jnp.asarray(old)}, importance=_file(tmp_path, x=f)))

    def total(params: Any) -> jax.Array:
        away = params["x"] - b
        return 0.5 * away @ a @ away + strength * EWC.penalty(params, carried, None)

    rate = 1 / float(np.linalg.eigvalsh(a + strength * np.diag(f)).max())

    @jax.jit
    def descend(params: Any) -> Any:
        down = lambda _, p: jax.tree.map(lambda x, g: x - rate * g, p, jax.grad(total)(p))  # noqa: E731
        return jax.lax.fori_loop(0, 20_000, down, params)

    params = descend({"x": jnp.asarray(old)})
    expected = np.linalg.solve(a + strength * np.diag(f), a @ b + strength * f * old)
    np.testing.assert_allclose(params["x"], expected, atol=1e-5)


def test_the_anchor_outlives_the_parameters_it_was_taken_from(tmp_path: Path) -> None:
    start = {"x": jnp.arange(2.0)}
    carried = MAS.prepare(_beginning(start, importance=_file(tmp_path, x=[1, 1])))
    start["x"].delete()
    np.testing.assert_array_equal(carried["anchor"]["x"], [0, 1])


def test_importances_of_frozen_parameters_are_left_out(tmp_path: Path) -> None:
    file = _file(tmp_path, x=[1, 2], frozen=[3])
    carried = EWC.prepare(_beginning({"x": jnp.zeros(2)}, importance=file))
    assert carried["importance"].keys() == carried["anchor"].keys() == {"x"}


def test_a_file_of_another_model(tmp_path: Path) -> None:
    file = _file(tmp_path, head=[1, 2], bias=[1])
    with pytest.raises(ConfigError) as caught:
        EWC.prepare(_beginning({"heat": jnp.zeros(2), "bias": jnp.zeros(3)}, importance=file))
    assert file in str(caught.value)
    assert "heat (2,) is missing (it has head)" in str(caught.value)
    assert "bias is (1,) in the file, (3,) in the model" in str(caught.value)


def test_nothing_to_protect(tmp_path: Path) -> None:
    params = {"x": jnp.zeros(2)}
    with pytest.raises(
        ConfigError, match="'ewc' protects what a checkpoint has learned, but this run starts from none"
    ):
        EWC.prepare(_beginning(params))
    empty = fla.Beginning(params=params, options={}, checkpoint=tmp_path)
    with pytest.raises(
        ConfigError, match=f"there is no {tmp_path}/importance/mas.safetensors; make it with `fla fisher"
    ):
        MAS.prepare(empty)
    with pytest.raises(ConfigError, match="its option importance: none begins without any"):
        SI.prepare(empty)


def test_an_unknown_option() -> None:
    with pytest.raises(ConfigError, match=r"regularizer 'ewc'.*'importence'; did you mean 'importance'"):
        EWC.prepare(_beginning({"x": jnp.zeros(2)}, importence="a"))


def test_a_run_that_resumes_reads_nothing() -> None:
    beginning = fla.Beginning(params={"x": jnp.ones(2)}, options={"importance": "/gone"}, checkpoint=None, resumes=True)
    for one in (EWC, MAS, SI):
        carried = one.prepare(beginning)
        assert carried["importance"]["x"].shape == (2,)
