"""Operations and memory of small programs that can be counted by hand."""

from typing import Any

import jax
import jax.numpy as jnp
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fla_sdk.training.cost import cost

SIZES = st.integers(1, 64)


def _array(*shape: int, dtype: Any = jnp.float32) -> Any:
    return jax.ShapeDtypeStruct(shape, dtype)


@given(SIZES, SIZES, SIZES, st.sampled_from([jnp.float32, jnp.bfloat16]))
def test_a_product(m: int, k: int, n: int, dtype: Any) -> None:
    found = cost(jnp.matmul, _array(m, k, dtype=dtype), _array(k, n, dtype=dtype))
    width = jnp.dtype(dtype).itemsize
    assert found.operations == {width: 2 * m * k * n}
    assert found.memory == width * m * n


def test_a_convolution() -> None:
    image, kernel = _array(2, 32, 32, 3), _array(4, 4, 3, 8)

    def convolve(x: Any, k: Any) -> Any:
        return jax.lax.conv_general_dilated(x, k, (4, 4), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC"))

    assert cost(convolve, image, kernel).operations == {4: 2 * (2 * 8 * 8 * 8) * (4 * 4 * 3)}


def test_arithmetic_is_written_only_for_a_product() -> None:
    x = _array(64, 64)
    size = 4 * 64 * 64
    assert cost(lambda x: jnp.tanh(x * 2) + 1, x).memory == 0
    assert cost(lambda x: jnp.tanh(x * 2) @ x, x).memory == 2 * size


def test_what_nobody_reads_again_makes_room() -> None:
    x = _array(64, 64)
    size = 4 * 64 * 64
    assert cost(lambda x: x @ x @ x @ x @ x, x).memory == 2 * size
    assert cost(lambda x: (x @ x) * 2 + (x @ x @ x @ x), x).memory == 3 * size


def _layers(x: Any, weights: Any, *, remat: bool) -> Any:
    def layer(x: Any, w: Any) -> tuple[Any, None]:
        return jnp.tanh(jnp.tanh(jnp.tanh(x @ w) @ w) @ w), None

    return jnp.sum(jax.lax.scan(jax.checkpoint(layer) if remat else layer, x, weights)[0])


def test_layers_keep_what_their_backward_pass_reads() -> None:
    x, size, gradient = _array(256, 8), 4 * 256 * 8, 4 * 8 * 8

    def both(depth: int) -> list[Any]:
        weights = _array(depth, 8, 8)
        return [cost(jax.grad(lambda w, x, r=r: _layers(x, w, remat=r)), weights, x) for r in (False, True)]

    (kept, again), (kept_deep, again_deep) = both(2), both(10)
    # Forward, and two products for each of these in the backward pass; recomputed, one more forward.
    assert kept.operations[4] == 3 * 3 * 2 * 2 * 256 * 8 * 8
    assert kept_deep.operations[4] == 5 * kept.operations[4]
    assert again.operations[4] == pytest.approx(kept.operations[4] * 4 / 3, rel=0.1)
    # For each layer: three activations and three derivatives, or its input alone.
    assert kept_deep.memory - kept.memory == 8 * (6 * size + gradient)
    assert again_deep.memory - again.memory == 8 * (size + gradient)


def test_a_sum_in_a_loop_takes_the_place_of_the_one_before() -> None:
    parts, weight = _array(8, 4, 64), _array(64, 64)
    size = 4 * 64 * 64

    def gradients(weight: Any, parts: Any) -> Any:
        def add(total: Any, part: Any) -> tuple[Any, None]:
            return total + jax.grad(lambda w: jnp.sum(jnp.square(part @ w)))(weight), None

        return jax.lax.scan(add, jnp.zeros_like(weight), parts)[0]

    found = cost(gradients, weight, parts)
    assert found.operations == {4: 8 * 2 * 2 * 4 * 64 * 64}
    assert 2 * size <= found.memory <= 2.3 * size  # the sum, and one part's gradient


def test_branches_count_as_the_largest() -> None:
    def either(p: Any, x: Any) -> Any:
        return jax.lax.cond(p, lambda x: x @ x @ x, lambda x: x @ x, x)

    assert cost(either, _array(dtype=bool), _array(16, 16)).operations == {4: 2 * 2 * 16**3}


def test_arrays_of_a_split_shape_count_in_part_but_products_read_them_whole() -> None:
    weight, x = _array(64, 32), _array(8, 64)

    def gradient(weight: Any, x: Any) -> Any:
        return jax.grad(lambda w: jnp.sum(jnp.square(x @ w)))(weight)

    whole = cost(gradient, weight, x)
    split = cost(gradient, weight, x, held=lambda shape: 4 if shape == (64, 32) else 1)
    assert split.operations == whole.operations
    size, out = 4 * 64 * 32, 4 * 8 * 32
    assert whole.memory == pytest.approx(size + 2 * out, abs=out)
    assert split.memory == pytest.approx(size + out, abs=out)  # gathered for the product; the gradient is a quarter
