"""How actions and states belong together: steps or positions, copies, delays, offsets."""

from collections import defaultdict
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from fla_sdk.data.checks.block import STILL, Dimension, Floats
from fla_sdk.data.checks.finding import Finding
from fla_sdk.data.checks.subject import Subject

FOLLOWS = 0.7
"""Correlation from which one signal is taken to be another."""

CLEARER = 0.3
"""How much higher it must be than that of the other explanation."""

ENOUGH = 100
"""Rows from which a correlation says something."""

LATE_S = 0.3
"""Longest usual delay from a command to the movement, in seconds."""

WINDOW_S = 1.0
"""Longest delay that is looked for."""

OFFSET = 0.1
"""Part of a joint's range by which a resting robot may differ from its command."""


def copied(subject: Subject) -> Iterator[Finding]:
    """Actions are not the states of the same moment: from such data a policy learns to stay."""
    sample = subject.sample
    moving = [(a.index, s.index) for a, s in subject.pairs if len(sample) and np.ptp(sample.state[:, s.index]) > STILL]
    if moving and all(np.abs(sample.action[:, a] - sample.state[:, s]).max() < STILL / 10 for a, s in moving):
        yield Finding(
            check="copied",
            severity="error",
            seen="every action is the state of the same row",
            expected="actions that say where to go next",
            advice="Record the commands, or take the state of the next row as the action",
        )


def representation(subject: Subject) -> Iterator[Finding]:
    """Actions are what the embodiment declares: positions, or steps, or rates.

    A position looks like the next state; a step or a rate looks like the difference to it, and its size tells which.
    """
    wrong: defaultdict[tuple[str, str], list[str]] = defaultdict(list)
    judged: defaultdict[str, int] = defaultdict(int)
    for action, state in subject.pairs:
        field = action.field
        if field is None or action.is_gripper or field.rotation or (state.field and state.field.rotation):
            continue
        if (looks := _looks_like(subject, action, state)) is None:
            continue
        judged[field.representation] += 1
        # Their size tells steps from rates, but only in the unit of the state.
        comparable = "absolute" in (looks, field.representation) or state.unit == field.unit.removesuffix("/s")
        if looks != field.representation and comparable:
            wrong[field.representation, looks].append(action.name)
    words = {"absolute": "positions", "delta": "steps", "velocity": "rates"}
    for (declared, looks), names in wrong.items():
        if 2 * len(names) < judged[declared]:
            continue
        twice = declared == "absolute" and any(
            a.field and a.field.predict == "relative" for a, _ in subject.pairs if a.name in names
        )
        yield Finding(
            check="representation",
            severity="error",
            name=", ".join(names),
            seen=f"actions that look like {words[looks]}"
            + (", from which training would subtract the state once more" if twice else ""),
            expected=f"{words[declared]} (representation={declared!r})",
            advice=f"Declare representation={looks!r} in the embodiment, or convert the actions",
        )


def delay(subject: Subject) -> Iterator[Finding]:
    """The robot follows its actions, and soon."""
    fps = subject.dataset.fps
    late: defaultdict[int, list[str]] = defaultdict(list)
    for action, state in subject.pairs:
        if (action.field and action.field.representation != "absolute") or action.is_gripper:
            continue
        lag = follow_lag(subject, action, state)
        if lag is not None and (lag < 0 or lag > max(LATE_S * fps, 2)):
            late[lag].append(action.name)
    for lag, names in sorted(late.items()):
        ahead = lag < 0
        frames = f"{abs(lag)} frame{'s' * (abs(lag) > 1)} ({1000 * abs(lag) / fps:.0f} ms)"
        yield Finding(
            check="delay",
            severity="warning",
            name=", ".join(names),
            seen=f"the robot moves {frames} {'before' if ahead else 'after'} its actions",
            expected=f"after them, within {1000 * LATE_S:.0f} ms",
            advice=(
                "Shift the actions to earlier rows"
                if ahead
                else "Check the clocks of leader and robot; or the robot is slow, and chunks must be executed as slowly"
            ),
        )


