"""Pi0 and Pi0.5 against the reference: every intermediate, samples and gradients, in all small cases."""

import json
import re
import zlib
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from fla_models import flow, parameters
from fla_models.configs import Pi0Config
from fla_models.pi0 import Pi0
from fla_models.sequence import block_mask, positions
from fla_sdk.model import Batch

SLOTS = ("base_0_rgb", "left_wrist_0_rgb", "right_wrist_0_rgb")
STEPS = (10, 5, 1)


class Case(NamedTuple):
    """A small model of the reference and what ours computes in its place."""

    name: str
    config: Pi0Config
    inputs: dict[str, Any]
    want: dict[str, Any]
    got: dict[str, Any]
    gradients: dict[str, np.ndarray]
    mean_loss: float

    @property
    def bfloat16(self) -> bool:
        return self.config.dtype == "bfloat16"

    @property
    def within(self) -> float:
        return 5e-2 if self.bfloat16 else 5e-5


def _intermediates(model: Pi0, batch: Batch, z: dict[str, Any], rng: jax.Array) -> dict[str, jax.Array]:
    """Everything the golden files hold, under their names."""
    inputs, noise, time = batch.inputs, z["noise"], jnp.asarray(z["time"])
    vlm, state = model.PaliGemma, jnp.asarray(batch.inputs.state)
    pixels = jnp.stack([vlm.pixels(inputs, slot) for slot in SLOTS], axis=1)
    images = vlm.embed_images(pixels)
    noisy, target = flow.interpolate(batch.actions, noise=noise, time=time)
    prefix = vlm.embed(inputs)
    prefix_out, _ = vlm.read(inputs)
    seen = vlm.prefill(inputs)
    moment = model.moment(time[:, None])
    suffix = model.embed_actions(state, noisy=noisy, moment=moment)
    suffix_out = model.expert_pass(state, seen, noisy=noisy, moment=moment)
    real = jnp.ones(suffix.shape[:2], bool)
    valid = jnp.concatenate([prefix.valid, real], axis=1)
    suffix_starts = jnp.broadcast_to(model.suffix_starts, real.shape)
    mask = block_mask(valid, jnp.concatenate([prefix.starts, suffix_starts], axis=1))
    length, prompt = prefix.valid.shape[1], inputs.tokens.shape[1]
    time_b = jnp.asarray(z["time_b"])
    noisy_b, _ = flow.interpolate(batch.actions, noise=z["noise_b"], time=time_b)
    found = {f"image_tokens/{slot}": images[:, i] for i, slot in enumerate(SLOTS)}
    found |= {f"sample_{n}": model.sample(rng, inputs, steps=n, noise=z["sample_noise"]) for n in STEPS}
    found |= {
        "prefix_tokens": prefix.tokens,
        "prefix_lang_tokens_first6": prefix.tokens[:, length - prompt :][:, :6],
        "prefix_mask": prefix.valid,
        "prefix_ar_mask": prefix.starts[0],
        "suffix_tokens": suffix,
        "suffix_mask": real,
        "suffix_ar_mask": model.suffix_starts,
        "positions": positions(valid),
        "attn_mask": mask,
        "attn_mask_suffix_rows": mask[:, length:],
        "x_t": noisy,
        "u_t": target,
        "prefix_out": prefix_out,
        "suffix_out": suffix_out,
        "v_t": model.decode_velocity(suffix_out),
        "loss": model.loss(rng, batch).steps,
        "v_t_b": model.velocity(state, seen, noisy=noisy_b, moment=model.moment(time_b[:, None])),
        "loss_b": model.loss_at(batch, noise=z["noise_b"], time=time_b).steps,
        "prefix_kv_k_layer0": seen.keys[0],
        "prefix_kv_v_last": seen.values[-1],
        "kv_shape": jnp.asarray(seen.keys.shape),
        "sample_10_from_key": model.sample(rng, inputs, steps=10),
    }
    return found | {"adarms_cond": model.condition(time)} if model.config.pi05 else found


