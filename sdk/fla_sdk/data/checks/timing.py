"""Time: the rate that the dataset declares, its timestamps, and the robot's own rate."""

from collections.abc import Iterator

import numpy as np

from fla_sdk.data.checks.finding import Finding
from fla_sdk.data.checks.subject import Subject

COLUMN = "timestamp"
GAP = 1.5
"""Rows this many periods apart have something missing between them."""

DRIFT = 0.01
"""Relative difference of two rates that matters."""


def rate(subject: Subject) -> Iterator[Finding]:
    """The dataset was recorded at the rate at which the robot is controlled."""
    robot, fps = subject.embodiment, subject.dataset.fps
    if robot and abs(fps - robot.control_hz) > DRIFT * robot.control_hz:
        yield Finding(
            check="rate",
            severity="warning",
            seen=f"{fps:g} rows per second",
            expected=f"{robot.control_hz:g}, the control_hz of embodiment {robot.name!r}",
            advice=f"Resample the dataset, or correct one of the two: chunks run {robot.control_hz / fps:.2f} times as "
            "fast as they were shown",
        )


def timestamps(subject: Subject) -> Iterator[Finding]:
    """Timestamps rise by one period per row, without gaps, and their mean rate is the declared one."""
    features = subject.dataset.features
    if COLUMN not in features or np.prod(features[COLUMN].shape, dtype=int) != 1:
        return
    column, period = subject.dataset.column(COLUMN), 1 / subject.dataset.fps
    backwards: list[tuple[int, int]] = []
    gaps: list[tuple[int, int, float]] = []
    elapsed: list[float] = []
    for episode in subject.readable:
        start, end = subject.bounds[episode].tolist()
        passed = np.diff(np.asarray(column[start:end], np.float64).reshape(-1))
        if not len(passed):
            continue
        elapsed.append(float(np.median(passed)))
        backwards += [(episode, int(i) + 1) for i in np.flatnonzero(~(passed > 0))]
        gaps += [(episode, int(i) + 1, float(passed[i])) for i in np.flatnonzero(passed > GAP * period)]
    typical = float(np.median(elapsed)) if elapsed else period
    if backwards:
        yield Finding(
            check="timestamps",
            severity="error",
            name=COLUMN,
            episode=backwards[0][0],
            frame=backwards[0][1],
            seen=f"{len(backwards):,} timestamps are not later than the one before",
            expected="rising timestamps",
            advice="Rows are out of order or doubled: sort them, or record the episode again",
        )
    elif abs(typical / period - 1) > DRIFT:
        yield Finding(
            check="timestamps",
            severity="warning",
            name=COLUMN,
            seen=f"rows {1000 * typical:.2f} ms apart, {1 / typical:.4g} per second",
            expected=f"{1000 * period:.2f} ms: the dataset declares {subject.dataset.fps:g} per second",
            advice="Correct the declared rate: it says how fast the robot shall move",
        )
    elif gaps:
        episode, frame, longest = max(gaps, key=lambda gap: gap[2])
        yield Finding(
            check="timestamps",
            severity="warning",
            name=COLUMN,
            episode=episode,
            frame=frame,
            seen=f"{len(gaps):,} gap{'s' * (len(gaps) > 1)}, the longest of {longest:.3f} s",
            expected=f"rows {1000 * period:.1f} ms apart",
            advice="Frames were lost while recording: resample, or leave the episodes out",
        )
