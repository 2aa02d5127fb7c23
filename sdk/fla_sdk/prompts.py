"""How a task and a state become prompt tokens, and actions the answer to them.

A style says the texts, one function per style, chosen by `ModelSpec.prompt_style`; `write` makes ids of them, `read`
finds the action codes in an answer that a model wrote.
"""

import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from fla_sdk.errors import ActionTokenError
from fla_sdk.model import Tokenizer
from fla_sdk.transforms import discretize

BUCKETS = (16, 24, 32, 48, 64, 96, 128, 160, 200, 250)
"""Lengths that prompts are padded to, so that only a few shapes are ever compiled."""

END = "|"
"""Closes the action codes of an answer, before the end mark."""


class Wording(NamedTuple):
    """The texts of a prompt and its answer. Each is tokenized by itself, so that none depends on what follows."""

    prompt: tuple[str, ...]
    """Up to where the advantage is said, if it is."""

    cue: str = ""
    """After the advantage; without one it is tokenized as the end of the prompt (openpi-compatible)."""

    opening: str = ""
    """What the answer begins with, before the action codes."""


Style = Callable[[str, NDArray[np.floating]], Wording]


def pi0(task: str, state: NDArray[np.floating]) -> Wording:
    """`<task>` and a newline; the state is not in the text (openpi-compatible)."""
    del state
    return Wording((_one_line(task), "\n"))


def pi05(task: str, state: NDArray[np.floating]) -> Wording:
    r"""`Task: <task>, State: <bins>;\nAction: `, the normalized state `[S]` in 256 bins (openpi-compatible)."""
    return Wording((f"Task: {_one_line(task)}, State: {_bins(state)};\n",), cue="Action: ")


def fast(task: str, state: NDArray[np.floating]) -> Wording:
    r"""`Task: <task>, State: <bins>;\n` in lower case, newlines kept; answered by `Action: ` (openpi-compatible)."""
    task = task.lower().strip().replace("_", " ")
    return Wording((f"Task: {task}, State: {_bins(state)};\n",), opening="Action: ")


def value(task: str, state: NDArray[np.floating]) -> Wording:
    r"""`Task: <task>, State: <bins>;\nValue: `, for models that judge instead of act."""
    return Wording((f"Task: {_one_line(task)}, State: {_bins(state)};\nValue: ",))


STYLES: Mapping[str, Style] = {"pi0": pi0, "pi05": pi05, "fast": fast, "value": value}


def _one_line(task: str) -> str:
    return task.strip().replace("_", " ").replace("\n", " ")


def _bins(state: NDArray[np.floating]) -> str:
    return " ".join(str(b) for b in discretize(state))


class Prompt(NamedTuple):
    """Ids, and the places in them that have a meaning of their own."""

    ids: list[int]
    indicator: range
    """Where the advantage is said; empty when it is not."""

    answer: range
    """Where the answer is; empty when there is none."""


def write(
    tokenizer: Tokenizer, wording: Wording, *, advantage: bool | None = None, codes: Sequence[int] | None = None
) -> Prompt:
    """The ids of a prompt and, given the ids `codes` of its actions, of the answer right behind it.

    The advantage of RECAP (arXiv:2511.14759) is said right before the actions. Without its tokens, the rest is the
    prompt that does not say any, provided that the tokenizer does not join a newline with what follows.
    """
    if advantage is None:
        wording = wording._replace(prompt=(*wording.prompt[:-1], wording.prompt[-1] + wording.cue), cue="")
    ids = [one for i, text in enumerate(wording.prompt) for one in tokenizer.encode(text, bos=i == 0)]
    said = len(ids)
    if advantage is not None:
        ids += tokenizer.encode(f"Advantage: {'positive' if advantage else 'negative'}\n")
    indicator = range(said, len(ids))
    ids += _encode(tokenizer, wording.cue)
    asked = len(ids)
    if codes is not None:
        ids += [*_encode(tokenizer, wording.opening), *codes, *tokenizer.encode(END, eos=True)]
    return Prompt(ids, indicator, range(asked, len(ids)))


def read(tokenizer: Tokenizer, wording: Wording, ids: Sequence[int]) -> list[int]:
    """The ids of the action codes in a generated answer: from its opening to the first `|` or end mark.

    Raises `ActionTokenError` when the opening is missing.
    """
    ids, opening = list(ids), _encode(tokenizer, wording.opening)
    starts = (i for i in range(len(ids) - len(opening) + 1) if ids[i : i + len(opening)] == opening)
    start = next(starts, None)
    if start is None:
        raise ActionTokenError(
            f"the model's answer of {len(ids)} tokens has no {wording.opening!r} (ids {opening}), it begins with "
            f"{ids[:8]}; a model that was trained on few actions does not answer with actions yet"
        )
    codes = ids[start + len(opening) :]
    marks = set(tokenizer.encode(END, eos=True))
    end = next((i for i, one in enumerate(codes) if one in marks), len(codes))
    return codes[:end]


def _encode(tokenizer: Tokenizer, text: str) -> list[int]:
    """Like the tokenizer's, but nothing for no text: some tokenizers begin every text with a space."""
    return list(tokenizer.encode(text)) if text else []


def pad_tokens(
    ids: list[int], *, max_tokens: int, length: int | None = None, what: str = "the prompt"
) -> tuple[NDArray[np.int32], NDArray[np.bool_]]:
    """Ids and their mask, `[L]` each, padded with 0 to `length`, or to the shortest bucket that holds them.

    Ids above `max_tokens` lose their end, with a warning that says `what` they are (openpi-compatible).
    """
    if len(ids) > max_tokens:
        warnings.warn(
            f"{what} has {len(ids)} tokens, the model takes {max_tokens}: its end is cut off. Use a shorter task "
            "text or prompt, or a model variant with a larger max_tokens.",
            stacklevel=2,
        )
        ids = ids[:max_tokens]
    if length is None:
        length = min(next((b for b in BUCKETS if b >= len(ids)), max_tokens), max_tokens)
    tokens = np.zeros(length, np.int32)
    tokens[: len(ids)] = ids
    return tokens, np.arange(length) < len(ids)