def _run(function: Callable[..., Any], *arguments: Any) -> Any:
    """Compile without LLVM's optimisations, which cost more than they save for one run, and call."""
    options = {"xla_backend_optimization_level": 0}
    return jax.jit(function).lower(*arguments).compile(compiler_options=options)(*arguments)


@pytest.fixture(scope="session")
def flow_case(request: pytest.FixtureRequest, golden: Any) -> Case:
    name = request.param
    cases = golden.json("cases")
    pi05, language, expert, dtype, stored = cases["flow_cases"][name]
    config = golden.config(cases, pi05=pi05, language=language, expert=expert, dtype=dtype)
    z = golden.npz("inputs_flow")
    want = golden.npz(f"model_{name}")
    batch, rng = golden.batch(z), jax.random.key(int(z["loss_key_seed"]))
    abstract = nnx.eval_shape(lambda: Pi0(config, rngs=nnx.Rngs(0)))
    filled = {path: golden.fill(path, leaf.shape) for path, leaf in parameters.flatten(abstract).items()}
    if stored:
        filled = {path: jnp.asarray(value, stored) for path, value in filled.items()}
    parameters.assign(abstract, {path: jnp.asarray(value) for path, value in filled.items()})
    graph, state = nnx.split(abstract)

    got = _run(lambda state, batch: _intermediates(nnx.merge(graph, state), batch, z, rng), state, batch)
    mean_loss, gradients = float("nan"), {}
    if "grad/paths" in want:

        def mean_of_loss(state: Any, batch: Batch) -> jax.Array:
            return nnx.merge(graph, state).loss(rng, batch).steps.mean()

        mean, grads = _run(jax.value_and_grad(mean_of_loss), state, batch)
        mean_loss = float(mean)
        gradients = {path: np.asarray(leaf) for path, leaf in parameters.flatten(nnx.merge(graph, grads)).items()}
    return Case(name, config, z, want, got, gradients, mean_loss)


MASKS = {
    "prefix_mask",
    "prefix_ar_mask",
    "suffix_mask",
    "suffix_ar_mask",
    "positions",
    "attn_mask",
    "attn_mask_suffix_rows",
    "kv_shape",
}


def _check(case: Case, golden: Any, prefixes: tuple[str, ...]) -> None:
    names = [n for n in case.want if n.startswith(prefixes) and not n.startswith("grad/")]
    assert names
    dtypes = json.loads(str(case.want["dtypes_json"]))
    for name in names:
        got, want = case.got[name], case.want[name]
        # Tokens that nobody attends to hold finite garbage of no meaning.
        real = case.want["prefix_mask"]
        where = real.reshape(*real.shape, *[1] * (got.ndim - 2)) if name in _PREFIX_QUERIES else True
        if name in MASKS:
            np.testing.assert_array_equal(got, want, err_msg=name)
        else:
            assert got.dtype == dtypes[name], f"{name}: {got.dtype}, the reference has {dtypes[name]}"
            golden.close(got, want, within=case.within, where=where, what=name)


_PREFIX_QUERIES = {"prefix_out", "prefix_kv_k_layer0", "prefix_kv_v_last"}


def test_masks_and_positions(flow_case: Case) -> None:
    for name in MASKS & case_names(flow_case):
        np.testing.assert_array_equal(flow_case.got[name], flow_case.want[name], err_msg=name)


def case_names(case: Case) -> set[str]:
    return set(case.want) - {"dtypes_json"}


def test_embeddings(flow_case: Case, golden: Any) -> None:
    _check(flow_case, golden, ("image_tokens", "prefix_tokens", "prefix_lang", "suffix_tokens", "adarms_cond"))


def test_joint_pass(flow_case: Case, golden: Any) -> None:
    _check(flow_case, golden, ("prefix_out", "suffix_out", "x_t", "u_t", "v_t"))


def test_prefix_cache(flow_case: Case, golden: Any) -> None:
    _check(flow_case, golden, ("kv_shape", "prefix_kv"))


def test_loss(flow_case: Case, golden: Any) -> None:
    for name in ("loss", "loss_b"):
        within = 3e-2 if flow_case.bfloat16 else flow_case.within
        golden.close(flow_case.got[name], flow_case.want[name], within=within, what=name)


