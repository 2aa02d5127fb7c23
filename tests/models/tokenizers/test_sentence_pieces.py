"""Published text tokenizers: special ids, where their files are looked for, and what is refused."""

from pathlib import Path

import pytest

from fla_models.tokenizers import GEMMA3, PALIGEMMA, SentencePieceTokenizer
from fla_models.tokenizers.sentence_pieces import Vocabulary
from fla_models.tokenizers.words import BOS, EOS, UNK
from fla_sdk import prompts
from fla_sdk.errors import ConfigError


def test_sentencepiece(sentencepiece_file: Path) -> None:
    tokenizer = SentencePieceTokenizer(sentencepiece_file, PALIGEMMA)
    ids = tokenizer.encode("pick up the bowl")
    assert ids and all(UNK < i < tokenizer.vocab_size for i in ids)
    assert tokenizer.encode("pick up the bowl", bos=True, eos=True) == [BOS, *ids, EOS]


def test_hiding_the_advantage_gives_the_prompt_without_it(sentencepiece_file: Path) -> None:
    """A newline is a piece by itself, so the prompt may be cut behind it."""
    tokenizer = SentencePieceTokenizer(sentencepiece_file, PALIGEMMA)
    for style in prompts.STYLES.values():
        wording = style("pick up the cube", [-0.5, 0.25])  # type: ignore[arg-type]
        plain = prompts.write(tokenizer, wording)
        good = prompts.write(tokenizer, wording, advantage=True)
        assert good.indicator
        assert [one for i, one in enumerate(good.ids) if i not in good.indicator] == plain.ids


@pytest.mark.parametrize(
    ("vocabulary", "place", "source"),
    [
        (PALIGEMMA, "big_vision/paligemma_tokenizer.model", r"gs://big_vision/paligemma_tokenizer\.model"),
        (GEMMA3, "gemma3/tokenizer.model", r"hf://google/gemma-3-4b-pt/tokenizer\.model"),
    ],
    ids=["paligemma", "gemma3"],
)
def test_from_the_cache(
    vocabulary: Vocabulary,
    place: str,
    source: str,
    sentencepiece_file: Path,
    tmp_path: Path,
    nowhere: None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("FLA_DATA_HOME", str(tmp_path / "data"))
    with pytest.raises(ConfigError, match=rf"tokenizer is not on this machine(.|\n)*Get {source}") as caught:
        SentencePieceTokenizer.open(vocabulary)
    assert str(tmp_path / "data" / place) in str(caught.value)
    file = tmp_path / "data" / place
    file.parent.mkdir(parents=True)
    file.write_bytes(sentencepiece_file.read_bytes())
    opened = SentencePieceTokenizer.open(vocabulary)
    assert opened.encode("cube") == SentencePieceTokenizer(sentencepiece_file, vocabulary).encode("cube")


def test_damaged_or_missing_file(tmp_path: Path) -> None:
    damaged = tmp_path / "damaged.model"
    damaged.write_bytes(b"not a model")
    with pytest.raises(ConfigError, match="not a SentencePiece model"):
        SentencePieceTokenizer(damaged, PALIGEMMA)
    with pytest.raises(ConfigError, match=r"absent\.model"):
        SentencePieceTokenizer(tmp_path / "absent.model", PALIGEMMA)


def test_a_model_with_other_marks_is_refused(tmp_path: Path) -> None:
    """SentencePiece's own defaults begin with 1 and end with 2: the model would never hear the end."""
    from sentencepiece import SentencePieceTrainer

    SentencePieceTrainer.train(
        sentence_iterator=iter(["put it into the bowl"] * 9), model_prefix=str(tmp_path / "other"),
        vocab_size=50, hard_vocab_limit=False, minloglevel=2,
    )  # fmt: skip
    with pytest.raises(ConfigError, match=r"have ids \(-1, 2, 1\) in it, \(0, 1, 2\) in the model"):
        SentencePieceTokenizer(tmp_path / "other.model", GEMMA3)
