"""Optimizers, schedules and whole training steps against the reference."""

import json
import re
from collections.abc import Mapping
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from fla_models.parameters import frozen_by_lora, group
from fla_models.pi0 import Pi0
from fla_models.pi0_fast import Pi0Fast
from fla_sdk.model import Batch, Losses, ModelInput, Rows
from fla_sdk.policy import parameters
from fla_sdk.training.config import Optimizer
from fla_sdk.training.optimizer import make_optimizer
from fla_sdk.training.step import init_state, train_step

QUICK = {"xla_backend_optimization_level": 0}
"""Without LLVM's optimisations, which cost more than they save for three steps."""


def test_schedules(golden: Any) -> None:
    for case in golden.json("schedules")["schedules"]:
        arguments, steps = case["args"], case["steps"]
        if "decay_steps" in arguments and not arguments["warmup_steps"] < arguments["decay_steps"]:
            continue  # refused
        _, rate = make_optimizer(golden.optimizer(arguments, {}))
        np.testing.assert_allclose([np.asarray(rate(n)) for n in steps], case["lr_int_step"], rtol=1e-5)
        arrays = [np.asarray(rate(jnp.asarray(n, jnp.int32))) for n in steps]
        np.testing.assert_allclose(arrays, case["lr_array_step"], rtol=1e-5)


def test_optimizers(golden: Any) -> None:
    """Parameters after each update, and the state at the end; some updates are clipped, some leaves do not decay."""
    described, z = golden.json("optim"), golden.npz("optim")
    initial = {name.removeprefix("init/"): jnp.asarray(z[name]) for name in z if name.startswith("init/")}
    close = partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-7)
    for name, run in described["runs"].items():
        undecayed = tuple(re.escape(path) for path, decays in _flat(run["mask"] or {}).items() if not decays)
        config = golden.optimizer(described["schedule"]["args"], run["args"], undecayed=undecayed)
        optimizer, _ = make_optimizer(config)
        params: Any = initial
        state = optimizer.init(initial)
        for i in range(len(described["grad_norms"])):
            gradient = {leaf: jnp.asarray(z[f"grads/{i}/{leaf}"]) for leaf in initial}
            updates, state = optimizer.update(gradient, state, params)
            params = jax.tree.map(jnp.add, params, updates)
            for leaf, value in params.items():
                close(value, z[f"{name}/params_after/{i}/{leaf}"], err_msg=f"{name} {i}: {leaf}")
        leaves = _named(state)
        recorded = {_flat_path(path): (path, shape, dtype) for path, shape, dtype in run["opt_state_paths"]}
        assert leaves.keys() == recorded.keys(), name
        for path, leaf in leaves.items():
            nested, *kind = recorded[path]
            assert [list(leaf.shape), str(leaf.dtype)] == kind, f"{name} {path}"
            close(leaf, z[f"{name}/final_opt_state/{nested}"], err_msg=f"{name} {path}")


