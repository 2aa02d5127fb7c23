"""Prompts against the reference: text given to the tokenizer, tokens and masks, and the models' whole pipelines."""

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import attrs
import numpy as np
import pytest

import fla_sdk as fla
from fla_models.tokenizers import PALIGEMMA, JointTokenizer
from fla_sdk import prompts, transforms
from fla_sdk.errors import ActionTokenError
from fla_sdk.normalization import Stats
from fla_sdk.testing import CharacterTokenizer

STYLES = {"pi0": "pi0", "pi05_discrete": "pi05", "pi05_no_discrete": "pi0", "pi0_fast": "fast"}
"""Pipeline of the reference -> our prompt style."""


class Recorder(CharacterTokenizer):
    """Remembers what it was asked for. The recorded tokens are characters in PaliGemma's number of ids."""

    vocab_size = 257152

    def __init__(self) -> None:
        self.calls: list[dict[str, Any]] = []

    def encode(self, text: str, *, bos: bool = False, eos: bool = False) -> list[int]:
        self.calls.append({"text": text, "add_bos": bos, "add_eos": eos})
        return super().encode(text, bos=bos, eos=eos)


class Twentieths:
    """The action code that the reference was recorded with."""

    vocab_size = 2048

    def __init__(self) -> None:
        self.calls: list[list[Any]] = []

    def encode(self, chunk: np.ndarray) -> list[int]:
        self.calls.append(["encode", [1, *chunk.shape]])
        return [round(20 * float(value)) + 100 for value in chunk.ravel()]

    def decode(self, codes: Sequence[int], *, horizon: int, width: int) -> np.ndarray:
        self.calls.append(["decode", [list(codes)], horizon, width])
        return (np.array(codes).reshape(horizon, width) - 100) / 20


@contextmanager
def maybe_cut(ids: list[int], limit: int) -> Iterator[None]:
    """Expects the warning that belongs to more than `limit` ids."""
    if len(ids) <= limit:
        yield
        return
    with pytest.warns(UserWarning, match=f"the prompt has {len(ids)} tokens, the model takes {limit}"):
        yield


def test_tokens(golden: Any) -> None:
    for case in golden.json("tokenizers")["paligemma"]:
        what = f"{case['prompt']!r}, {case['max_len']} tokens, state {case['state_dtype']}"
        tokenizer = Recorder()
        if case["state"] is None:
            wording = prompts.pi0(case["prompt"], np.zeros(0))
        else:
            wording = prompts.pi05(case["prompt"], np.array(case["state"], case["state_dtype"]))
        prompt = prompts.write(tokenizer, wording)
        assert tokenizer.calls == case["encode_calls"], what
        limit = case["max_len"]
        with maybe_cut(prompt.ids, limit):
            tokens, mask = prompts.pad_tokens(prompt.ids, max_tokens=limit, length=limit)
        assert tokens.tolist() == case["tokens"], what
        assert case["mask_is_prefix"]
        assert mask.tolist() == [i < case["num_true_in_mask"] for i in range(limit)], what


def test_action_tokens(golden: Any) -> None:
    """Where the reference answers an unreadable answer with zeros, an error is raised."""
    for case in golden.json("tokenizers")["fast"]:
        what = f"{case['prompt']!r}, {case['max_len']} tokens, actions {case['actions']}"
        text, code = Recorder(), Twentieths()
        tokenizer = JointTokenizer(text, code, spared=PALIGEMMA.spared)
        wording = prompts.fast(case["prompt"], np.array(case["state"], case["state_dtype"]))
        actions = None if case["actions"] is None else np.array(case["actions"], np.float32)
        codes = None if actions is None else tokenizer.encode_actions(actions)
        prompt = prompts.write(tokenizer, wording, codes=codes)
        assert text.calls == case["encode_calls"], what
        assert code.calls == case["fast_calls"], what
        limit = case["max_len"]
        with maybe_cut(prompt.ids, limit):
            tokens, mask = prompts.pad_tokens(prompt.ids, max_tokens=limit, length=limit)
        assert tokens.tolist() == case["tokens"], what
        assert mask.tolist() == [bool(m) for m in case["token_mask"]], what
        answer = [i in prompt.answer for i in range(limit)]
        assert answer == [bool(m) for m in case["ar_mask"]] == [bool(m) for m in case["loss_mask"]], what
        if actions is None:
            continue
        horizon, width = actions.shape
        code.calls.clear()
        if not case["extract_fast_calls"]:
            with pytest.raises(ActionTokenError, match="has no 'Action: '"):
                prompts.read(tokenizer, wording, tokens.tolist())
            continue
        found = prompts.read(tokenizer, wording, tokens.tolist())
        decoded = tokenizer.decode_actions(found, horizon=horizon, width=width)
        np.testing.assert_allclose(decoded, case["extract_actions"], rtol=1e-12, err_msg=what)
        assert code.calls == case["extract_fast_calls"], what


