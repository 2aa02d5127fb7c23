"""FAST: what decoding gives back, the files that others read, and codes that spell no chunk."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.fft import dct

from fla_models.tokenizers import FastTokenizer
from fla_sdk.errors import ActionTokenError, ConfigError, DataError


def transformed(chunk: np.ndarray) -> Any:
    return dct(chunk, axis=0, norm="ortho")


def smooth(seed: int, *, steps: int = 20, width: int = 3) -> np.ndarray:
    """A chunk `[T, A]` of slow waves in [-1, 1]."""
    rng = np.random.default_rng(seed)
    time = np.linspace(0, 1, steps)[:, None]
    waves = [
        rng.uniform(-1 / 3, 1 / 3, width) * np.sin(2 * np.pi * (f * time + rng.random(width))) for f in (0.3, 1, 2)
    ]
    return np.sum(waves, axis=0)


FITTED = FastTokenizer.fit([smooth(seed) for seed in range(100)], vocab_size=400)


@given(seed=st.integers(0, 2**32), loud=st.sampled_from([0.1, 1, 3]), noise=st.sampled_from([0, 0.3]))
def test_no_coefficient_moves_by_more_than_half_a_step(seed: int, loud: float, noise: float) -> None:
    """Also of chunks unlike those it was fitted on; below the smallest one seen, coefficients are raised to it."""
    chunk = loud * smooth(seed) + noise * np.random.default_rng(seed).standard_normal((20, 3))
    back = FITTED.decode(FITTED.encode(chunk), horizon=20, width=3)
    lowest = FITTED.min_token / FITTED.scale
    given, found = transformed(chunk), transformed(back)
    assert (np.abs(found - np.maximum(given, lowest)) <= 0.5 / FITTED.scale + 1e-9).all()


@given(scale=st.sampled_from([1, 10, 40.5]), steps=st.integers(1, 9), width=st.integers(1, 4))
def test_scale_is_the_resolution(scale: float, steps: int, width: int) -> None:
    chunks = [smooth(seed, steps=steps, width=width) for seed in range(5)]
    code = FastTokenizer.fit(chunks, scale=scale, vocab_size=256)
    for chunk in chunks:
        back = code.decode(code.encode(chunk), horizon=steps, width=width)
        # An orthonormal transform: the steps of a dimension are as far off together as its coefficients.
        assert np.linalg.norm(back - chunk, axis=0).max() <= 0.5 / scale * np.sqrt(steps) + 1e-9


def test_runs_that_repeat_become_one_code() -> None:
    lengths = [len(FITTED.encode(smooth(seed))) for seed in range(1000, 1050)]
    assert np.mean(lengths) < 60 / 2
    assert 256 < FITTED.vocab_size <= 400
    plain = FastTokenizer.fit([smooth(seed) for seed in range(100)], vocab_size=256)
    assert min(len(plain.encode(smooth(seed))) for seed in range(1000, 1050)) >= 60


def test_transformers_reads_the_folder_and_gives_the_same_ids(tmp_path: Path) -> None:
    from transformers import PreTrainedTokenizerFast

    FITTED.save(tmp_path)
    theirs = PreTrainedTokenizerFast(tokenizer_file=str(tmp_path / "tokenizer.json"))
    from_folder = PreTrainedTokenizerFast.from_pretrained(tmp_path)
    for seed in range(20):
        chunk = smooth(seed, steps=11, width=2)
        rounded = np.around(transformed(chunk) * FITTED.scale).astype(int) - FITTED.min_token
        text = "".join(chr(max(value, 0)) for value in rounded.ravel())
        codes = FITTED.encode(chunk)
        assert theirs(text)["input_ids"] == from_folder(text)["input_ids"] == codes
        assert theirs.decode(codes, clean_up_tokenization_spaces=False) == text


def test_what_was_saved_is_loaded(tmp_path: Path) -> None:
    FITTED.save(tmp_path / "new" / "fast")
    again = FastTokenizer.load(tmp_path / "new" / "fast")
    assert again.encode(smooth(7)) == FITTED.encode(smooth(7))
    for name in ("scale", "min_token", "horizon", "width", "vocab_size"):
        assert getattr(again, name) == getattr(FITTED, name), name
    settings = json.loads((tmp_path / "new" / "fast" / "processor_config.json").read_text())
    assert settings["time_horizon"] == 20 and settings["action_dim"] == 3


def test_a_folder_as_it_is_published(tmp_path: Path) -> None:
    """Shapes are not known, and there are more settings than we need."""
    FITTED.save(tmp_path)
    settings = {"scale": 10, "vocab_size": 2048, "min_token": -354, "action_dim": None, "time_horizon": None}
    (tmp_path / "processor_config.json").write_text(json.dumps({"auto_map": {}, **settings}))
    loaded = FastTokenizer.load(tmp_path)
    assert (loaded.scale, loaded.min_token, loaded.horizon, loaded.width) == (10, -354, None, None)
    back = loaded.decode(loaded.encode(smooth(3)), horizon=20, width=3)
    np.testing.assert_allclose(back, smooth(3), atol=0.25)


def test_files_that_are_missing_or_damaged(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"holds no FAST tokenizer: it has no processor_config\.json"):
        FastTokenizer.load(tmp_path)
    FITTED.save(tmp_path)
    (tmp_path / "processor_config.json").write_text('{"scale": 10}')
    with pytest.raises(ConfigError, match=r"processor_config\.json is damaged \(KeyError: 'min_token'\)"):
        FastTokenizer.load(tmp_path)
    FITTED.save(tmp_path)
    (tmp_path / "tokenizer.json").write_text('{"version": ')
    with pytest.raises(ConfigError, match=r"tokenizer\.json is damaged"):
        FastTokenizer.load(tmp_path)


def test_a_vocabulary_that_lacks_a_byte_is_noticed() -> None:
    """A tokenizer fitted by others may know only what occurred; it would leave the rest out and say nothing."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    pairs = Tokenizer(models.BPE())
    pairs.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    pairs.decoder = decoders.ByteLevel()
    pairs.train_from_iterator(["\x00\x01\x02"], trainers.BpeTrainer(vocab_size=300, show_progress=False))
    code = FastTokenizer(pairs, scale=1, min_token=0)
    np.testing.assert_allclose(code.decode(code.encode(np.array([[1.0, 2.0]])), horizon=1, width=2), [[1, 2]])
    with pytest.raises(DataError, match="has no symbols for some values of this chunk"):
        code.encode(np.array([[1.0, 9.0]]))


