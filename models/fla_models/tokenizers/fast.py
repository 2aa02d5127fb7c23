"""`FastTokenizer`: action chunks as few codes, by cosine transform and byte-pair encoding (FAST, arXiv:2501.09747).

    chunk [T, A] -> cosine transform over time -> round(scale * coefficient) -> flatten, lowest frequencies first
                 -> minus min_token -> a character per integer -> byte-level byte-pair encoding -> codes

Folders are laid out as the published `physical-intelligence/fast`, and either side reads what the other wrote.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fla_sdk.errors import ActionTokenError, ConfigError, DataError

if TYPE_CHECKING:
    from tokenizers import Tokenizer as BytePairs

Floats = NDArray[np.floating]

BYTES = 256
"""Symbols that any integer can be written in; a vocabulary holds them before it joins any."""

_TOP = 0xD7FF
"""Last character before the surrogates, which text must not hold."""

_BAD = "\N{REPLACEMENT CHARACTER}"
"""What bytes decode to that are no character."""


class FastTokenizer:
    """Codes of action chunks. `scale` is the resolution: coefficients are kept to half of `1 / scale`."""

    def __init__(
        self,
        pairs: "BytePairs",
        *,
        scale: float,
        min_token: int,
        horizon: int | None = None,
        width: int | None = None,
    ) -> None:
        """`min_token` is the smallest rounded coefficient; smaller ones are raised to it. `horizon` and `width` say
        what it was fitted on, and limit nothing.
        """
        self._pairs, self.scale, self.min_token, self.horizon, self.width = pairs, scale, min_token, horizon, width

    @classmethod
    def fit(cls, chunks: Sequence[Floats] | Floats, *, scale: float = 10, vocab_size: int = 1024) -> "FastTokenizer":
        """Learn from normalized chunks `[T, A]` which runs of coefficients are worth a code of their own.

        The vocabulary ends up smaller when there are not as many runs that occur twice. Raises `ConfigError` when it
        could not hold the bytes, `DataError` when there is nothing to learn from or the chunks are not normalized.
        """
        from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

        if vocab_size < BYTES:
            raise ConfigError(f"a vocab_size of {vocab_size} has no room for the {BYTES} bytes; the usual one is 1024")
        if scale <= 0:
            raise ConfigError(f"scale must be above 0, not {scale:g}; the usual one is 10")
        shapes = sorted({np.shape(chunk) for chunk in chunks})
        if len(shapes) != 1 or len(shapes[0]) != 2:
            raise DataError(f"chunks must all be of one shape [T, A], got {shapes or 'none'}")
        rounded = [_coefficients(chunk, scale) for chunk in chunks]
        low, high = min(int(r.min()) for r in rounded), max(int(r.max()) for r in rounded)
        if high - low > _TOP:
            raise DataError(
                f"coefficients from {low / scale:g} to {high / scale:g} are not those of normalized actions; "
                "look for a dimension that hardly ever moves"
            )
        pairs = Tokenizer(models.BPE())
        pairs.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        pairs.decoder = decoders.ByteLevel()
        # All bytes, where the published code takes the characters that occur: a byte that was not among them is left
        # out when it comes later, and the chunk cannot be decoded.
        trainer = trainers.BpeTrainer(
            vocab_size=vocab_size,
            min_frequency=2,
            show_progress=False,
            special_tokens=[],
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            max_token_length=10_000,
        )
        pairs.train_from_iterator((_text(r, low) for r in rounded), trainer)
        horizon, width = shapes[0]
        return cls(pairs, scale=scale, min_token=low, horizon=horizon, width=width)

    @classmethod
    def load(cls, folder: Path) -> "FastTokenizer":
        """Read `tokenizer.json` and `processor_config.json`; raises `ConfigError` naming what is missing or damaged."""
        from tokenizers import Tokenizer

        for name in ("processor_config.json", "tokenizer.json"):
            if not (folder / name).is_file():
                raise ConfigError(
                    f"{folder} holds no FAST tokenizer: it has no {name}; give a folder that `fla tokenizer fit` "
                    "wrote, or physical-intelligence/fast"
                )
        try:
            settings = json.loads((folder / "processor_config.json").read_text())
            scale, min_token = float(settings["scale"]), int(settings["min_token"])
        except (ValueError, KeyError, TypeError) as error:
            raise ConfigError(
                f"{folder / 'processor_config.json'} is damaged ({type(error).__name__}: {error}); "
                "it must have scale and min_token"
            ) from error
        try:
            pairs = Tokenizer.from_file(str(folder / "tokenizer.json"))
        except Exception as error:  # the library raises nothing narrower
            raise ConfigError(f"{folder / 'tokenizer.json'} is damaged: {error}") from error
        return cls(
            pairs,
            scale=scale,
            min_token=min_token,
            horizon=settings.get("time_horizon"),
            width=settings.get("action_dim"),
        )

    def save(self, folder: Path) -> None:
        """Write what `load` reads."""
        folder.mkdir(parents=True, exist_ok=True)
        settings: dict[str, Any] = {
            "processor_class": "UniversalActionProcessor",
            "scale": int(self.scale) if float(self.scale).is_integer() else self.scale,
            "vocab_size": self.vocab_size,
            "min_token": self.min_token,
            "time_horizon": self.horizon,
            "action_dim": self.width,
        }
        text = {"tokenizer_class": "PreTrainedTokenizerFast", "clean_up_tokenization_spaces": False}
        for name, content in (("processor_config.json", settings), ("tokenizer_config.json", text)):
            (folder / name).write_text(json.dumps(content, indent=2) + "\n")
        self._pairs.save(str(folder / "tokenizer.json"))

    @property
    def vocab_size(self) -> int:
        return int(self._pairs.get_vocab_size())

    def encode(self, chunk: Floats) -> list[int]:
        """`[T, A]` normalized -> codes. Raises `DataError` where a tokenizer fitted by others lacks a symbol."""
        text = _text(_coefficients(chunk, self.scale), self.min_token)
        codes: list[int] = self._pairs.encode(text).ids
        if self._text(codes) != text:
            raise DataError(
                "the FAST tokenizer has no symbols for some values of this chunk, which it did not see when it was "
                "fitted; fit one on your data with `fla tokenizer fit`"
            )
        return codes

    def decode(self, codes: Sequence[int], *, horizon: int, width: int) -> Floats:
        """The chunk `[horizon, width]`. Raises `ActionTokenError` when the codes do not spell that many values."""
        from scipy.fft import idct

        if strange := [code for code in codes if not 0 <= code < self.vocab_size]:
            raise ActionTokenError(f"{strange[0]} is no action code, these are 0 to {self.vocab_size - 1}")
        text = self._text(codes)
        if _BAD in text or len(text) != horizon * width:
            found = "bytes that are no characters" if _BAD in text else f"{len(text)} values"
            raise ActionTokenError(
                f"{len(codes)} action codes spell {found}, a chunk of {horizon} steps of {width} values has "
                f"{horizon * width}"
            )
        rounded = np.array([ord(character) for character in text], np.float64) + self.min_token
        chunk: Any = idct(rounded.reshape(horizon, width) / self.scale, axis=0, norm="ortho")
        return chunk

    def _text(self, codes: Sequence[int]) -> str:
        return self._pairs.decode(list(codes), skip_special_tokens=False)


def _coefficients(chunk: Floats, scale: float) -> NDArray[np.int64]:
    """Rounded coefficients of the orthonormal cosine transform (type II), `[T * A]`."""
    from scipy.fft import dct

    transformed: Any = dct(np.asarray(chunk, np.float64), axis=0, norm="ortho")
    return np.around(transformed * scale).astype(np.int64).ravel()


def _text(rounded: NDArray[np.int64], min_token: int) -> str:
    return "".join(map(chr, np.clip(rounded - min_token, 0, _TOP).tolist()))