def test_samples(flow_case: Case, golden: Any) -> None:
    _check(flow_case, golden, ("sample_",))


def test_every_golden_entry_is_compared(flow_case: Case) -> None:
    compared = ("image_tokens", "prefix_", "suffix_", "adarms_cond", "x_t", "u_t", "v_t", "kv_shape", "loss", "sample_")
    entries = {n for n in case_names(flow_case) if not n.startswith(("grad/", *compared))}
    assert entries <= MASKS
    assert entries | {n for n in case_names(flow_case) if not n.startswith("grad/")} <= set(flow_case.got)


def _global_norm(leaves: Any) -> float:
    return float(np.sqrt(sum(np.sum(np.square(leaf, dtype=np.float64)) for leaf in leaves)))


@pytest.mark.gradients("float32", "bfloat16")
def test_gradient_norms_and_frozen_paths(flow_case: Case) -> None:
    want, gradients = flow_case.want, flow_case.gradients
    assert sorted(gradients) == sorted(map(str, want["grad/paths"]))
    kind = str(want["grad/freeze_filter"])
    if pattern := re.fullmatch(r"PathRegex\('(.*)'\)", kind):
        frozen = {path for path in gradients if re.fullmatch(pattern[1], path)}
    else:
        assert kind == "config.get_freeze_filter()"
        groups = parameters.frozen_by_lora(flow_case.config)
        frozen = {path for path in gradients if parameters.group(path) in groups}
    assert frozen == set(map(str, want["grad/frozen_paths"]))
    tolerance = 3e-2 if flow_case.bfloat16 else 1e-4
    assert flow_case.mean_loss == pytest.approx(float(want["grad/mean_loss"]), rel=tolerance)
    assert _global_norm(gradients.values()) == pytest.approx(float(want["grad/global_norm_all"]), rel=tolerance)
    trainable = _global_norm(g for path, g in gradients.items() if path not in frozen)
    assert trainable == pytest.approx(float(want["grad/global_norm_trainable"]), rel=tolerance)


_SLICES: dict[str, Any] = {
    "action_out_proj/kernel": np.s_[:, :],
    "state_proj/kernel": np.s_[:, :5],
    "time_mlp_in/kernel": np.s_[:5],
    "img/pos_embedding": np.s_[:, :, :4],
    "img/embedding/kernel": np.s_[::13, ::11, :, :3],
    "q_einsum_1/w": np.s_[-1, 0, :7, :],
    "kv_einsum/w": np.s_[0, :, 0, :7, :],
    "q_einsum_1/lora_a": np.s_[:, 0, :7],
    "gating_einsum_lora_b": np.s_[0, :, :, :9],
}


@pytest.mark.gradients("float32")
def test_gradients(flow_case: Case, golden: Any) -> None:
    want, gradients = flow_case.want, flow_case.gradients
    rows = zip(want["grad/paths"], want["grad/l2"], want["grad/proj"], want["grad/head"], strict=True)
    for path, l2, projection, head in rows:
        # The true gradient of a key bias is 0: what is stored is rounding noise.
        if path.endswith("MultiHeadDotProductAttention_0/key/bias"):
            continue
        leaf = gradients[path]
        assert np.linalg.norm(leaf.astype(np.float64)) == pytest.approx(l2, rel=1e-4), path
        direction = np.random.default_rng(zlib.crc32(f"proj:{path}".encode())).standard_normal(leaf.shape, np.float32)
        ours = float(np.sum(leaf.astype(np.float64) * direction))
        assert abs(ours - projection) <= 2e-4 * l2, path
        first = leaf.ravel()[: len(head)]
        assert np.abs(first - head[: first.size]).max() <= 1e-4 * l2, path
    slices = [name.removeprefix("grad/slice/") for name in want if name.startswith("grad/slice/")]
    assert slices
    for path in slices:
        index = next((s for end, s in _SLICES.items() if path.endswith(end)), None)
        if index is None:
            index = np.s_[:4] if path.endswith("input_embedding") else np.s_[:]
        golden.close(gradients[path][index], want[f"grad/slice/{path}"], within=1e-4, what=path)
