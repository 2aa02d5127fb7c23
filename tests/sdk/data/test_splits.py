import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fla_sdk.data.splits import held_out, parse_episodes
from fla_sdk.errors import ConfigError, UnknownNameError


def bounds(episodes: int) -> np.ndarray:
    return np.stack([np.arange(episodes), np.arange(episodes) + 1], 1)


@given(st.integers(2, 300), st.floats(0.001, 0.999), st.integers(0, 99))
def test_the_share_is_met_and_neither_side_is_empty(episodes, fraction, seed):
    held = held_out(bounds(episodes), ["a task"] * episodes, fraction, "episode", seed)
    assert held.sum() == min(max(round(fraction * episodes), 1), episodes - 1)
    np.testing.assert_array_equal(held, held_out(bounds(episodes), ["other"] * episodes, fraction, "episode", seed))


@given(st.lists(st.sampled_from("abcdef"), min_size=1, max_size=60), st.floats(0.01, 0.9), st.integers(0, 9))
def test_a_task_lies_on_one_side(tasks, fraction, seed):
    if len(set(tasks)) < 2:
        with pytest.raises(ConfigError, match="cannot hold out a share of 1 tasks"):
            held_out(bounds(len(tasks)), tasks, fraction, "task", seed)
        return
    held = held_out(bounds(len(tasks)), tasks, fraction, "task", seed)
    sides = [{task for task, out in zip(tasks, held, strict=True) if out == side} for side in (True, False)]
    assert all(sides) and not sides[0] & sides[1]


def test_the_choice_is_the_same_on_every_machine_and_another_for_another_seed():
    assert np.flatnonzero(held_out(bounds(20), [""] * 20, 0.2)).tolist() == [0, 13, 16, 17]
    assert np.flatnonzero(held_out(bounds(20), [""] * 20, 0.2, seed=1)).tolist() == [5, 10, 14, 15]


def test_nothing_is_held_out_unless_asked():
    assert not held_out(bounds(3), ["a"] * 3, 0).any()


@pytest.mark.parametrize("fraction", [-0.1, 1, 10, float("nan")])
def test_a_share_that_is_none(fraction):
    with pytest.raises(ConfigError, match="below 1"):
        held_out(bounds(3), ["a"] * 3, fraction)


def test_an_unknown_way_offers_the_nearest():
    with pytest.raises(UnknownNameError, match="did you mean 'episode'"):
        held_out(bounds(3), ["a"] * 3, 0.5, "episodes")  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize(
    ("text", "total", "numbers"),
    [
        ("0:4,7", None, [0, 1, 2, 3, 7]),
        ("7, 2:4 ,3", 8, [2, 3, 7]),
        ("5:", 8, [5, 6, 7]),
    ],
)
def test_episodes_as_text(text, total, numbers):
    assert parse_episodes(text, total).tolist() == numbers


@pytest.mark.parametrize(
    ("text", "total", "words"),
    [
        ("", None, "neither a number nor a range"),
        ("3:", None, "'3:' is neither"),
        ("1,-2", None, "'-2' is neither"),
        ("1:b", None, "'1:b' is neither"),
        ("4:4", None, "'4:4' is empty"),
        ("0:9", 8, "no episode 8 .*0 to 7"),
    ],
)
def test_texts_that_name_no_episodes(text, total, words):
    with pytest.raises(ConfigError, match=words):
        parse_episodes(text, total)