def test_codes_that_spell_no_chunk() -> None:
    codes = FITTED.encode(smooth(1))
    with pytest.raises(ActionTokenError, match="spell 60 values, a chunk of 10 steps of 3 values has 30"):
        FITTED.decode(codes, horizon=10, width=3)
    with pytest.raises(ActionTokenError, match="0 action codes spell 0 values"):
        FITTED.decode([], horizon=10, width=3)
    with pytest.raises(ActionTokenError, match=f"{FITTED.vocab_size} is no action code, these are 0 to "):
        FITTED.decode([*codes, FITTED.vocab_size], horizon=20, width=3)
    bytes_only = FastTokenizer.fit([smooth(seed, steps=1, width=1) for seed in range(3)], vocab_size=256)
    spelt = next(c for c in range(256) if bytes_only._text([c]) == "\N{REPLACEMENT CHARACTER}")
    with pytest.raises(ActionTokenError, match="1 action codes spell bytes that are no characters"):
        bytes_only.decode([spelt], horizon=1, width=1)


def test_what_cannot_be_fitted() -> None:
    with pytest.raises(ConfigError, match="a vocab_size of 255 has no room for the 256 bytes"):
        FastTokenizer.fit([smooth(0)], vocab_size=255)
    with pytest.raises(ConfigError, match="scale must be above 0, not 0"):
        FastTokenizer.fit([smooth(0)], scale=0)
    with pytest.raises(DataError, match=r"one shape \[T, A\], got none"):
        FastTokenizer.fit([])
    with pytest.raises(DataError, match=r"got \[\(4, 3\), \(20, 3\)\]"):
        FastTokenizer.fit([smooth(0), smooth(0, steps=4)])
    with pytest.raises(DataError, match="are not those of normalized actions"):
        FastTokenizer.fit([smooth(0), 1e6 * smooth(1)])
