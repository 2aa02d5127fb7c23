"""`WordTokenizer`: one id per word, for small models and tests; it needs no file."""

import re
import zlib

from fla_sdk.errors import ConfigError

PAD, EOS, BOS, UNK = 0, 1, 2, 3
"""The special ids of Gemma, PaliGemma and Gemma 3, and ours."""

_FIRST_INTEGER, _LAST_INTEGER = -1, 255


class WordTokenizer:
    """One id per word, number or mark of punctuation; no file and no training.

    The integers -1 to 255 (what discretised states are written in) have ids of their own. All other pieces share the
    rest of the vocabulary by their CRC-32: two words may collide, the same word always has the same id. Whitespace
    other than a newline only separates. Case matters.
    """

    _PIECE = re.compile(r"(?<![\w-])-1(?!\w)|\d+|[^\W\d]+|\n|[^\w\s]")

    def __init__(self, *, vocab_size: int, reserved: int = 0) -> None:
        """`vocab_size` counts the four special ids, the 257 integers, and `reserved` ids at its end that no text uses.

        Raises `ConfigError` when nothing is left for words.
        """
        self._first_word = UNK + 1 + _LAST_INTEGER - _FIRST_INTEGER + 1
        self._words = vocab_size - self._first_word - reserved
        if self._words < 1:
            raise ConfigError(
                f"the word tokenizer needs a vocab_size above {self._first_word + reserved} for its specials and "
                f"integers{f' and {reserved} codes of actions' if reserved else ''}, not {vocab_size}"
            )
        self.vocab_size = vocab_size

    def encode(self, text: str, *, bos: bool = False, eos: bool = False) -> list[int]:
        """Ids of `text`, with the begin and end marks when asked for."""
        ids = [self._id(piece) for piece in self._PIECE.findall(text)]
        return [BOS] * bos + ids + [EOS] * eos

    def _id(self, piece: str) -> int:
        if re.fullmatch(r"-1|[0-9]{1,3}", piece) and str(number := int(piece)) == piece and number <= _LAST_INTEGER:
            return UNK + 1 + number - _FIRST_INTEGER
        return self._first_word + zlib.crc32(piece.encode()) % self._words
