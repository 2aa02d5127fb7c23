"""`SentencePieceTokenizer`: the text tokenizers of published models, read from their files."""

import os
from pathlib import Path
from typing import Any

import attrs

from fla_models.tokenizers.words import BOS, EOS, PAD
from fla_sdk.errors import ConfigError, FlaError


@attrs.frozen(kw_only=True)
class Vocabulary:
    """A published SentencePiece model: where it comes from, and where action codes have their place in it."""

    title: str
    uri: str
    places: tuple[str, ...]
    """Where it may lie in a cache folder."""

    spared: int
    """Ids at its end that action codes leave alone."""


PALIGEMMA = Vocabulary(
    title="PaliGemma",
    uri="gs://big_vision/paligemma_tokenizer.model",
    places=("big_vision/paligemma_tokenizer.model", "paligemma_tokenizer.model"),
    spared=128,
)
"""257,152 ids that end in 1,024 places and 128 segments of an image. Action codes count down from the last place and so
take the places first; openpi-compatible, as the published Pi0-FAST weights know them."""

GEMMA3 = Vocabulary(
    title="Gemma 3",
    uri="hf://google/gemma-3-4b-pt/tokenizer.model",
    places=("gemma3/tokenizer.model", "gemma3_tokenizer.model"),
    spared=0,
)
"""262,144 ids that end in unused ones."""


class SentencePieceTokenizer:
    """The SentencePiece model that a published embedding table belongs to."""

    def __init__(self, path: Path, vocabulary: Vocabulary) -> None:
        """`path` is the `.model` file; raises `ConfigError` when it is missing or is not Gemma's kind of model."""
        if not path.is_file():
            raise ConfigError(f"no tokenizer file {path}: get it from {vocabulary.uri} and put it there")
        from sentencepiece import SentencePieceProcessor

        try:
            self._processor: Any = SentencePieceProcessor(model_file=str(path))
        except (RuntimeError, OSError) as error:
            raise ConfigError(
                f"{path} is not a SentencePiece model ({error}): get it again from {vocabulary.uri}"
            ) from error
        marks = self._processor.pad_id(), self._processor.eos_id(), self._processor.bos_id()
        if marks != (PAD, EOS, BOS):
            raise ConfigError(
                f"{path} is not {vocabulary.title}'s tokenizer: padding, end and beginning have ids {marks} in it, "
                f"{(PAD, EOS, BOS)} in the model; get it from {vocabulary.uri}"
            )

    @classmethod
    def open(cls, vocabulary: Vocabulary) -> "SentencePieceTokenizer":
        """From the cache (`$FLA_DATA_HOME`, `$OPENPI_DATA_HOME` or `~/.cache/openpi`), else fetched from its source.

        Raises `ConfigError` that says where it was looked for and how to get it.
        """
        homes = [os.environ.get("FLA_DATA_HOME"), os.environ.get("OPENPI_DATA_HOME"), "~/.cache/openpi"]
        candidates = [Path(home).expanduser() / place for home in homes if home for place in vocabulary.places]
        for candidate in candidates:
            if candidate.is_file():
                return cls(candidate, vocabulary)
        from fla_sdk.policy.fetch import fetch

        try:
            return cls(fetch(vocabulary.uri), vocabulary)
        except FlaError as error:
            looked = "\n  ".join(map(str, candidates))
            raise ConfigError(
                f"{vocabulary.title}'s tokenizer is not on this machine, and fetching it failed: {error}\n"
                f"Get {vocabulary.uri} and put it into one of these places (FLA_DATA_HOME changes them):\n  {looked}"
            ) from error

    @property
    def vocab_size(self) -> int:
        return int(self._processor.vocab_size())

    def encode(self, text: str, *, bos: bool = False, eos: bool = False) -> list[int]:
        """Ids of `text`, with the begin and end marks when asked for."""
        return list(self._processor.encode(text, add_bos=bos, add_eos=eos))
