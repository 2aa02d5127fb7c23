"""Actions and advantages in the prompt: where they stand, what they say, and what a generated answer becomes."""

from collections.abc import Sequence
from typing import Any

import attrs
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fla_sdk as fla
from fla_sdk import prompts
from fla_sdk.codec import Codec, collate, collate_inputs
from fla_sdk.embodiment import Embodiment
from fla_sdk.errors import ActionTokenError, ConfigError
from fla_sdk.model import ModelSpec
from fla_sdk.normalization import NormStats, Stats
from fla_sdk.sample import Sample
from fla_sdk.testing import CharacterTokenizer, random_vectors

ROBOTS = fla.load_plugins(environment={}).embodiments
PLANAR, ALOHA = ROBOTS["planar2"], ROBOTS["aloha"]
SLOTS = ("base_0_rgb", "left_wrist_0_rgb", "right_wrist_0_rgb")
SPEC = ModelSpec(image_slots=SLOTS, image_size=(16, 16), horizon=4, max_tokens=1000, action_tokens="sampled")

styles = st.sampled_from(sorted(prompts.STYLES))
robots = st.sampled_from([ROBOTS[name] for name in sorted(ROBOTS)])


class Speller(CharacterTokenizer):
    """A private character per value, in thousandths."""

    def encode_actions(self, actions: Any) -> list[int]:
        return [0x100000 + round(1000 * float(value)) for value in np.ravel(actions)]

    def decode_actions(self, ids: Sequence[int], *, horizon: int, width: int) -> Any:
        if len(ids) != horizon * width:
            raise ActionTokenError(f"{len(ids)} values")
        return (np.array(ids).reshape(horizon, width) - 0x100000) / 1000


def codec(robot: Embodiment = PLANAR, **changes: Any) -> Codec:
    stats = (Stats.of(np.random.default_rng(0).uniform(-2, 2, (50, s.width))) for s in (robot.state, robot.action))
    return Codec(
        embodiment=robot,
        spec=attrs.evolve(SPEC, **changes),
        stats=NormStats(state=next(stats), actions=next(stats)),
        tokenizer=Speller(),
    )


def sample(robot: Embodiment = PLANAR, *, seed: int = 0, **changes: Any) -> Sample:
    observed = robot.observe(robot.example_observation(seed))
    return attrs.evolve(observed, actions=random_vectors(robot.action, SPEC.horizon, seed=seed), **changes)


def there(mask: Any) -> np.ndarray:
    assert mask is not None
    return mask


def text(ids: Any) -> str:
    return "".join("#" if one > 0xF0000 else chr(one) for one in ids)


@given(robot=robots, style=styles, kind=st.sampled_from(["taught", "sampled"]))
@settings(max_examples=30)
def test_the_answer_stands_right_behind_the_prompt(robot: Embodiment, style: str, kind: str) -> None:
    path, one = codec(robot, prompt_style=style, action_tokens=kind), sample(robot)
    asked, batch = path.encode(one), path.encode_example(one)
    told = batch.inputs
    assert asked.token_ar is None and asked.indicator is None and told.indicator is None
    assert told.token_ar is not None
    prompt = told.tokens[told.token_mask & ~told.token_ar]
    np.testing.assert_array_equal(prompt, asked.tokens[asked.token_mask])
    np.testing.assert_array_equal(np.flatnonzero(told.token_ar), len(prompt) + np.arange(told.token_ar.sum()))
    np.testing.assert_array_equal(batch.token_loss, told.token_ar)
    np.testing.assert_array_equal(told.tokens[~told.token_mask], 0)
    values = SPEC.horizon * robot.action.width  # not the model's width
    assert text(told.tokens[told.token_ar]) == ("Action: " if style == "fast" else "") + "#" * values + "|\x01"
    without = codec(robot, prompt_style=style, action_tokens="none").encode_example(one)
    assert without.token_loss is None and without.inputs.token_ar is None
    np.testing.assert_array_equal(without.inputs.tokens, asked.tokens)
    np.testing.assert_array_equal(without.actions, batch.actions)


