"""Grippers: do the numbers mean what the unit says."""

from collections.abc import Iterator

import numpy as np

from fla_sdk.data.checks.block import GRIPPER_UNITS, Dimension, Floats, Span
from fla_sdk.data.checks.finding import Finding
from fla_sdk.data.checks.subject import Subject

OPENS = {"open_fraction": 1, "open_percent": 1, "open_command": 1, "closed_fraction": -1, "close_command": -1}
"""Unit -> whether it grows (1) or falls (-1) when the gripper opens."""

OPPOSED = -0.5
"""Correlation of commanded and measured opening from which they contradict each other."""

ENOUGH = 100
"""Rows from which a correlation says something."""

DELAY_S = 1.0
"""Time that a gripper may need to follow its command."""

RANGE = {
    "open_fraction": (0.0, 1.0),
    "closed_fraction": (0.0, 1.0),
    "open_command": (-1.0, 1.0),
    "close_command": (-1.0, 1.0),
}

SLACK = 0.1
"""By how much values may leave their range: a squeezed object and the calibration take their share."""

FAR = 0.5
"""Beyond this it is another unit."""


def gripper_range(subject: Subject) -> Iterator[Finding]:
    """Values fit the unit: a fraction is no percentage, no metres, and no command from -1 to 1."""
    for span in subject.spans:
        unit = span.dimension.unit
        if unit in GRIPPER_UNITS and (looks := _other_scale(span)):
            low, high = RANGE[unit]
            farther, (episode, frame) = max((low - span.low, span.lowest), (span.high - high, span.highest))
            yield Finding(
                check="gripper range",
                severity="error" if farther > FAR or span.low < low - FAR else "warning",
                name=f"{span.kind} {span.dimension.name}",
                episode=episode,
                frame=frame,
                seen=f"values from {span.low:.4g} to {span.high:.4g}, which look like {looks}",
                expected=f"{unit}, {low:g} to {high:g}",
                advice="Convert the column, or give the embodiment the right unit and limits",
            )


def gripper_polarity(subject: Subject) -> Iterator[Finding]:
    """The gripper opens when the action says open. Needs the units of an embodiment."""
    for action in subject.action:
        if action.unit not in OPENS or (state := _measured(subject, action)) is None:
            continue
        commanded = OPENS[action.unit] * subject.sample.action[:, action.index]
        measured = OPENS[state.unit] * subject.sample.state[:, state.index]
        agreement = _agreement(subject, commanded, measured)
        if agreement < OPPOSED:
            yield Finding(
                check="gripper polarity",
                severity="error",
                name=action.name,
                seen=f"the gripper closes when the action says open (correlation {agreement:.2f})",
                expected=f"an action in {action.unit} and a state in {state.unit} that open together",
                advice="Turn one column around (1 - x), or correct the unit in the embodiment: a policy would let go "
                "where it should hold",
            )


def _measured(subject: Subject, action: Dimension) -> Dimension | None:
    """The state of this gripper: of the same name, or the only one of a gripper's unit."""
    known = [s for s in subject.state if s.unit in OPENS]
    named = [s for s in known if s.name == action.name]
    return named[0] if named else known[0] if len(known) == 1 else None


def _agreement(subject: Subject, commanded: Floats, measured: Floats) -> float:
    """The strongest correlation, of either sign, at any delay that a gripper may have; 0 when one never moves."""
    if len(commanded) < 2 or min(np.ptp(commanded), np.ptp(measured)) < SLACK:
        return 0.0
    best = 0.0
    for lag in range(min(round(DELAY_S * subject.dataset.fps) + 1, len(commanded))):
        same = subject.sample.pairs(lag)
        a, b = commanded[: len(commanded) - lag][same], measured[lag:][same]
        if len(a) >= ENOUGH and min(np.ptp(a), np.ptp(b)) > SLACK:
            found = float(np.corrcoef(a, b)[0, 1])
            best = found if abs(found) > abs(best) else best
    return best


def _other_scale(span: Span) -> str:
    """What the values look like instead; empty when they fit their unit."""
    low, high = RANGE[span.dimension.unit]
    reach = max(-span.low, span.high)
    if low == 0 and -1 - SLACK <= span.low < -FAR and span.high <= high + SLACK:
        return "a command from -1 to 1"
    if span.low < low - SLACK or span.high > high + SLACK:
        return "0 to 255" if reach > 110 else "percent" if reach > 10 else "an angle or another calibration"
    if low < 0 and span.low >= -SLACK and span.high > FAR:
        return "a fraction from 0 to 1"
    if low == 0 and span.high < 0.15 and span.high - span.low > 0.01:
        return "metres"
    return ""
