"""The word tokenizer: ids that never change."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fla_models.tokenizers import WordTokenizer
from fla_models.tokenizers.words import BOS, EOS, UNK
from fla_sdk.errors import ConfigError

WORDS = WordTokenizer(vocab_size=1024)


def test_word_ids_are_stable() -> None:
    assert WORDS.encode("-1 0 255", bos=True, eos=True) == [BOS, 4, 5, 260, EOS]
    assert WORDS.encode("reach the red target\n") == [951, 803, 661, 489, 625]


def test_pieces() -> None:
    ids = WORDS.encode("Task: reach red, State: 3 -1;\nAction: ")
    parts = ["Task", ":", "reach", "red", ",", "State", ":", "3", "-1", ";", "\n", "Action", ":"]
    assert ids == [i for part in parts for i in WORDS.encode(part)]
    assert len(ids) == len(parts)


def test_only_minus_one_is_negative() -> None:
    assert len(WORDS.encode("-1")) == 1
    assert len(WORDS.encode("-12")) == 2
    assert len(WORDS.encode("so-1")) == 3
    assert len(WORDS.encode("256")) == 1


@given(st.integers(-1, 255), st.integers(-1, 255))
def test_integers_do_not_collide(a: int, b: int) -> None:
    assert (WORDS.encode(str(a)) == WORDS.encode(str(b))) == (a == b)


@given(st.text(), st.text(), st.integers(0, 700))
def test_ids_are_in_range_and_newlines_separate(first: str, second: str, reserved: int) -> None:
    words = WordTokenizer(vocab_size=1024, reserved=reserved)
    ids = words.encode(first)
    assert all(UNK < i < words.vocab_size - reserved for i in ids)
    assert words.encode(f"{first}\n{second}") == [*ids, *words.encode("\n"), *words.encode(second)]


def test_vocabulary_too_small() -> None:
    with pytest.raises(ConfigError, match="a vocab_size above 261 for its specials and integers, not 200"):
        WordTokenizer(vocab_size=200)
    with pytest.raises(ConfigError, match="above 517 for its specials and integers and 256 codes of actions, not 512"):
        WordTokenizer(vocab_size=512, reserved=256)
