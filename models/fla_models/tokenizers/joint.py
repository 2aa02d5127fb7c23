"""`JointTokenizer`: text and action chunks in one vocabulary."""

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from fla_sdk.errors import ActionTokenError, ConfigError

Floats = NDArray[np.floating]


class TextTokenizer(Protocol):
    """What spells text."""

    @property
    def vocab_size(self) -> int: ...

    def encode(self, text: str, *, bos: bool = False, eos: bool = False) -> Sequence[int]: ...


class ActionCode(Protocol):
    """What spells chunks, in codes from 0."""

    @property
    def vocab_size(self) -> int: ...

    def encode(self, chunk: Floats) -> Sequence[int]: ...

    def decode(self, codes: Sequence[int], *, horizon: int, width: int) -> Floats: ...


class JointTokenizer:
    """The text's ids, and the codes of actions counted down from the end of its vocabulary (openpi-compatible).

    Published vocabularies have little else to do with their last ids; where there are more codes than unused ids, a
    piece of text and a code share one.
    """

    def __init__(self, text: TextTokenizer, actions: ActionCode, *, spared: int = 0) -> None:
        """`spared` ids at the very end are left to the text. Raises `ConfigError` when the codes do not fit."""
        self.text, self.actions = text, actions
        self._last = text.vocab_size - 1 - spared
        if actions.vocab_size > self._last:
            raise ConfigError(
                f"{actions.vocab_size} action codes do not fit into a vocabulary of {text.vocab_size} ids, "
                f"of which {spared} are spared"
            )

    @property
    def vocab_size(self) -> int:
        return self.text.vocab_size

    def encode(self, text: str, *, bos: bool = False, eos: bool = False) -> Sequence[int]:
        """Ids of `text`, with the begin and end marks when asked for."""
        return self.text.encode(text, bos=bos, eos=eos)

    def encode_actions(self, actions: Any) -> list[int]:
        """Ids of a normalized chunk `[T, A]`."""
        return [self._last - code for code in self.actions.encode(np.asarray(actions))]

    def decode_actions(self, ids: Sequence[int], *, horizon: int, width: int) -> Floats:
        """The chunk `[horizon, width]` that `ids` spell. Raises `ActionTokenError` when they spell none."""
        first = self._last - self.actions.vocab_size + 1
        for place, one in enumerate(ids):
            if not first <= one <= self._last:
                raise ActionTokenError(
                    f"token {one}, number {place + 1} of {len(ids)} between the marks, spells no action; the ids of "
                    f"actions are {first} to {self._last}"
                )
        return self.actions.decode([self._last - one for one in ids], horizon=horizon, width=width)
