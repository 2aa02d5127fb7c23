"""How a task and a state become prompt tokens. One function per style, chosen by `ModelSpec.prompt_style`."""

import warnings
from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from fla_sdk.model import Tokenizer
from fla_sdk.transforms import discretize

Style = Callable[[Tokenizer, str, NDArray[np.floating]], list[int]]

BUCKETS = (16, 24, 32, 48, 64, 96, 128, 160, 200, 250)
"""Lengths that prompts are padded to, so that only a few shapes are ever compiled."""


def clean(task: str) -> str:
    """One line without underscores; case is kept (openpi-compatible)."""
    return task.strip().replace("_", " ").replace("\n", " ")


def pi0(tokenizer: Tokenizer, task: str, state: NDArray[np.floating]) -> list[int]:
    """`<task>` and a newline; the state is not in the text (openpi-compatible)."""
    del state
    return [*tokenizer.encode(clean(task), bos=True), *tokenizer.encode("\n")]


def pi05(tokenizer: Tokenizer, task: str, state: NDArray[np.floating]) -> list[int]:
    r"""`Task: <task>, State: <bins>;\nAction: `, the normalized state `[S]` in 256 bins (openpi-compatible)."""
    bins = " ".join(str(b) for b in discretize(state))
    return list(tokenizer.encode(f"Task: {clean(task)}, State: {bins};\nAction: ", bos=True))


STYLES: Mapping[str, Style] = {"pi0": pi0, "pi05": pi05}


def pad_tokens(
    ids: list[int], *, max_tokens: int, length: int | None = None
) -> tuple[NDArray[np.int32], NDArray[np.bool_]]:
    """Ids and their mask, `[L]` each, padded with 0 to `length`, or to the shortest bucket that holds them.

    Prompts above `max_tokens` lose their end, with a warning (openpi-compatible).
    """
    if len(ids) > max_tokens:
        warnings.warn(
            f"the prompt has {len(ids)} tokens, the model takes {max_tokens}: its end is cut off. Use a shorter task "
            "text or prompt, or a model variant with a larger max_tokens.",
            stacklevel=2,
        )
        ids = ids[:max_tokens]
    if length is None:
        length = min(next((b for b in BUCKETS if b >= len(ids)), max_tokens), max_tokens)
    tokens = np.zeros(length, np.int32)
    tokens[: len(ids)] = ids
    return tokens, np.arange(length) < len(ids)
