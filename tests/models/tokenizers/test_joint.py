"""Text and actions in one vocabulary, as a config names them."""

from pathlib import Path
from typing import Any

import attrs
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fla_models.configs import Pi0FastConfig, fast_variants
from fla_models.tokenizers import (
    PALIGEMMA,
    BinTokenizer,
    FastTokenizer,
    JointTokenizer,
    SentencePieceTokenizer,
    WordTokenizer,
    open_tokenizer,
)
from fla_sdk import prompts
from fla_sdk.errors import ActionTokenError, ConfigError

TINY: Pi0FastConfig = fast_variants()["tiny"]
BINS = JointTokenizer(WordTokenizer(vocab_size=1024, reserved=256), BinTokenizer())
FAST = prompts.fast("", np.zeros(0))

chunks = st.builds(
    lambda seed, steps, width: np.random.default_rng(seed).uniform(-1, 1, (steps, width)),
    st.integers(0, 2**32),
    st.integers(1, 8),
    st.integers(1, 5),
)


@given(chunks, st.text())
def test_actions_come_back_out_of_an_answer(chunk: np.ndarray, words: str) -> None:
    """Whatever a model writes around it."""
    prompt = prompts.write(BINS, prompts.fast(words, chunk[0]), codes=BINS.encode_actions(chunk))
    answer = [prompt.ids[i] for i in prompt.answer]
    before = prompts.write(BINS, prompts.fast(words.replace("action", ""), chunk[0])).ids
    for ids in (answer, answer[:-1], [*before, *answer], [*answer, *BINS.encode(words), *answer]):
        codes = prompts.read(BINS, FAST, ids)
        back = BINS.decode_actions(codes, horizon=chunk.shape[0], width=chunk.shape[1])
        np.testing.assert_allclose(back, chunk, atol=1 / 256)


@given(chunks, st.text())
def test_text_and_actions_share_no_id(chunk: np.ndarray, words: str) -> None:
    assert not set(BINS.encode(words)) & set(BINS.encode_actions(chunk))


def test_words_among_actions_are_refused() -> None:
    ids = [*BINS.encode_actions(np.zeros((1, 2))), *BINS.encode("or")]
    with pytest.raises(ActionTokenError, match=r"token \d+, number 3 of 3 .* ids of actions are 768 to 1023"):
        BINS.decode_actions(ids, horizon=1, width=3)


def test_codes_that_do_not_fit_are_refused(sentencepiece_file: Path) -> None:
    text = SentencePieceTokenizer(sentencepiece_file, PALIGEMMA)
    with pytest.raises(ConfigError, match=rf"1000 action codes do not fit into a vocabulary of {text.vocab_size} ids"):
        JointTokenizer(text, BinTokenizer(bins=1000), spared=PALIGEMMA.spared)


def test_a_config_of_words_needs_no_file(nowhere: None) -> None:
    tokenizer: Any = open_tokenizer(TINY, with_actions=True)
    assert tokenizer.encode_actions(np.full((2, 3), -1)) == [TINY.vocab_size - 1] * 6
    assert not hasattr(open_tokenizer(TINY, with_actions=False), "encode_actions")


def test_a_config_with_a_folder_of_ones_own(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    fast = FastTokenizer.fit([rng.uniform(-1, 1, (8, 2)) for _ in range(5)], vocab_size=300)
    fast.save(tmp_path / "fast")
    own = attrs.evolve(TINY, action_tokenizer=str(tmp_path / "fast"))
    tokenizer: Any = open_tokenizer(own, with_actions=True)
    chunk = rng.uniform(-1, 1, (8, 2))
    assert tokenizer.encode_actions(chunk) == [TINY.vocab_size - 1 - code for code in fast.encode(chunk)]


def test_a_config_of_published_files(
    sentencepiece_file: Path, tmp_path: Path, nowhere: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FLA_DATA_HOME", str(tmp_path))
    (tmp_path / "paligemma_tokenizer.model").write_bytes(sentencepiece_file.read_bytes())
    config = attrs.evolve(TINY, tokenizer="paligemma")
    tokenizer: Any = open_tokenizer(config, with_actions=True)
    text = SentencePieceTokenizer(sentencepiece_file, PALIGEMMA)
    assert tokenizer.encode("red cube", eos=True) == text.encode("red cube", eos=True)
    assert tokenizer.encode_actions(np.full((1, 1), -1)) == [text.vocab_size - 1 - 128]
    with pytest.raises(ConfigError, match=rf"does not match: PaliGemma's tokenizer has {text.vocab_size} ids, .* 300 "):
        open_tokenizer(attrs.evolve(config, vocab_size=300), with_actions=False)
    with pytest.raises(ConfigError, match=r"'nobody/fast' is neither 'bins' nor a folder(.|\n)*fla tokenizer fit"):
        open_tokenizer(attrs.evolve(config, action_tokenizer="nobody/fast"), with_actions=True)
    with pytest.raises(ConfigError, match="Gemma 3's tokenizer is not on this machine"):
        open_tokenizer(attrs.evolve(TINY, tokenizer="gemma3"), with_actions=False)
