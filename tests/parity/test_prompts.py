"""Prompts against the reference: text given to the tokenizer, tokens, and the whole pipelines of Pi0 and Pi0.5."""

import warnings
from typing import Any

import numpy as np
import pytest

import fla_sdk as fla
from fla_sdk import prompts, transforms
from fla_sdk.normalization import Stats
from fla_sdk.testing import CharacterTokenizer

STYLES = {"pi0": "pi0", "pi05_discrete": "pi05", "pi05_no_discrete": "pi0"}
"""Pipeline of the reference -> our prompt style."""


class Recorder(CharacterTokenizer):
    """Remembers what it was asked for."""

    def __init__(self) -> None:
        self.calls: list[dict[str, Any]] = []

    def encode(self, text: str, *, bos: bool = False, eos: bool = False) -> list[int]:
        self.calls.append({"text": text, "add_bos": bos, "add_eos": eos})
        return super().encode(text, bos=bos, eos=eos)


def test_tokens(golden: Any) -> None:
    for case in golden.json("tokenizers")["paligemma"]:
        what = f"{case['prompt']!r}, {case['max_len']} tokens, state {case['state_dtype']}"
        tokenizer = Recorder()
        if case["state"] is None:
            ids = prompts.pi0(tokenizer, case["prompt"], np.zeros(0))
        else:
            ids = prompts.pi05(tokenizer, case["prompt"], np.array(case["state"], case["state_dtype"]))
        assert tokenizer.calls == case["encode_calls"], what
        limit = case["max_len"]
        if len(ids) > limit:
            with pytest.warns(UserWarning, match=f"the prompt has {len(ids)} tokens, the model takes {limit}"):
                tokens, mask = prompts.pad_tokens(ids, max_tokens=limit, length=limit)
        else:
            tokens, mask = prompts.pad_tokens(ids, max_tokens=limit, length=limit)
        assert tokens.tolist() == case["tokens"], what
        assert case["mask_is_prefix"]
        assert mask.tolist() == [i < case["num_true_in_mask"] for i in range(limit)], what


def test_pipelines(golden: Any) -> None:
    found = [case for case in golden.json("tokenizers")["pipelines"] if case["model"] in STYLES]
    assert {case["model"] for case in found} == STYLES.keys()
    for case in found:
        what = f"{case['model']}, prompt {case['prompt']!r}"
        state, actions = np.array(case["state"], np.float32), np.array(case["actions"], np.float32)
        tokenizer = Recorder()
        codec = _codec(case, tokenizer, state_width=len(state), actions=actions)
        observation = {"state": state, "task": case["prompt"], "images": {"front": np.zeros((4, 5, 3), np.uint8)}}
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "the prompt has")  # a golden prompt may be longer than its model takes
            inputs = codec.encode(codec.embodiment.observe(observation))
        assert tokenizer.calls == case["encode_calls"], what
        want = case["out_tokenized_prompt"]
        assert transforms.pad(inputs.tokens, len(want)).tolist() == want, what
        np.testing.assert_array_equal(inputs.tokens != 0, inputs.token_mask, err_msg=what)
        np.testing.assert_array_equal(inputs.state, np.array(case["out_state"], np.float32), err_msg=what)
        encoded = codec.encode_actions(actions, state)
        np.testing.assert_array_equal(encoded, np.array(case["out_actions"], np.float32), err_msg=what)
        assert list(inputs.images["base_0_rgb"].shape) == case["image_shape"]
        assert str(inputs.images["base_0_rgb"].dtype) == case["image_dtype"]


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
    spec = fla.ModelSpec(
        image_slots=("base_0_rgb",),
        image_size=(height, width),
        action_dim=len(case["out_state"]),
        horizon=horizon,
        max_tokens=len(case["out_tokenized_prompt"]),
        prompt_style=STYLES[case["model"]],
        normalization="zscore",
    )
    stats = fla.NormStats(state=_unit(state_width), actions=_unit(action_width))
    return fla.Codec(embodiment=robot, spec=spec, stats=stats, tokenizer=tokenizer)


def _unit(width: int) -> Stats:
    """The reference's pipelines do not normalize: 0.999999 and the z-score's epsilon are exactly 1."""
    return Stats(mean=np.zeros(width), std=np.full(width, 1 - 1e-6))
