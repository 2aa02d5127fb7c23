"""How the robot moves: jumps, and time in which nothing happens."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from fla_sdk.data.checks.block import STILL, Bools, Floats
from fla_sdk.data.checks.finding import Finding
from fla_sdk.data.checks.subject import Subject

JUMP = 4.0
"""A step is a jump when it is this many times longer than 95 % of the joint's steps."""

JUMP_RANGE = 0.1
"""And longer than this part of what the joint covers."""

REST_S = 1.0
"""Seconds without any change after which the robot is idle."""

IDLE = 0.3
"""Largest share of idle rows that is usual."""


def jumps(subject: Subject) -> Iterator[Finding]:
    """Measured joints move continuously: no lost rows, glitches or angles that wrap around.

    The threshold is the joint's own: it comes from its steps while it moves. Grippers and rotations are left out: the
    first may snap, and the numbers of the second jump where their formats do.
    """
    usual = _usual_steps(subject)
    longest = np.maximum(JUMP * usual, np.maximum(JUMP_RANGE * subject.ranges, 10 * STILL))
    count = np.zeros(len(subject.state), np.int64)
    worst: dict[int, tuple[float, float, int, int]] = {}
    for block in subject.blocks():
        steps = block.steps(block.state)
        jumped = np.abs(steps) > longest
        count += jumped.sum(axis=0)
        for i in np.flatnonzero(jumped.any(axis=0)).tolist():
            row = int(np.abs(steps[:, i]).argmax())
            size = float(steps[row, i])
            if i not in worst or abs(size) > abs(worst[i][0]):
                worst[i] = (size, float(block.state[row, i]), int(block.episode[row]), int(block.frame[row]) + 1)
    for i, (size, before, episode, frame) in sorted(worst.items()):
        dimension = subject.state[i]
        if dimension.is_gripper or (dimension.field and dimension.field.rotation):
            continue
        wraps = dimension.unit in ("rad", "") and abs(abs(size) - 2 * np.pi) < 0.5
        often = "once" if count[i] == 1 else f"{count[i]:,} times"
        yield Finding(
            check="jumps",
            severity="warning",
            name=f"state {dimension.name}",
            episode=episode,
            frame=frame,
            seen=f"it jumps {often}, farthest from {before:.4g} to {before + size:.4g} in one row"
            + (": the angle wraps around" if wraps else ""),
            expected=f"steps like the others, of which 95 % are below {usual[i]:.4g}",
            advice="Unwrap the angle" if wraps else "Look for lost rows or a glitch, and leave the episode out",
        )


def idle(subject: Subject) -> Iterator[Finding]:
    """Episodes do not consist of waiting."""
    rest = max(round(REST_S * subject.dataset.fps), 2)
    rows = resting = 0
    longest, place = 0, (0, 0)
    for block in subject.blocks():
        if not block.state.shape[1] + block.action.shape[1]:
            return
        begin, length = _still_runs(_still(block.state) & _still(block.action) & block.pairs())
        long = length >= rest
        rows, resting = rows + len(block), resting + int(length[long].sum())
        if long.any() and length.max() > longest:
            row = int(begin[length.argmax()])
            longest, place = int(length.max()), (int(block.episode[row]), int(block.frame[row]))
    if rows and resting > IDLE * rows:
        yield Finding(
            check="idle",
            severity="warning",
            episode=place[0],
            frame=place[1],
            seen=(
                f"in {100 * resting / rows:.0f} % of the time nothing moves for {REST_S:g} s or more, at most for "
                f"{longest / subject.dataset.fps:.1f} s"
            ),
            expected=f"at most {100 * IDLE:.0f} %",
            advice="Train with --skip-idle, or cut the waiting out: a policy learns to wait too",
        )


def _usual_steps(subject: Subject) -> Floats:
    """`[S]`: the 95th percentile of each joint's steps while it moves; infinite where it hardly ever does."""
    steps = np.abs(subject.sample.steps(subject.sample.state))
    moving: list[Floats] = [column[column > STILL] for column in steps.T]
    return np.array([float(np.quantile(column, 0.95)) if len(column) > 20 else np.inf for column in moving])


def _still(values: Floats) -> Bools:
    """`[n - 1]`: whether nothing changes from a row to the next."""
    return np.all(np.abs(np.diff(values, axis=0)) < STILL, axis=1)


def _still_runs(still: Bools) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """First index and length of each run of True."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], still, [False]]).astype(np.int8)))
    return edges[::2], edges[1::2] - edges[::2]
