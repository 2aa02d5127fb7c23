"""Pi0-FAST against the reference: masks, logits, gradients, and answers through the cache, in all small cases."""

import json
from typing import Any, NamedTuple

import attrs
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from fla_models import parameters
from fla_models.pi0_fast import Pi0Fast, right_aligned
from fla_models.sequence import block_mask, positions
from fla_sdk.model import Batch, ModelInput

QUICK = {"xla_backend_optimization_level": 0}


class Case(NamedTuple):
    """A small model of the reference and what ours computes in its place."""

    name: str
    graph: Any
    state: Any
    inputs: dict[str, Any]
    prompt: ModelInput
    batch: Batch
    want: dict[str, Any]
    dtype: str

    @property
    def within(self) -> float:
        return 5e-2 if self.dtype == "bfloat16" else 5e-5

    def run(self, function: Any, *arguments: Any) -> Any:
        """`function(model, *arguments)`, compiled without optimisations that cost more than they save."""

        def merged(state: Any, *arguments: Any) -> Any:
            return function(nnx.merge(self.graph, state), *arguments)

        return jax.jit(merged, compiler_options=QUICK)(self.state, *arguments)


def _batch(z: dict[str, Any], slots: tuple[str, ...], prefix: str = "") -> Batch:
    inputs = ModelInput(
        images={slot: z[f"image/{slot}"] for slot in slots},
        image_masks={slot: z[f"image_mask/{slot}"] for slot in slots},
        state=z["state"],
        tokens=z[f"{prefix}tokenized_prompt"],
        token_mask=z[f"{prefix}tokenized_prompt_mask"],
        token_ar=z[f"{prefix}token_ar_mask"].astype(bool),
    )
    actions = z["actions"]
    size, horizon, width = actions.shape
    own, real = np.ones((size, width), bool), np.ones((size, horizon), bool)
    return Batch(inputs, actions, own, real, z[f"{prefix}token_loss_mask"])


@pytest.fixture(scope="session")
def fast_case(request: pytest.FixtureRequest, golden: Any) -> Case:
    name = request.param
    config = golden.fast_config(name)
    z, want = golden.npz("inputs_fast"), golden.npz(f"model_{name}")
    abstract = nnx.eval_shape(lambda: Pi0Fast(config, rngs=nnx.Rngs(0)))
    dtype = golden.json("cases")["fast_cases"][name][2] or "float32"
    shapes = parameters.flatten(abstract)
    filled = {path: jnp.asarray(golden.fill(path, leaf.shape), dtype) for path, leaf in shapes.items()}
    parameters.assign(abstract, filled)
    graph, state = nnx.split(abstract)
    batch = _batch(z, config.image_slots)
    return Case(name, graph, state, z, _batch(z, config.image_slots, "infer_").inputs, batch, want, config.dtype)


def test_training_outputs(fast_case: Case, golden: Any) -> None:
    want, batch = fast_case.want, fast_case.batch

    def outputs(model: Pi0Fast, batch: Batch) -> dict[str, jax.Array]:
        prefix = model.PaliGemma.embed(batch.inputs)
        length = batch.inputs.tokens.shape[1]
        out = model.outputs(batch.inputs)[:, -length:-1]
        logits = model.PaliGemma.llm.embedder.logits(out)
        slot = next(name.split("/")[1] for name in want if name.startswith("image_tokens/"))
        pixels = model.PaliGemma.pixels(batch.inputs, slot)
        return {
            f"image_tokens/{slot}": model.PaliGemma.embed_images(pixels[:, None])[:, 0],
            "lang_embeddings": prefix.tokens[:, -length:],
            "input_mask": prefix.valid,
            "ar_mask": prefix.starts,
            "attn_mask_last_row": block_mask(prefix.valid, prefix.starts)[:, -length:],
            "pre_logits": out,
            "logits_strided": logits[..., :: int(want["logit_stride"])],
            "logits_logsumexp": jax.nn.logsumexp(logits, axis=-1),
            "loss": model.loss(jax.random.key(0), batch).steps[:, 0],
        }

    got = fast_case.run(outputs, batch)
    dtypes = json.loads(str(want["dtypes_json"]))
    valid = np.asarray(got["input_mask"])[:, -batch.inputs.tokens.shape[1] : -1]
    for name, value in got.items():
        if name in ("input_mask", "ar_mask", "attn_mask_last_row"):
            np.testing.assert_array_equal(value, want[name], err_msg=name)
            continue
        if name != "loss":
            assert value.dtype == dtypes[name], name
        # Padding attends to everything there is; what comes out depends on the length of the cache alone.
        where = True if value.shape[:2] != valid.shape else valid.reshape(*valid.shape, *[1] * (value.ndim - 2))
        golden.close(value, want[name], within=fast_case.within, where=where, what=name)


