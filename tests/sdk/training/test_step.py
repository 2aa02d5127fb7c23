"""One step: in parts as at once, nothing from what is not finite, losses of each robot, and what penalties see."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from fla_sdk.data.mixture import Mixture
from fla_sdk.policy import parameters
from fla_sdk.training.config import Optimizer
from fla_sdk.training.optimizer import make_optimizer
from fla_sdk.training.preparation import prepare
from fla_sdk.training.step import Metrics, Penalty, Robots, TrainState, init_state, train_step

PARTS = 4


class Bench:
    """A small model on two arms, and a batch of 16."""

    def __init__(self, config: Any, registry: Any) -> None:
        prepared = prepare(config, registry)
        self.batch = next(Mixture(prepared.parts, batch_size=16, seed=0, threads=1))
        self.graph, self.params = parameters.initialise(lambda: prepared.family.build(prepared.model_config, 0))
        self.groups = {path: prepared.family.group(path) for path in self.params}
        self.robots = Robots(
            names=tuple(prepared.codecs),
            dims=tuple(codec.embodiment.action.names for codec in prepared.codecs.values()),
            of_part=(0, 1),
        )
        self.optimizer, self.schedule = make_optimizer(Optimizer(warmup_steps=0, peak_lr=1e-2, clip_norm=None))

    def step(self, batch: Any = None, *, carried: tuple[Any, ...] = (), **options: Any) -> tuple[TrainState, Metrics]:
        state = init_state(self.params, {}, optimizer=self.optimizer, ema=True, penalties=carried)
        settings = {"graph": self.graph, "optimizer": self.optimizer, "schedule": self.schedule, "ema_decay": 0.9}
        bound = functools.partial(train_step, robots=self.robots, groups=self.groups, **settings, **options)
        fast = {"xla_backend_optimization_level": 0}
        return jax.jit(bound, compiler_options=fast)(state, self.batch if batch is None else batch, jax.random.key(1))


@pytest.fixture(scope="module")
def bench(small_run: Callable[..., Any], registry: Any, tmp_path_factory: pytest.TempPathFactory) -> Bench:
    return Bench(small_run(tmp_path_factory.mktemp("step")), registry)


@pytest.fixture(scope="module")
def whole(bench: Bench) -> tuple[TrainState, Metrics]:
    return bench.step()


def test_a_batch_in_parts_gives_the_gradient_of_the_whole(bench: Bench, whole: tuple[TrainState, Metrics]) -> None:
    """With the same noise and times; the first moment after the first step is the gradient times a constant."""
    state, metrics = bench.step(accumulate=PARTS)
    expected: Any = optax.tree.get(whole[0].opt_state, "mu")
    found: Any = optax.tree.get(state.opt_state, "mu")
    size = max(float(jnp.abs(leaf).max()) for leaf in expected.values())
    for path, leaf in expected.items():
        np.testing.assert_allclose(found[path], leaf, rtol=0, atol=1e-6 * size, err_msg=path)
    for name, value in whole[1].scalars.items():
        np.testing.assert_allclose(metrics.scalars[name], value, rtol=1e-5, err_msg=name)
    for name, pair in whole[1].means.items():
        np.testing.assert_allclose(metrics.means[name], pair, rtol=1e-4, err_msg=name)


def test_losses_of_each_robot_and_dimension(bench: Bench, whole: tuple[TrainState, Metrics]) -> None:
    means = whole[1].means
    counts = {name: float(count) for name, (_, count) in means.items()}
    assert counts["loss/planar2"] + counts["loss/planar3"] == 16
    assert {name for name in means if name.startswith("loss/planar2/")} == {
        "loss/planar2/joint1",
        "loss/planar2/joint2",
    }
    for robot in bench.robots.names:
        dims = [float(total) for name, (total, _) in means.items() if name.startswith(f"loss/{robot}/")]
        assert 0 < np.mean(dims) < 10 * float(means[f"loss/{robot}"][0])
    groups = {name.split("/")[1] for name in whole[1].scalars if name.startswith("grad_norm/")}
    assert groups == set(bench.groups.values())
    squares = [float(whole[1].scalars[f"grad_norm/{group}"]) ** 2 for group in groups]
    np.testing.assert_allclose(sum(squares) ** 0.5, whole[1].scalars["grad_norm"], rtol=1e-5)


def test_a_step_that_is_not_finite_changes_nothing(bench: Bench) -> None:
    broken = bench.batch._replace(actions=np.full_like(bench.batch.actions, np.inf))
    state, metrics = bench.step(broken)
    assert not bool(metrics.taken)
    assert int(state.step) == 1  # the next batch has its own noise
    for path, leaf in bench.params.items():
        np.testing.assert_array_equal(state.params[path], leaf, err_msg=path)
        np.testing.assert_array_equal(state.ema[path], leaf, err_msg=path)  # pyright: ignore[reportOptionalSubscript]
    assert not any(np.asarray(leaf).any() for leaf in jax.tree.leaves(optax.tree.get(state.opt_state, "mu")))
    assert not np.isfinite(metrics.gradient_norms).all()


def test_penalties_add_to_the_gradient_and_carry_what_they_want(
    bench: Bench, whole: tuple[TrainState, Metrics]
) -> None:
    """`update` sees the gradient of the loss alone, and the parameters on both sides of the step."""
    path = "action_out_proj/bias"
    pull = Penalty(
        value=lambda params, carried, moment: 3.0 * jnp.sum(params[path] - carried["anchor"]),
        update=lambda carried, gradient, before, after: {
            "anchor": carried["anchor"],
            "gradient": gradient[path],
            "moved": after[path] - before[path],
        },
    )
    zero = jnp.zeros_like(bench.params[path])
    carried = ({"anchor": bench.params[path], "gradient": zero, "moved": zero},)
    state, metrics = bench.step(penalties=[pull], carried=carried)
    free: Any = optax.tree.get(whole[0].opt_state, "mu")
    pulled: Any = optax.tree.get(state.opt_state, "mu")
    np.testing.assert_allclose(pulled[path] - free[path], np.full(zero.shape, 0.3), rtol=1e-4)
    (kept,) = state.penalties
    np.testing.assert_allclose(kept["gradient"], free[path] / 0.1, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(kept["moved"], state.params[path] - bench.params[path], rtol=1e-6)
    assert float(metrics.scalars["penalty"]) == 0.0
    np.testing.assert_allclose(metrics.scalars["loss"], whole[1].scalars["loss"], rtol=1e-6)
