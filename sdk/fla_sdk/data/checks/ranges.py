"""What the numbers span: joint limits, units, outliers, joints that never move."""

from collections.abc import Iterator

import numpy as np

from fla_sdk.data.checks.block import STILL
from fla_sdk.data.checks.finding import Finding
from fla_sdk.data.checks.subject import Subject

SLACK = 0.02
"""Part of the limits' width by which they may be passed: sensors and controllers overshoot."""

FAR = 0.1
"""Part of the limits' width beyond which the data cannot be of this robot."""

TURNS = 4 * np.pi
"""A joint that goes beyond this, in radians, is probably in degrees."""

OUTLIER = 20.0
"""Normalized size of an outlier. Quantiles are at -1 and 1, so this is ten times the usual range away."""

CONSTANT = 0.001
"""Part of the limits' width within which a joint does not really move."""


def limits(subject: Subject) -> Iterator[Finding]:
    """Joints stay within the embodiment's limits. Grippers have a check of their own."""
    for span in subject.spans:
        field = span.dimension.field
        if span.dimension.is_gripper or field is None or field.unit == "normalized":
            continue
        reach = max(-span.low, span.high)
        episode, frame = span.lowest if -span.low > span.high else span.highest
        if field.unit == "rad" and reach > TURNS:
            yield Finding(
                check="limits",
                severity="error",
                name=f"{span.kind} {span.dimension.name}",
                episode=episode,
                frame=frame,
                seen=f"values from {span.low:.4g} to {span.high:.4g}, which look like degrees",
                expected="radians" + ("" if field.limits is None else f" from {_shown(field.limits)}"),
                advice="Convert the dataset to radians, or correct the unit of the embodiment",
            )
        elif field.limits is not None:
            width = field.limits[1] - field.limits[0]
            beyond, (episode, frame) = max(
                (field.limits[0] - span.low, span.lowest), (span.high - field.limits[1], span.highest)
            )
            if beyond > SLACK * width:
                yield Finding(
                    check="limits",
                    severity="error" if beyond > FAR * width else "warning",
                    name=f"{span.kind} {span.dimension.name}",
                    episode=episode,
                    frame=frame,
                    seen=f"values from {span.low:.4g} to {span.high:.4g} {field.unit}",
                    expected=f"{_shown(field.limits)} {field.unit}, the limits of the embodiment",
                    advice="Check unit, sign and zero of the joint in the dataset, or the limits of the embodiment",
                )


def outliers(subject: Subject) -> Iterator[Finding]:
    """No number lies so far outside the usual range that normalization would blow it up."""
    for span in subject.spans:
        if span.dimension.is_gripper and span.q99 - span.q01 <= STILL:
            continue  # one that hardly ever opens is no fault, and statistics give it a range of its own
        half = max(span.q99 - span.q01, STILL) / 2
        middle = (span.q01 + span.q99) / 2
        size, (episode, frame) = max((middle - span.low, span.lowest), (span.high - middle, span.highest))
        if size / half > OUTLIER and size > 10 * STILL:
            yield Finding(
                check="outliers",
                severity="warning",
                name=f"{span.kind} {span.dimension.name}",
                episode=episode,
                frame=frame,
                seen=f"values from {span.low:.4g} to {span.high:.4g}; normalized, the farthest is {size / half:.0f}",
                expected=f"about {span.q01:.4g} to {span.q99:.4g}, where 98 % of the values are",
                advice="Look at the episode; mend or leave it out if it is a fault of the sensor",
            )


def constant(subject: Subject) -> Iterator[Finding]:
    """Every joint moves somewhere; what never moves cannot be learned."""
    for span in subject.spans:
        limits = span.dimension.field.limits if span.dimension.field else None
        smallest = max(STILL, CONSTANT * (limits[1] - limits[0]) if limits else 0.0)
        if span.high - span.low < smallest and sum(int(np.diff(subject.bounds[e])[0]) for e in subject.sound) > 1:
            yield Finding(
                check="constant",
                severity="note",
                name=f"{span.kind} {span.dimension.name}",
                seen=f"always {(span.low + span.high) / 2:.4g}",
                expected="a dimension that moves" + (f", within {_shown(limits)}" if limits else ""),
                advice="Fine if this robot holds it still; otherwise the column was not recorded",
            )


def _shown(limits: tuple[float, float]) -> str:
    return f"{limits[0]:.4g} to {limits[1]:.4g}"