def _flat(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in tree.items():
        flat |= _flat(value, f"{prefix}{name}/") if isinstance(value, dict) else {f"{prefix}{name}": value}
    return flat


def _named(state: Any) -> dict[str, Any]:
    """Leaves of an optimizer's state: `[1][0].mu['a/b']` and so on."""
    return {jax.tree_util.keystr(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(state)}


def _flat_path(nested: str) -> str:
    """The reference's name of a leaf, `[1][0].mu['a']['b'].value`, as ours: `[1][0].mu['a/b']`."""
    return nested.removesuffix(".value").replace("']['", "/")


class _Still(nnx.Module):
    """A model that has a parameter and nothing to learn."""

    def __init__(self, x: jax.Array) -> None:
        self.x = nnx.Param(x)

    def loss(self, rng: jax.Array, batch: Batch, *, train: bool = True, rows: Rows | None = None) -> Losses:
        del rng, train, rows
        return Losses(jnp.zeros(batch.action_steps.shape))

    def sample(self, rng: jax.Array, inputs: ModelInput, **_: Any) -> jax.Array:
        raise NotImplementedError


def test_moving_average(golden: Any) -> None:
    z = golden.npz("optim")
    optimizer, schedule = make_optimizer(Optimizer(weight_decay=0.0))
    batch = Batch(None, None, None, np.ones((1, 1), bool))  # pyright: ignore[reportArgumentType]
    for dtype, recorded, within in (("float32", "ema/out_f32", 1e-6), ("bfloat16", "ema/out_bf16", 1e-2)):
        old, new = (jnp.asarray(z[f"ema/{name}"], dtype) for name in ("old", "new"))
        graph, params = parameters.split(_Still(new))
        state = init_state(params, {}, optimizer=optimizer, ema=True)._replace(ema={"x": old})
        settings: Any = {"graph": graph, "optimizer": optimizer, "schedule": schedule}
        state, _ = train_step(state, batch, jax.random.key(0), ema_decay=float(z["ema/decay"]), **settings)
        assert state.ema is not None and state.ema["x"].dtype == dtype
        golden.close(state.ema["x"], z[recorded], within=within, what=recorded)


def test_state_of_full_size_models(golden: Any) -> None:
    """What LoRA freezes has no moments; the reference stores it in bfloat16."""
    trees, frozen = golden.json("param_trees")["trees"], golden.json("frozen_paths")
    states = golden.json("train_state_dtypes")
    assert states
    for name, recorded in states.items():
        assert sorted(recorded["params_bfloat16"]) == sorted(frozen[name]), name
        leaves = {path: jax.ShapeDtypeStruct(shape, dtype) for path, (shape, dtype) in trees[name].items()}
        trained = {path: leaf for path, leaf in leaves.items() if path not in frozen[name]}
        assert len(trained) == recorded["params_float32_count"], name
        optimizer, _ = make_optimizer(Optimizer())
        assert len(jax.tree.leaves(jax.eval_shape(optimizer.init, trained))) == recorded["opt_state_leaves"], name


def test_three_steps(train_case: str, golden: Any) -> None:
    """Metrics, parameters, averages and the optimizer's state after three steps of `train_step`."""
    z = golden.npz(train_case)
    run = json.loads(str(z["config_json"]))
    config, build = _model(run["model"], golden)
    graph, shapes = parameters.split(nnx.eval_shape(build))
    dtypes = json.loads(str(z["param_dtypes_json"]))
    initial = {path: jnp.asarray(golden.fill(path, leaf.shape), dtypes[path]) for path, leaf in shapes.items()}
    # The reference stores what is not trained in bfloat16.
    frozen = {path: leaf for path, leaf in initial.items() if dtypes[path] == "bfloat16"}
    assert set(frozen) in ({path for path in initial if group(path) in frozen_by_lora(config)}, set())
    params = {path: leaf for path, leaf in initial.items() if path not in frozen}

    optimizer, schedule = make_optimizer(golden.optimizer(run["lr_schedule"], run["optimizer"]))
    decay = run["ema_decay"]
    state = init_state(params, frozen, optimizer=optimizer, ema=decay is not None)
    bound = partial(train_step, graph=graph, optimizer=optimizer, schedule=schedule, ema_decay=decay)
    step = jax.jit(bound, compiler_options=QUICK)
    batch, rng = golden.batch(golden.npz(run["inputs"].removesuffix(".npz"))), jax.random.key(int(z["rng_seed"]))
    seen: list[Any] = []
    for _ in z["info/loss"]:
        state, metrics = step(state, batch, rng)
        seen.append(metrics)

    for name in ("loss", "grad_norm", "param_norm"):
        np.testing.assert_allclose([float(m.scalars[name]) for m in seen], z[f"info/{name}"], rtol=1e-4, err_msg=name)
    rates = [z[f"step{i}/lr"] for i in range(len(seen))]
    np.testing.assert_allclose([float(m.scalars["learning_rate"]) for m in seen], rates, rtol=1e-5)

    after = state.params | state.frozen
    assert {path: str(leaf.dtype) for path, leaf in after.items()} == dtypes
    same = partial(golden.same_leaves, z=z)
    ignored = sum(path.endswith("MultiHeadDotProductAttention_0/key/bias") for path in after)
    assert same(after, prefix="params_after", l2=2e-4, projection=1e-3) == len(after) - ignored
    delta = {path: np.asarray(leaf, np.float32) - np.asarray(initial[path], np.float32) for path, leaf in after.items()}
    # Steps of 1e-7 are lost in the rounding of the parameters they are added to.
    noise = 1e-8 * np.sqrt(max(leaf.size for leaf in after.values()))
    assert same(delta, prefix="delta_after", l2=2e-4, projection=2e-3, absolute=noise) == len(after) - ignored
    assert (state.ema is None) == (decay is None)
    if state.ema is not None:  # the reference averages frozen parameters too, with themselves
        assert same(state.ema, prefix="ema_after", l2=2e-4, projection=1e-3) == len(state.params) - ignored

    leaves = {f"{path} {leaf.shape} {leaf.dtype}" for path, leaf in _named(state.opt_state).items()}
    assert leaves == {" ".join([_flat_path(p), *rest]) for p, *rest in (str(s).split(" ") for s in z["opt/all_paths"])}
    if "opt_mu/paths" in z:
        adam: Any = state.opt_state
        adam = adam[1][0]
        assert adam.count == z["opt/count"]
        assert same(adam.mu, prefix="opt_mu", l2=2e-4, projection=1e-3) == len(state.params) - ignored
        assert same(adam.nu, prefix="opt_nu", l2=5e-4, projection=1e-3) == len(state.params) - ignored


def _model(model: Mapping[str, Any], golden: Any) -> tuple[Any, Any]:
    """The config of a recorded run's model, and what builds it."""
    cases = golden.json("cases")
    dims = cases | {name: model[name] for name in ("action_dim", "action_horizon")}
    language, dtype, length = model["paligemma_variant"], model["dtype"], {"max_token_len": model["max_token_len"]}
    if "action_expert_variant" not in model:
        dims |= {"fast": cases["fast"] | length}
        config = golden.fast_config_of(dims, language=language, dtype=dtype)
        return config, lambda: Pi0Fast(config, rngs=nnx.Rngs(0))
    expert = model["action_expert_variant"]
    config = golden.config(dims | length, pi05=model["pi05"], language=language, expert=expert, dtype=dtype)
    return config, lambda: Pi0(config, rngs=nnx.Rngs(0))
