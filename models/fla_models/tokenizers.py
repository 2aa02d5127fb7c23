"""Tokenizers: PaliGemma's SentencePiece model, and one by words that needs no file."""

import os
import re
import zlib
from pathlib import Path
from typing import Any

from fla_sdk.errors import ConfigError

PAD, EOS, BOS, UNK = 0, 1, 2, 3

_SOURCE = "gs://big_vision/paligemma_tokenizer.model"
_FIRST_INTEGER, _LAST_INTEGER = -1, 255


class WordTokenizer:
    """One id per word, number or mark of punctuation; no file and no training.

    The integers -1 to 255 (what discretised states are written in) have ids of their own. All other pieces share the
    rest of the vocabulary by their CRC-32: two words may collide, the same word always has the same id. Whitespace
    other than a newline only separates. Case matters.
    """

    _PIECE = re.compile(r"(?<![\w-])-1(?!\w)|\d+|[^\W\d]+|\n|[^\w\s]")

    def __init__(self, *, vocab_size: int) -> None:
        """`vocab_size` counts the four special ids and the 257 integers; raises `ConfigError` when it is too small."""
        self._first_word = UNK + 1 + _LAST_INTEGER - _FIRST_INTEGER + 1
        if vocab_size <= self._first_word:
            raise ConfigError(
                f"the word tokenizer needs a vocab_size above {self._first_word} for its specials and integers, "
                f"not {vocab_size}"
            )
        self.vocab_size = vocab_size

    def encode(self, text: str, *, bos: bool = False, eos: bool = False) -> list[int]:
        """Ids of `text`, with the begin and end marks when asked for."""
        ids = [self._id(piece) for piece in self._PIECE.findall(text)]
        return [BOS] * bos + ids + [EOS] * eos

    def _id(self, piece: str) -> int:
        if re.fullmatch(r"-1|[0-9]{1,3}", piece) and str(number := int(piece)) == piece and number <= _LAST_INTEGER:
            return UNK + 1 + number - _FIRST_INTEGER
        return self._first_word + zlib.crc32(piece.encode()) % (self.vocab_size - self._first_word)


class PaligemmaTokenizer:
    """The SentencePiece model that PaliGemma's embedding table belongs to."""

    def __init__(self, path: Path) -> None:
        """`path` is the `.model` file; raises `ConfigError` when it is missing or not SentencePiece's."""
        if not path.is_file():
            raise ConfigError(f"no tokenizer file {path}: get it from {_SOURCE} and put it there")
        from sentencepiece import SentencePieceProcessor

        try:
            self._processor: Any = SentencePieceProcessor(model_file=str(path))
        except (RuntimeError, OSError) as error:
            raise ConfigError(f"{path} is not a SentencePiece model ({error}): get it again from {_SOURCE}") from error

    @classmethod
    def open(cls) -> "PaligemmaTokenizer":
        """The file from the cache: `$FLA_DATA_HOME`, `$OPENPI_DATA_HOME` or `~/.cache/openpi`, where openpi puts it.

        Raises `ConfigError` that says where it was looked for and how to get it.
        """
        homes = [os.environ.get("FLA_DATA_HOME"), os.environ.get("OPENPI_DATA_HOME"), "~/.cache/openpi"]
        candidates = [
            Path(home).expanduser() / place
            for home in homes
            if home
            for place in ("big_vision/paligemma_tokenizer.model", "paligemma_tokenizer.model")
        ]
        for candidate in candidates:
            if candidate.is_file():
                return cls(candidate)
        looked = "\n  ".join(map(str, candidates))
        raise ConfigError(
            f"PaliGemma's tokenizer is not on this machine. Get it once:\n"
            f"  gsutil cp {_SOURCE} {candidates[0]}\n"
            f"or set FLA_DATA_HOME to the folder that holds it. Looked for:\n  {looked}"
        )

    @property
    def vocab_size(self) -> int:
        return int(self._processor.vocab_size())

    def encode(self, text: str, *, bos: bool = False, eos: bool = False) -> list[int]:
        """Ids of `text`, with the begin and end marks when asked for."""
        return list(self._processor.encode(text, add_bos=bos, add_eos=eos))
