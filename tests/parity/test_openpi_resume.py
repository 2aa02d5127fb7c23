"""A training run of openpi continued by us: its train state restored, and the next step taken.

What we have for it is `train_step` and an optimizer whose state has openpi's structure.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx, traverse_util

from fla_models.parameters import frozen_by_lora, group
from fla_models.pi0 import Pi0
from fla_sdk.policy import checkpoint, parameters
from fla_sdk.training.optimizer import make_optimizer
from fla_sdk.training.step import TrainState, init_state, train_step


class Run(NamedTuple):
    """openpi's run, ready to be taken up by us."""

    state: TrainState
    """As restored."""

    start: TrainState
    """As it began."""

    step: Callable[[TrainState], tuple[TrainState, Any]]
    want: dict[str, Any]


@pytest.fixture(scope="module")
def run(golden: Any, tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder, config, about = golden.checkpoint(tmp_path_factory.mktemp("openpi"))
    want = golden.npz("checkpoint_expected")
    saved = checkpoint.restore(folder / "train_state", kind=np.ndarray)
    served = checkpoint.read_params(folder)
    graph, shapes = parameters.split(nnx.eval_shape(lambda: Pi0(config, rngs=nnx.Rngs(0))))
    frozen = {path for path in shapes if group(path) in frozen_by_lora(config)}
    optimizer, schedule = make_optimizer(golden.optimizer(about["lr_schedule"], about["optimizer"]))
    decay = about["config"]["ema"]

    def begin(leaves: dict[str, Any]) -> TrainState:
        arrays = {path: jnp.asarray(leaf) for path, leaf in leaves.items()}
        trained = {path: leaf for path, leaf in arrays.items() if path not in frozen}
        held = {path: leaf.astype(jnp.bfloat16) for path, leaf in arrays.items() if path in frozen}
        return init_state(trained, held, optimizer=optimizer, ema=decay is not None)

    start = begin({path: golden.fill(path, leaf.shape) for path, leaf in shapes.items()})
    # Without a moving average what is served is what is trained, and the train state does not repeat it.
    state = begin(_flat(saved["params"]) or served)
    state = state._replace(
        step=jnp.asarray(saved["step"]),
        opt_state=jax.tree_util.tree_map_with_path(partial(_leaf, saved["opt_state"]), state.opt_state),
        ema=None if decay is None else {path: jnp.asarray(served[path]) for path in state.params},
    )
    bound = partial(train_step, graph=graph, optimizer=optimizer, schedule=schedule, ema_decay=decay)
    step = jax.jit(bound, compiler_options={"xla_backend_optimization_level": 0})
    batch, rng = golden.batch(want, "in/"), jax.random.key(int(want["rng_seed"]))
    return Run(state, start, lambda state: step(state, batch, rng), want)


def _flat(tree: Any) -> dict[str, Any]:
    """openpi's tree, whose leaves are under a last key `value`, as `/`-joined path -> array."""
    flat = traverse_util.flatten_dict(tree or {}, sep="/")
    return {path.removesuffix("/value"): leaf for path, leaf in flat.items()}


def _leaf(saved: Any, path: tuple[Any, ...], ours: jax.Array) -> jax.Array:
    """What was saved in the place of a leaf of our optimizer's state."""
    for key in path:
        match key:
            case jax.tree_util.SequenceKey():
                saved = saved[key.idx]
            case jax.tree_util.GetAttrKey():
                saved = saved[key.name]
            case _:
                saved = _flat(saved)[key.key]
    leaf = jnp.asarray(saved)
    assert (leaf.shape, leaf.dtype) == (ours.shape, ours.dtype), path
    return leaf


def _same(run: Run, golden: Any, state: TrainState, *, l2: float, projection: float) -> None:
    adam: Any = state.opt_state
    adam = adam[1][0]
    steps = len(run.want["train_info/loss"])
    assert state.step == adam.count == steps
    ignored = sum(path.endswith("MultiHeadDotProductAttention_0/key/bias") for path in state.params)
    trained = len(state.params) - ignored
    assert golden.same_leaves(adam.mu, run.want, "opt_mu", l2=l2, projection=projection) == trained
    assert golden.same_leaves(adam.nu, run.want, "opt_nu", l2=2 * l2, projection=projection) == trained
    served = state.params if state.ema is None else state.ema
    assert golden.same_leaves(served, run.want, "params", l2=l2, projection=projection) == trained
    if state.ema is not None:
        assert golden.same_leaves(state.params, run.want, "train_params", l2=l2, projection=projection) == trained


def test_the_state_is_restored(run: Run, golden: Any) -> None:
    _same(run, golden, run.state, l2=1e-6, projection=1e-6)


def test_the_next_step(run: Run) -> None:
    _, metrics = run.step(run.state)
    for name in ("loss", "grad_norm", "param_norm"):
        np.testing.assert_allclose(metrics.scalars[name], run.want[f"resume_next_step/{name}"], rtol=1e-4, err_msg=name)


def test_the_run_from_its_beginning(run: Run, golden: Any) -> None:
    """The steps that led to the checkpoint, taken by us, lead to the same state."""
    state, seen = run.start, []
    for _ in run.want["train_info/loss"]:
        state, metrics = run.step(state)
        seen.append(metrics)
    for name in ("loss", "grad_norm", "param_norm"):
        np.testing.assert_allclose(
            [m.scalars[name] for m in seen], run.want[f"train_info/{name}"], rtol=1e-4, err_msg=name
        )
    _same(run, golden, state, l2=2e-4, projection=1e-3)
