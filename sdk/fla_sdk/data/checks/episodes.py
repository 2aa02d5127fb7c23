"""Episodes that are too short, doubled, or also in the data that a policy is tested on."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from fla_sdk.data.checks.block import Block
from fla_sdk.data.checks.finding import Finding
from fla_sdk.data.checks.subject import Subject

SHORT = 0.2
"""Part of the median length below which an episode was probably cut off."""

SAME = 0.9
"""Part of an episode's rows that another must have for the two to be one recording."""

FEW = 2
"""Different rows that an episode needs before it can be told from another."""


def short(subject: Subject, horizon: int | None) -> Iterator[Finding]:
    """Episodes hold a movement; and, where a horizon is given, a whole chunk."""
    lengths = np.diff(subject.bounds, axis=1)[subject.readable, 0]
    if not len(lengths):
        return
    middle = float(np.median(lengths))
    least = max(2.0, SHORT * middle if middle >= 10 else 0.0)
    if lengths.min() < least:
        yield Finding(
            check="short episodes",
            severity="warning",
            episode=subject.readable[int(lengths.argmin())],
            seen=f"{int((lengths < least).sum()):,} very short episodes, the shortest of {_rows(lengths.min())}",
            expected=f"about {middle:.0f} rows, as the others have" if least > 2 else "at least 2 rows",
            advice="Leave them out if they were broken off",
        )
    elif horizon is not None and lengths.min() < horizon:
        yield Finding(
            check="short episodes",
            severity="note",
            episode=subject.readable[int(lengths.argmin())],
            seen=f"{int((lengths < horizon).sum()):,} episodes are shorter than a chunk, the shortest has "
            f"{_rows(lengths.min())}",
            expected=f"at least {horizon} rows",
            advice="All chunks of them are cut short: choose a shorter horizon, or leave them out",
        )


def _rows(count: int) -> str:
    return f"{count} row{'' if count == 1 else 's'}"


def doubled(subject: Subject) -> Iterator[Finding]:
    """No episode is in the dataset twice."""
    marks, episodes = _marks(subject)
    order = np.argsort(marks, kind="stable")
    marks, episodes = marks[order], episodes[order]
    # Each mark is there once per episode, so neighbours that are equal belong to different episodes, in order.
    again = np.flatnonzero(marks[1:] == marks[:-1]) + 1
    yield from _same(
        subject,
        earlier=episodes[again - 1],
        later=episodes[again],
        everyone=episodes,
        check="doubled episodes",
        severity="warning",
        what="also in this dataset",
        advice="Leave the copies out: they weigh double, and may end up on both sides of a split",
    )


def leaked(subject: Subject, against: Subject) -> Iterator[Finding]:
    """No episode is also in the other dataset."""
    marks, episodes = _marks(subject)
    other, other_episodes = _marks(against)
    if not len(other):
        return
    order = np.argsort(other, kind="stable")
    other, other_episodes = other[order], other_episodes[order]
    place = np.minimum(np.searchsorted(other, marks), len(other) - 1)
    shared = other[place] == marks
    yield from _same(
        subject,
        earlier=other_episodes[place][shared],
        later=episodes[shared],
        everyone=episodes,
        check="leakage",
        severity="error",
        what=f"also in {against.dataset.path}",
        advice="Take them out of one of the two: what is measured on data that was trained on says nothing",
    )


def _same(
    subject: Subject,
    *,
    earlier: NDArray[np.int64],
    later: NDArray[np.int64],
    everyone: NDArray[np.int64],
    check: str,
    severity: str,
    what: str,
    advice: str,
) -> Iterator[Finding]:
    """A finding when enough rows of an episode are shared."""
    size = np.bincount(everyone, minlength=len(subject.bounds))
    shared = np.bincount(later, minlength=len(subject.bounds))
    found = np.flatnonzero((size >= FEW) & (shared >= SAME * size))
    if len(found):
        first = int(found[0])
        twin = int(np.bincount(earlier[later == first]).argmax())
        yield Finding(
            check=check,
            severity="error" if severity == "error" else "warning",
            episode=first,
            seen=f"{len(found):,} of {len(subject.sound):,} episodes are {what}, this one as episode {twin}",
            expected="episodes that were recorded once and used once",
            advice=advice,
        )


def _marks(subject: Subject) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
    """`[M]` one number per different row of each episode, from state and action; and the episode that it is of."""
    marks: list[NDArray[np.uint64]] = []
    episodes: list[NDArray[np.int64]] = []
    for block in subject.blocks():
        numbers = _hashes(block)
        order = np.lexsort((numbers, block.episode))
        numbers, episode = numbers[order], block.episode[order]
        new = np.ones(len(numbers), np.bool_)
        new[1:] = (numbers[1:] != numbers[:-1]) | (episode[1:] != episode[:-1])
        marks.append(numbers[new])
        episodes.append(episode[new])
    if not marks:
        return np.zeros(0, np.uint64), np.zeros(0, np.int64)
    return np.concatenate(marks), np.concatenate(episodes)


def _hashes(block: Block) -> NDArray[np.uint64]:
    """`[n]`: equal for rows that are equal as float32, whatever type they are stored in; and for hardly any others."""
    values = np.concatenate([block.state, block.action], axis=1).astype(np.float32) + np.float32(0)  # -0 is 0
    factors = np.random.default_rng(0).integers(1, 2**63, values.shape[1], dtype=np.uint64) | np.uint64(1)
    bits = values.view(np.uint32).astype(np.uint64)
    bits = (bits ^ (bits >> np.uint64(15))) * np.uint64(0x9E3779B97F4A7C15)  # spreads bits that neighbours share
    bits ^= bits >> np.uint64(31)
    return (bits * factors).sum(axis=1, dtype=np.uint64)
