"""Which episodes are trained on and which are held out: the same choice wherever it is made."""

import hashlib
from collections.abc import Sequence
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from fla_sdk.errors import ConfigError, UnknownNameError

By = Literal["episode", "task"]


def held_out(
    episode_bounds: NDArray[np.int64], tasks: Sequence[str], fraction: float, by: By = "episode", seed: int = 0
) -> NDArray[np.bool_]:
    """`[E]`: which episodes are held out, of a dataset with these `[E, 2]` bounds and one task per episode.

    `fraction` of the episodes, or of the tasks with all their episodes; at least one and never all, and none for 0.
    The choice depends on the seed and on the episode's number or the task's text alone, on every machine: a task that
    is held out of one dataset comes early among those held out of another. Raises `ConfigError`.
    """
    if by not in get_args(By):
        raise UnknownNameError("way to hold out", by, get_args(By))
    if not 0 <= fraction < 1:
        raise ConfigError(f"the share to hold out is {fraction!r}, but must be at least 0 and below 1, such as 0.1")
    names = [str(number) for number in range(len(episode_bounds))] if by == "episode" else list(tasks)
    distinct = sorted(set(names), key=lambda name: hashlib.blake2b(f"{seed} {name}".encode()).digest())
    if fraction == 0:
        return np.zeros(len(names), np.bool_)
    if len(distinct) < 2:
        raise ConfigError(f"cannot hold out a share of {len(distinct)} {by}s; there must be 2 at least")
    count = min(max(round(fraction * len(distinct)), 1), len(distinct) - 1)
    return np.isin(np.array(names), distinct[:count])


def parse_episodes(text: str, total: int | None = None) -> NDArray[np.int64]:
    """`"0:40,45"` -> the numbers 0 to 39 and 45, rising; `"40:"` goes on to the `total` of episodes, where it is known.

    Raises `ConfigError` for anything else, and for episodes from `total` on.
    """
    chosen: set[int] = set()
    for part in text.split(","):
        first, colon, last = part.strip().partition(":")
        if colon and not last and total is not None:
            last = str(total)
        if not first.isdecimal() or (colon and not last.isdecimal()):
            raise ConfigError(f"episodes {text!r}: {part.strip()!r} is neither a number nor a range such as 0:40")
        numbers = range(int(first), int(last) if colon else int(first) + 1)
        if not numbers:
            raise ConfigError(f"episodes {text!r}: the range {part.strip()!r} is empty (its end is not part of it)")
        if total is not None and numbers[-1] >= total:
            raise ConfigError(
                f"episodes {text!r}: there is no episode {numbers[-1]} (the dataset has 0 to {total - 1})"
            )
        chosen.update(numbers)
    return np.array(sorted(chosen), np.int64)