@given(robot=robots, style=styles, seed=st.integers(0, 2**31), dtype=st.sampled_from([np.int32, np.float32]))
@settings(max_examples=30)
def test_a_generated_answer_becomes_actions(robot: Embodiment, style: str, seed: int, dtype: type) -> None:
    path, one = codec(robot, prompt_style=style), sample(robot, seed=seed)
    batch = path.encode_example(one)
    answer = np.pad(batch.inputs.tokens[batch.token_loss], (0, 20)).astype(dtype)
    normalized = batch.actions[:, : robot.action.width]
    expected = path.decode(np.around(normalized.astype(np.float64) * 1000) / 1000, one.state)
    # A value in the middle of two thousandths may be rounded either way.
    np.testing.assert_allclose(path.decode(answer, one.state), expected, atol=0.02)


def test_an_answer_that_spells_no_chunk_is_an_error() -> None:
    path, one = codec(prompt_style="fast"), sample()
    answer = Speller().encode("Action: ")
    with pytest.raises(ActionTokenError, match="answer of 0 tokens has no 'Action: '"):
        path.decode(np.zeros(9, np.float32), one.state)
    with pytest.raises(ActionTokenError, match="0 values"):
        path.decode(np.array([*answer, 0, 0]), one.state)
    with pytest.raises(ActionTokenError, match="3 values"):
        path.decode(np.array([*answer, *Speller().encode_actions([0, 0, 0]), ord("|"), 1]), one.state)


@pytest.mark.parametrize(
    ("style", "end"), [("pi0", "Reach it\n{}"), ("pi05", ";\n{}Action: "), ("fast", ";\n{}")], ids=lambda x: x[:4]
)
@pytest.mark.parametrize("advantage", [True, False])
def test_the_advantage_is_said_right_before_the_actions(style: str, end: str, advantage: bool) -> None:
    path, silent = codec(prompt_style=style, action_tokens="none"), sample(task="Reach it")
    plain, told = path.encode(silent), path.encode(attrs.evolve(silent, advantage=advantage))
    said = f"Advantage: {'positive' if advantage else 'negative'}\n"
    assert text(told.tokens[told.token_mask]).endswith(end.format(said))
    indicator = there(told.indicator)
    assert text(told.tokens[indicator]) == said
    np.testing.assert_array_equal(told.tokens[told.token_mask & ~indicator], plain.tokens[plain.token_mask])


def test_an_answer_that_is_cut_warns() -> None:
    with pytest.warns(UserWarning, match="the prompt with 8 tokens of actions has 61 tokens, the model takes 55"):
        batch = codec(prompt_style="fast", max_tokens=55).encode_example(sample(task="reach"))
    assert batch.inputs.tokens.shape == there(batch.token_loss).shape == (55,)
    assert text(batch.inputs.tokens[batch.token_loss]).startswith("Action: ##")


def test_collating_what_only_some_have() -> None:
    plain, rated = sample(), sample(ALOHA, task="fold the towel, and then fold it again", advantage=True)
    taught, untaught = codec(prompt_style="pi05"), codec(ALOHA, prompt_style="pi05", action_tokens="none")
    parts = [taught.encode_example(plain), untaught.encode_example(rated)]
    batch = collate(parts)
    length = batch.inputs.tokens.shape[1]
    marks = [there(mark) for mark in (batch.token_loss, batch.inputs.token_ar, batch.inputs.indicator)]
    assert [mark.shape for mark in marks] == [(2, length)] * 3
    assert [mark.any(axis=1).tolist() for mark in marks] == [[True, False], [True, False], [False, True]]
    assert text(batch.inputs.tokens[1][marks[2][1]]) == "Advantage: positive\n"
    np.testing.assert_array_equal(marks[0][0].nonzero(), there(parts[0].token_loss).nonzero())
    nothing = collate([untaught.encode_example(attrs.evolve(rated, advantage=None))] * 2)
    assert nothing.token_loss is None and nothing.inputs.token_ar is None and nothing.inputs.indicator is None
    assert collate_inputs([taught.encode(plain)]).token_ar is None


def test_a_tokenizer_that_spells_no_actions_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"action_tokens is 'taught'\), but CharacterTokenizer has no encode_actions"):
        attrs.evolve(codec(action_tokens="taught"), tokenizer=CharacterTokenizer())
