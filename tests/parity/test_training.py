"""Optimizer, schedules and whole training steps against the reference."""

import json
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from fla_models.parameters import frozen_by_lora, group
from fla_models.pi0 import Pi0
from fla_sdk.policy import parameters
from fla_sdk.training.config import Optimizer
from fla_sdk.training.optimizer import make_optimizer
from fla_sdk.training.step import init_state, train_step


def _optimizer(schedule: dict[str, Any], adamw: dict[str, Any] | None = None) -> Optimizer:
    arguments = dict(adamw or {})
    clip = arguments.pop("clip_gradient_norm", 1.0)
    renamed = {"end_lr" if name == "decay_lr" else name: value for name, value in schedule.items()}
    return Optimizer(**renamed, **arguments, clip_norm=clip)


def test_schedules(golden: Any) -> None:
    cosine = [case for case in golden.json("schedules")["schedules"] if case["class"] == "CosineDecaySchedule"]
    assert cosine
    for case in cosine:
        if not case["args"]["warmup_steps"] < case["args"]["decay_steps"]:
            continue
        schedule: Any = make_optimizer(_optimizer(case["args"]))[1]
        steps = case["steps"]
        np.testing.assert_allclose([float(schedule(n)) for n in steps], case["lr_int_step"], rtol=1e-5)
        arrays = [float(schedule(jnp.asarray(n, jnp.int32))) for n in steps]
        np.testing.assert_allclose(arrays, case["lr_array_step"], rtol=1e-5)


def test_adamw_behind_a_clip(golden: Any) -> None:
    described, z = golden.json("optim"), golden.npz("optim")
    leaves = [name.removeprefix("init/") for name in z if name.startswith("init/")]
    runs = {name: run for name, run in described["runs"].items() if name.startswith("adamw") and not run["mask"]}
    assert runs
    for name, run in runs.items():
        optimizer, _ = make_optimizer(_optimizer(described["schedule"]["args"], run["args"]))
        params = {leaf: jnp.asarray(z[f"init/{leaf}"]) for leaf in leaves}
        state: Any = optimizer.init(params)
        for i in range(len(described["grad_norms"])):
            gradient = {leaf: jnp.asarray(z[f"grads/{i}/{leaf}"]) for leaf in leaves}
            updates, state = optimizer.update(gradient, state, params)
            params = jax.tree.map(jnp.add, params, updates)
            for leaf in leaves:
                want = z[f"{name}/params_after/{i}/{leaf}"]
                np.testing.assert_allclose(params[leaf], want, rtol=1e-5, atol=1e-7, err_msg=f"{name} {i}: {leaf}")
        adam, count = state[1][0], z[f"{name}/final_opt_state/[1][0].count"]
        assert adam.count == count
        for leaf in leaves:
            key = "".join(f"[{part!r}]" for part in leaf.split("/"))
            for moment in ("mu", "nu"):
                want = z[f"{name}/final_opt_state/[1][0].{moment}{key}"]
                np.testing.assert_allclose(getattr(adam, moment)[leaf], want, rtol=1e-5, atol=1e-7)


def test_three_steps(train_case: str, golden: Any) -> None:
    """Loss, gradient norm, parameters, averages and Adam's moments after three steps of `train_step`."""
    z = golden.npz(train_case)
    run = json.loads(str(z["config_json"]))
    model = run["model"]
    dims = golden.json("cases") | {name: model[name] for name in ("action_dim", "action_horizon", "max_token_len")}
    config = golden.config(
        dims,
        pi05=model["pi05"],
        language=model["paligemma_variant"],
        expert=model["action_expert_variant"],
        dtype=model["dtype"],
    )
    graph, shapes = parameters.split(nnx.eval_shape(lambda: Pi0(config, rngs=nnx.Rngs(0))))
    initial = {path: jnp.asarray(golden.fill(path, leaf.shape)) for path, leaf in shapes.items()}
    frozen_groups = frozen_by_lora(config)
    # The reference stores what is not trained in bfloat16.
    frozen = {path: leaf.astype(jnp.bfloat16) for path, leaf in initial.items() if group(path) in frozen_groups}
    params = {path: leaf for path, leaf in initial.items() if path not in frozen}

    optimizer, schedule = make_optimizer(_optimizer(run["lr_schedule"], run["optimizer"]))
    decay = run["ema_decay"]
    state = init_state(params, frozen, optimizer=optimizer, ema=decay is not None)
    bound = partial(train_step, graph=graph, optimizer=optimizer, schedule=schedule, ema_decay=decay)
    batch, rng = golden.batch(golden.npz(run["inputs"].removesuffix(".npz"))), jax.random.key(int(z["rng_seed"]))
    # Without LLVM's optimisations, which cost more than they save for three steps.
    options = {"xla_backend_optimization_level": 0}
    step = jax.jit(bound).lower(state, batch, rng).compile(compiler_options=options)
    seen: list[Any] = []
    for _ in z["info/loss"]:
        state, metrics = step(state, batch, rng)
        seen.append(metrics)

    for name in ("loss", "grad_norm"):
        np.testing.assert_allclose([float(m[name]) for m in seen], z[f"info/{name}"], rtol=1e-4, err_msg=name)
    rates = [z[f"step{i}/lr"] for i in range(len(seen))]
    np.testing.assert_allclose([float(m["learning_rate"]) for m in seen], rates, rtol=1e-5)

    dtypes = json.loads(str(z["param_dtypes_json"]))
    after = state.params | state.frozen
    assert {path: str(leaf.dtype) for path, leaf in after.items()} == dtypes
    same = partial(golden.same_leaves, z=z)
    ignored = sum(path.endswith("MultiHeadDotProductAttention_0/key/bias") for path in after)
    assert same(after, prefix="params_after", l2=2e-4, projection=1e-3) == len(after) - ignored
    start = params | frozen
    delta = {path: np.asarray(leaf, np.float32) - np.asarray(start[path], np.float32) for path, leaf in after.items()}
    # Steps of 1e-7 are lost in the rounding of the parameters they are added to.
    noise = 1e-8 * np.sqrt(max(leaf.size for leaf in after.values()))
    assert same(delta, prefix="delta_after", l2=2e-4, projection=2e-3, absolute=noise) == len(after) - ignored
    adam: Any = state.opt_state
    adam = adam[1][0]
    assert adam.count == z["opt/count"]
    assert set(adam.mu) == set(map(str, z["opt_mu/paths"]))
    assert same(adam.mu, prefix="opt_mu", l2=2e-4, projection=1e-3) == len(state.params) - ignored
    assert same(adam.nu, prefix="opt_nu", l2=5e-4, projection=1e-3) == len(state.params) - ignored
    assert (state.ema is None) == (decay is None)
    if state.ema is not None:
        assert same(state.ema, prefix="ema_after", l2=2e-4, projection=1e-3) == len(state.params) - ignored
