"""Tokenizers: ids that never change, and errors that say where the file is."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fla_models.tokenizers import BOS, EOS, UNK, PaligemmaTokenizer, WordTokenizer
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


@given(st.text(), st.text())
def test_ids_are_in_range_and_newlines_separate(first: str, second: str) -> None:
    ids = WORDS.encode(first)
    assert all(UNK < i < WORDS.vocab_size for i in ids)
    assert WORDS.encode(f"{first}\n{second}") == [*ids, *WORDS.encode("\n"), *WORDS.encode(second)]


def test_vocabulary_too_small() -> None:
    with pytest.raises(ConfigError, match="vocab_size"):
        WordTokenizer(vocab_size=200)


@pytest.fixture(scope="module")
def sentencepiece_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    import sentencepiece

    folder = tmp_path_factory.mktemp("tokenizer")
    corpus = folder / "corpus.txt"
    corpus.write_text("pick up the red cube\nput it into the bowl\nState: 1 2 3;\n" * 20)
    sentencepiece.SentencePieceTrainer.train(
        input=str(corpus), model_prefix=str(folder / "trained"), vocab_size=50, hard_vocab_limit=False,
        pad_id=0, eos_id=1, bos_id=2, unk_id=3, minloglevel=2,
    )  # fmt: skip
    return folder / "trained.model"


def test_sentencepiece(sentencepiece_file: Path) -> None:
    tokenizer = PaligemmaTokenizer(sentencepiece_file)
    ids = tokenizer.encode("pick up the bowl")
    assert ids and all(UNK <= i < tokenizer.vocab_size for i in ids)
    assert tokenizer.encode("pick up the bowl", bos=True, eos=True) == [BOS, *ids, EOS]


def test_sentencepiece_from_the_cache(
    sentencepiece_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("OPENPI_DATA_HOME", raising=False)
    monkeypatch.setenv("FLA_DATA_HOME", str(tmp_path / "data"))
    with pytest.raises(ConfigError, match=r"gs://big_vision/paligemma_tokenizer\.model"):
        PaligemmaTokenizer.open()
    place = tmp_path / "data" / "big_vision" / "paligemma_tokenizer.model"
    place.parent.mkdir(parents=True)
    place.write_bytes(sentencepiece_file.read_bytes())
    assert PaligemmaTokenizer.open().encode("cube") == PaligemmaTokenizer(sentencepiece_file).encode("cube")


def test_damaged_or_missing_file(tmp_path: Path) -> None:
    damaged = tmp_path / "damaged.model"
    damaged.write_bytes(b"not a model")
    with pytest.raises(ConfigError, match="not a SentencePiece model"):
        PaligemmaTokenizer(damaged)
    with pytest.raises(ConfigError, match=r"absent\.model"):
        PaligemmaTokenizer(tmp_path / "absent.model")