def test_gradients(fast_case: Case, golden: Any) -> None:
    want, batch = fast_case.want, fast_case.batch
    if "grad/paths" not in want:
        assert fast_case.name.endswith("bf16params")
        return

    def mean_and_gradients(model: Pi0Fast, batch: Batch) -> tuple[jax.Array, Any]:
        return nnx.value_and_grad(lambda m: m.loss(jax.random.key(0), batch).steps.mean())(model)

    mean, gradients = fast_case.run(mean_and_gradients, batch)
    bfloat16 = fast_case.dtype == "bfloat16"
    assert float(mean) == pytest.approx(float(want["grad/mean_loss"]), rel=3e-2 if bfloat16 else 1e-4)
    leaves = {"/".join(map(str, path)): v.get_value() for path, v in nnx.to_flat_state(gradients)}
    norm = float(jnp.sqrt(sum(jnp.sum(jnp.square(g)) for g in leaves.values())))
    assert norm == pytest.approx(float(want["grad/global_norm_all"]), rel=3e-2 if bfloat16 else 1e-4)
    if not bfloat16:
        compared = golden.same_leaves(leaves, want, "grad", l2=1e-4, projection=2e-4)
        assert compared == sum(not path.endswith("key/bias") for path in want["grad/paths"])
    frozen = set(want["grad/frozen_paths"])
    assert frozen < leaves.keys()
    trained = float(jnp.sqrt(sum(jnp.sum(jnp.square(g)) for path, g in leaves.items() if path not in frozen)))
    assert trained == pytest.approx(float(want["grad/global_norm_trainable"]), rel=3e-2 if bfloat16 else 1e-4)


def test_reading_the_prompt(fast_case: Case, golden: Any) -> None:
    want = fast_case.want

    def read(model: Pi0Fast, inputs: ModelInput) -> Any:
        prefix = right_aligned(model.PaliGemma.embed(inputs))
        scores, seen = model.read(inputs)
        return prefix.valid, positions(prefix.valid), scores, seen.keys[0], seen.values[-1]

    valid, where, scores, keys, values = fast_case.run(read, fast_case.prompt)
    np.testing.assert_array_equal(valid, want["prefill_mask_right_aligned"])
    np.testing.assert_array_equal(where, want["prefill_positions"])
    golden.close(scores, want["prefill_last_logit"], within=fast_case.within, what="scores")
    length, real = valid.shape[1], np.asarray(valid)[:, :, None, None]
    for name, got in (("prefill_k_layer0", keys), ("prefill_v_last", values)):
        golden.close(got, want[name][:, :length], within=fast_case.within, where=real, what=name)
        assert not want[name][:, length:].any()


def _all_cameras(inputs: ModelInput) -> ModelInput:
    return inputs._replace(image_masks={slot: np.ones_like(mask) for slot, mask in inputs.image_masks.items()})


@pytest.mark.parametrize("prefix", ["", "allcams/"])
def test_answers(fast_case: Case, golden: Any, prefix: str) -> None:
    want = fast_case.want
    prompt = _all_cameras(fast_case.prompt) if prefix else fast_case.prompt
    got = np.asarray(fast_case.run(lambda model, inputs: model.sample(jax.random.key(0), inputs), prompt))
    greedy, gap = want[f"{prefix}greedy_tokens"], want[f"{prefix}greedy_top2_gap"]
    assert got.dtype == np.int32 and got.shape == greedy.shape
    # A bfloat16 model may take another token where two are as good; what follows then differs too.
    sure = np.cumprod(gap > (0.15 if fast_case.dtype == "bfloat16" else 0), axis=1).astype(bool)
    np.testing.assert_array_equal(got[sure], greedy[sure])

    def forced(model: Pi0Fast, inputs: ModelInput, tokens: jax.Array) -> jax.Array:
        model.config = attrs.evolve(model.config, max_decode=tokens.shape[1])
        scores, seen = model.read(inputs)
        room = jnp.zeros((*seen.keys.shape[:2], model.config.max_decode, *seen.keys.shape[3:]), seen.keys.dtype)
        rows, keys, values = [scores], room, room
        for step in range(tokens.shape[1]):
            scores, (k, v) = model.continue_with(tokens[:, step], seen, keys, values, step=jnp.asarray(step))
            keys, values = keys.at[:, :, step].set(k[:, :, 0]), values.at[:, :, step].set(v[:, :, 0])
            rows.append(scores)
        return jnp.stack(rows, axis=1)[..., :: int(want["logit_stride"])]

    logits = fast_case.run(forced, prompt, jnp.asarray(want["forced_tokens"]))
    golden.close(logits, want[f"{prefix}forced_logits_strided"], within=fast_case.within, what="forced")


def test_drawn_answers(fast_case: Case) -> None:
    if fast_case.dtype == "bfloat16":
        return  # draws turn on differences that bfloat16 does not hold

    def drawn(model: Pi0Fast, inputs: ModelInput) -> jax.Array:
        model.config = attrs.evolve(model.config, temperature=0.7)
        return model.sample(jax.random.key(3), inputs)

    got = fast_case.run(drawn, fast_case.prompt)
    np.testing.assert_array_equal(got, fast_case.want["sampled_tokens_temp0p7_key3"])


def test_where_answers_end(fast_case: Case) -> None:
    want = fast_case.want
    if "eos/row" not in want:
        return
    table = "PaliGemma/llm/embedder/input_embedding"

    def answer(model: Pi0Fast, inputs: ModelInput) -> jax.Array:
        rows = parameters.flatten(model)[table]
        model.PaliGemma.llm.embedder.input_embedding[...] = rows.at[1].set(
            want["eos/mult"] * rows[int(want["eos/row"])]
        )
        return model.sample(jax.random.key(0), inputs)

    both = fast_case.run(answer, fast_case.prompt)
    first = fast_case.run(answer, jax.tree.map(lambda leaf: leaf[:1], fast_case.prompt))
    np.testing.assert_array_equal(both, want["eos/tokens_full_batch"])
    np.testing.assert_array_equal(first, want["eos/tokens_batch1_sample0"])