def offset(subject: Subject) -> Iterator[Finding]:
    """Where the robot rests, it rests where its action says: leader and follower have the same zero."""
    sample = subject.sample
    for action, state in subject.pairs:
        comparable = action.unit == state.unit and (action.field is None or action.field.representation == "absolute")
        if not comparable or action.is_gripper or len(sample) < 2:
            continue
        a, s = sample.action[:, action.index], sample.state[:, state.index]
        resting = np.abs(np.diff(s)) < STILL
        resting &= (np.abs(np.diff(a)) < STILL) & sample.pairs()
        if (action.field is None and _correlation(a, s) < FOLLOWS) or resting.sum() < 20:
            continue
        low, middle, high = np.quantile((a - s)[:-1][resting], [0.05, 0.5, 0.95])
        spread = max(float(np.quantile(s, 0.99) - np.quantile(s, 0.01)), 10 * STILL)
        if (low > 0 or high < 0) and abs(middle) > max(OFFSET * spread, 10 * STILL):
            yield Finding(
                check="offset",
                severity="warning",
                name=action.name,
                seen=f"at rest the action differs from the state by {middle:.4g} {action.unit}".rstrip(),
                expected=f"less than {OFFSET * spread:.2g}, a tenth of what the joint covers",
                advice="Calibrate leader and robot to the same zero, or correct the column",
            )


def follow_lag(subject: Subject, action: Dimension, state: Dimension) -> int | None:
    """After how many rows the state moves as the action did, from their steps; None when that is not clear."""
    window = max(round(WINDOW_S * subject.dataset.fps), 2)
    sample = subject.sample
    within = sample.pairs() if len(sample) else np.zeros(0, np.bool_)
    if within.sum() < max(ENOUGH, 4 * window):
        return None
    # Zeros between episodes, so that a shift never compares one with the next.
    place = (np.arange(len(within)) + window * np.cumsum(np.diff(sample.episode) != 0))[within]
    signals = np.zeros((5, int(place[-1]) + window + 1))
    a, s = (np.diff(x)[within] for x in (sample.action[:, action.index], sample.state[:, state.index]))
    a, s = a - a.mean(), s - s.mean()
    if min(np.abs(a).max(), np.abs(s).max()) < STILL:
        return None
    signals[:, place] = a, s, a**2, s**2, np.ones(len(a))
    first, second, first_energy, second_energy, there = np.fft.rfft(signals, 2 * signals.shape[1])

    def shifted(x: NDArray[np.complex128], y: NDArray[np.complex128]) -> Floats:
        """Sum of `x * y` for each lag from `-window` to `window`."""
        sums = np.fft.irfft(x.conj() * y)
        return np.concatenate([sums[-window:], sums[: window + 1]])

    energy = np.sqrt(np.maximum(shifted(first_energy, there) * shifted(there, second_energy), STILL**4))
    scores = np.where(shifted(there, there) < ENOUGH, 0, shifted(first, second) / energy)
    best = int(scores.argmax())
    return best - window if scores[best] > FOLLOWS else None


def _looks_like(subject: Subject, action: Dimension, state: Dimension) -> str | None:
    sample = subject.sample
    within = sample.pairs() if len(sample) else np.zeros(0, np.bool_)
    if within.sum() < ENOUGH:
        return None
    a = sample.action[:-1, action.index][within]
    before, after = sample.state[:-1, state.index][within], sample.state[1:, state.index][within]
    steps = after - before
    moving = np.abs(steps) > STILL
    if moving.sum() < ENOUGH // 4:
        return None
    as_position, as_step = _correlation(a, after), _correlation(a, steps)
    if as_position > FOLLOWS and as_position > as_step + CLEARER:
        return "absolute"
    if as_step > FOLLOWS and as_step > as_position + CLEARER:
        slope = float(a[moving] @ steps[moving] / (steps[moving] @ steps[moving]))
        fps = subject.dataset.fps
        return "velocity" if abs(np.log(max(slope, 1e-9) / fps)) < abs(np.log(max(slope, 1e-9))) else "delta"
    return None


def _correlation(a: Floats, b: Floats) -> float:
    a, b = a - a.mean(), b - b.mean()
    scale = float(np.sqrt((a @ a) * (b @ b)))
    return float(a @ b) / scale if scale > 0 else 0.0
