"""The layers of the models against the reference, one by one, where a whole model would hide a deviation."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from fla_models import attention, flow, lora, norms, parameters, pi0_fast, scratch, sequence, siglip
from fla_models.configs import LoraConfig, SiglipConfig


@pytest.fixture(scope="module")
def units(golden: Any) -> Any:
    return golden.npz("units")


def _cases(units: Any, kind: str) -> list[str]:
    """Names of the cases `kind/<name>/...`."""
    return sorted({key.split("/")[1] for key in units if key.startswith(f"{kind}/")}) or units.lacks(kind)


def _case(units: Any, kind: str, name: str) -> dict[str, Any]:
    start = f"{kind}/{name}/"
    return {key.removeprefix(start): value for key, value in units.items() if key.startswith(start)}


def test_time_embedding(units: Any, golden: Any) -> None:
    for name in _cases(units, "posemb_sincos"):
        case = _case(units, "posemb_sincos", name)
        low, high = map(float, case["periods"])
        out = flow.time_embedding(case["pos"], width=int(name), min_period=low, max_period=high)
        stride = -(-int(name) // case["out"].shape[1])  # wide ones are stored with every n-th column
        golden.close(out[:, ::stride], case["out"], within=2e-6, what=name)


def test_block_mask(units: Any) -> None:
    for name in _cases(units, "attn_mask"):
        case = _case(units, "attn_mask", name)
        starts = jnp.broadcast_to(case["ar_mask"], case["input_mask"].shape)
        out = sequence.block_mask(jnp.asarray(case["input_mask"]), starts)
        np.testing.assert_array_equal(out, case["out"], err_msg=name)


def test_rotary_embedding(units: Any, golden: Any) -> None:
    for name in _cases(units, "rope"):
        case = _case(units, "rope", name)
        rotation = attention.rotations(jnp.asarray(case["positions"]), head_dim=case["x"].shape[-1])
        exact = attention.rotate(jnp.asarray(case["x"]), rotation)
        for index, position in np.ndenumerate(case["positions"]):
            # One unit in the last place of a float32 angle grows with the angle, to 1.2e-4 at position 2047.
            within = 2e-6 + 1e-7 * float(position)
            golden.close(exact[index], case["out_f32"][index], within=within, what=f"{name} at {position}")
        wide = attention.rotate(jnp.asarray(case["x"], jnp.bfloat16), rotation)
        assert wide.dtype == jnp.float32  # as Pi0-FAST of the reference keeps it
        golden.close(wide, case["out_bf16_gemma_fast_is_f32"], within=2e-4, what=name)
        golden.close(wide.astype(jnp.bfloat16), case["out_bf16_gemma"], within=1e-2, what=name)


@pytest.mark.parametrize(("dtype", "suffix", "within"), [("float32", "f32", 2e-6), ("bfloat16", "bf16", 1e-2)])
def test_rms_norm(units: Any, golden: Any, dtype: str, suffix: str, within: float) -> None:
    for name in _cases(units, "rmsnorm"):
        if name.startswith("dtypes"):
            continue
        case = _case(units, "rmsnorm", name)
        x = jnp.asarray(case["x"], dtype)
        width, condition = x.shape[-1], case["cond"].shape[-1]
        plain = norms.RMSNorm(width, condition=None, rngs=nnx.Rngs(0))
        parameters.assign(plain, {"scale": jnp.asarray(case["scale"])})
        out, gate = plain(x)
        assert gate is None and out.dtype == x.dtype
        golden.close(out, case[f"out_plain_{suffix}"], within=within, what=name)
        parameters.assign(plain, {"scale": jnp.asarray(case["scale"], jnp.bfloat16)})
        golden.close(plain(x)[0], case[f"out_plain_bf16scale_{suffix}"], within=within, what=name)
        adaptive = norms.RMSNorm(width, condition=condition, rngs=nnx.Rngs(0))
        parameters.assign(
            adaptive, {"Dense_0/kernel": jnp.asarray(case["kernel"]), "Dense_0/bias": jnp.asarray(case["bias"])}
        )
        modulation = adaptive.modulation(jnp.asarray(case["cond"])[:, None], dtype=x.dtype)
        out, gate = adaptive(x, modulation)
        assert gate is not None
        assert [str(out.dtype), str(gate.dtype)] == list(units[f"rmsnorm/dtypes_{suffix}"])
        golden.close(out, case[f"out_ada_{suffix}"], within=within, what=name)
        golden.close(gate, case[f"gate_{suffix}"], within=within, what=name)


def test_gated_residual(units: Any, golden: Any) -> None:
    x, y, gate, out = (jnp.asarray(units[f"gated_residual/{key}"]) for key in ("x", "y", "gate", "out"))
    golden.close(norms.residual(x, y, gate), out, within=2e-6)
    golden.close(norms.residual(x, y, None), x + y, within=0)


EQUATIONS = {"q": "BTD,NDH->BTNH", "kv": "BSD,2KDH->2BSKH", "qkv": "BSD,3KDH->3BSKH", "out": "BTNH,NHD->BTD"}


def _adapter(name: str) -> LoraConfig | None:
    """`none`, or `r<rank>a<alpha>[rs]`."""
    if name == "none":
        return None
    rank, alpha = name.removeprefix("r").removesuffix("rs").split("a")
    return LoraConfig(rank=int(rank), alpha=float(alpha), rslora=name.endswith("rs"))


def test_einsum_with_adapters(units: Any, golden: Any) -> None:
    for name in _cases(units, "lora_einsum"):
        case = _case(units, "lora_einsum", name)
        kind, adapter = name.split("_", 1)
        einsum = lora.Einsum(case["w"].shape, init=nnx.initializers.zeros, lora=_adapter(adapter), rngs=nnx.Rngs(0))
        parameters.assign(einsum, {k: v for k, v in case.items() if k in ("w", "lora_a", "lora_b")})
        golden.close(einsum(EQUATIONS[kind], jnp.asarray(case["x"])), case["out"], within=2e-6, what=name)


def test_feed_forward_with_adapters(units: Any, golden: Any) -> None:
    for name in _cases(units, "lora_ffn"):
        case = _case(units, "lora_ffn", name)
        mlp_dim, width = case["linear"].shape
        mlp = lora.FeedForward(width=width, mlp_dim=mlp_dim, lora=_adapter(name), rngs=nnx.Rngs(0))
        parameters.assign(mlp, {k: v for k, v in case.items() if "linear" in k or "gating" in k})
        golden.close(mlp(jnp.asarray(case["x"])), case["out_f32"], within=2e-6, what=name)
        golden.close(mlp(jnp.asarray(case["x"], jnp.bfloat16)), case["out_bf16"], within=1e-2, what=name)


@pytest.mark.parametrize(("dtype", "within"), [("float32", 5e-5), ("bfloat16", 5e-2)])
def test_vision_block(units: Any, golden: Any, dtype: str, within: float) -> None:
    values = _case(units, "siglip_block", "params")
    width, heads, _ = values["MultiHeadDotProductAttention_0/query/kernel"].shape
    mlp_dim = values["MlpBlock_0/Dense_0/kernel"].shape[1]
    config = SiglipConfig(width=width, depth=1, mlp_dim=mlp_dim, heads=heads, patch=1)
    block = siglip.EncoderBlock(config, dtype=jnp.dtype(dtype), rngs=nnx.Rngs(0))
    parameters.assign(block, values)
    for name in set(_cases(units, "siglip_block")) - {"params"}:
        case = _case(units, "siglip_block", name)
        x = jnp.asarray(case["x"], dtype)
        golden.close(block.LayerNorm_0(x), case[f"layernorm0_{dtype}"], within=within, what=name)
        golden.close(block(x), case[f"out_{dtype}"], within=within, what=name)


def test_sines_and_cosines_of_image_positions(units: Any, golden: Any) -> None:
    for name in _cases(units, "siglip_sincos2d"):
        rows, columns, width = map(int, name.replace("_w", "x").split("x"))
        golden.close(scratch.sincos((rows, columns), width), units[f"siglip_sincos2d/{name}"], within=2e-6, what=name)


def test_right_alignment(units: Any) -> None:
    """The reference rolls the attention mask along; ours is made from what was rolled, which comes to the same."""
    x, valid, seen = (jnp.asarray(units[f"left_to_right_align/{key}"]) for key in ("x", "input_mask", "attn_mask"))

    def aligned(x: jax.Array) -> sequence.Segment:
        return pi0_fast.right_aligned(sequence.Segment(x, valid, valid))

    np.testing.assert_array_equal(aligned(x).tokens, units["left_to_right_align/out_x"])
    np.testing.assert_array_equal(aligned(x).valid, units["left_to_right_align/out_input_mask"])
    keys_first = jnp.swapaxes(aligned(seen).tokens, 1, 2)
    np.testing.assert_array_equal(
        jnp.swapaxes(aligned(keys_first).tokens, 1, 2), units["left_to_right_align/out_attn_mask"]
    )


def test_random_draws(units: Any, golden: Any) -> None:
    """The same key gives the same noise and times as the reference's version of jax."""
    rng = jax.random.key(int(units["prng/seed"]))
    np.testing.assert_array_equal(jax.random.key_data(jax.random.split(rng, 3)), units["prng/split3_data"])
    np.testing.assert_array_equal(jax.random.key_data(jax.random.fold_in(rng, 7)), units["prng/fold_in_7_data"])
    golden.close(jax.random.normal(rng, (2, 3)), units["prng/normal_2x3"], within=2e-6)
    golden.close(jax.random.beta(rng, 1.5, 1, (4,)), units["prng/beta_1p5_1_4"], within=2e-6)
    z = golden.npz("inputs_flow")
    _, noise_rng, time_rng = jax.random.split(jax.random.key(int(z["loss_key_seed"])), 3)
    golden.close(jax.random.normal(noise_rng, z["noise"].shape), z["noise"], within=2e-6)
    golden.close(flow.draw_time(time_rng, batch=len(z["time"])), z["time"], within=2e-6)
    golden.close(z["beta_b"] * 0.999 + 0.001, z["time_b"], within=2e-6)


def test_every_layer_is_compared(units: Any) -> None:
    tested = {
        *("posemb_sincos", "attn_mask", "rope", "rmsnorm", "gated_residual", "lora_einsum", "lora_ffn"),
        *("siglip_block", "siglip_sincos2d", "left_to_right_align", "prng"),
        "put_along_last_axis",  # an indexed update, which `jax.numpy` has by itself
    }
    assert {key.split("/")[0] for key in units} <= tested