def test_an_answer_without_actions_is_an_error(golden: Any) -> None:
    tokens = golden.json("tokenizers")["fast_extract_without_marker"]["tokens"]
    with pytest.raises(ActionTokenError, match="answer of 3 tokens has no 'Action: '"):
        prompts.read(CharacterTokenizer(), prompts.fast("", np.zeros(0)), tokens)


def test_action_codes_count_down_from_the_last_place(golden: Any) -> None:
    class Own(Twentieths):
        def encode(self, chunk: np.ndarray) -> list[int]:
            return [int(value) for value in chunk.ravel()]

        def decode(self, codes: Sequence[int], *, horizon: int, width: int) -> np.ndarray:
            return np.array(codes).reshape(horizon, width)

    tokenizer = JointTokenizer(Recorder(), Own(), spared=PALIGEMMA.spared)
    codes, ids = zip(*golden.json("tokenizers")["fast_token_mapping"], strict=True)
    assert tokenizer.encode_actions(np.array([codes])) == list(ids)
    assert tokenizer.decode_actions(ids, horizon=1, width=len(ids)).tolist() == [list(codes)]


def test_pipelines(golden: Any) -> None:
    found = golden.json("tokenizers")["pipelines"]
    assert {case["model"] for case in found} == STYLES.keys()
    for case in found:
        what = f"{case['model']}, prompt {case['prompt']!r}"
        state, actions = np.array(case["state"], np.float32), np.array(case["actions"], np.float32)
        tokenizer = Recorder()
        codec = _codec(case, tokenizer, state_width=len(state), actions=actions)
        observation = {"state": state, "task": case["prompt"], "images": {"front": np.zeros((4, 5, 3), np.uint8)}}
        sample = attrs.evolve(codec.embodiment.observe(observation), actions=actions)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "the prompt has")  # a golden prompt may be longer than its model takes
            batch = codec.encode_example(sample)
        inputs = batch.inputs
        assert tokenizer.calls == case["encode_calls"], what
        want = case["out_tokenized_prompt"]
        assert transforms.pad(inputs.tokens, len(want)).tolist() == want, what
        np.testing.assert_array_equal(inputs.tokens != 0, inputs.token_mask, err_msg=what)
        np.testing.assert_array_equal(inputs.state, np.array(case["out_state"], np.float32), err_msg=what)
        np.testing.assert_array_equal(batch.actions, np.array(case["out_actions"], np.float32), err_msg=what)
        assert list(inputs.images["base_0_rgb"].shape) == case["image_shape"]
        assert str(inputs.images["base_0_rgb"].dtype) == case["image_dtype"]
        assert ("token_loss_mask" in case["out_keys"]) == (batch.token_loss is not None), what
        if batch.token_loss is not None and len(inputs.tokens[inputs.token_mask]) < len(want):
            generated = inputs.tokens[batch.token_loss].astype(np.float32)  # as the reference's model gives them
            np.testing.assert_allclose(
                codec.decode(np.pad(generated, (0, 9)), state), np.around(actions * 20) / 20, atol=1e-6, err_msg=what
            )


def _codec(case: dict[str, Any], tokenizer: Recorder, *, state_width: int, actions: np.ndarray) -> fla.Codec:
    horizon, action_width = actions.shape
    robot = fla.Embodiment(
        name="robot",
        state=fla.Space(fla.joints(*(f"s{i}" for i in range(state_width)))),
        action=fla.Space(fla.joints(*(f"a{i}" for i in range(action_width)))),
        cameras=(fla.Camera("front", slot="base_0_rgb"),),
        control_hz=10,
        default_task=case["default_prompt"],
    )
    height, width, _ = case["image_shape"]
    speaks = STYLES[case["model"]] == "fast"
    spec = fla.ModelSpec(
        image_slots=("base_0_rgb",),
        image_size=(height, width),
        action_dim=len(case["out_state"]),
        horizon=horizon,
        max_tokens=len(case["out_tokenized_prompt"]),
        prompt_style=STYLES[case["model"]],
        normalization="zscore",
        action_tokens="sampled" if speaks else "none",
    )
    stats = fla.NormStats(state=_unit(state_width), actions=_unit(action_width))
    joint = JointTokenizer(tokenizer, Twentieths(), spared=PALIGEMMA.spared)
    return fla.Codec(embodiment=robot, spec=spec, stats=stats, tokenizer=joint if speaks else tokenizer)


def _unit(width: int) -> Stats:
    """The reference's pipelines do not normalize: 0.999999 and the z-score's epsilon are exactly 1."""
    return Stats(mean=np.zeros(width), std=np.full(width, 1 - 1e-6))
