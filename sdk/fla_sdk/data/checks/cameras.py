"""Cameras: pictures that are missing, blank, frozen, repeated, swapped or in the wrong order of colours."""

from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from fla_sdk.data.checks.finding import Finding
from fla_sdk.data.checks.subject import Subject
from fla_sdk.data.checks.views import Glimpse, Image, View, camera_key

LEVELS = 8
"""Grey levels that compression may add to a picture in which nothing happens."""

CHANGED = 2e-4
"""Part of the pixels that must change by more for two pictures to be different."""

DARK = 12
"""Mean grey level up to which a picture is black."""

FLAT = 2.0
"""Deviation of the grey levels up to which a picture shows nothing."""

REPEATS = 0.75
"""Share of repeated pictures, of a robot in motion, from which a camera is slower than the dataset claims."""

STALE = 0.2
"""A picture that changes this much less than the next is the one before; compression is what changes in it."""

SWAPPED = 0.6
"""Colours are swapped when that brings them this much closer to the reference."""

DISTINCT = 0.1
"""Difference of the colours from which they can be compared at all."""


def missing(subject: Subject) -> Iterator[Finding]:
    """The dataset has the cameras that the embodiment requires."""
    for camera in subject.embodiment.cameras if subject.embodiment else ():
        if camera.slot is not None and camera.required and camera_key(subject.dataset, camera) is None:
            has = [key for key, feature in subject.dataset.features.items() if feature.is_camera]
            yield Finding(
                check="cameras",
                severity="error",
                name=camera.name,
                seen=f"no such camera; the dataset has {', '.join(has) or 'none'}",
                expected=f"one of {', '.join(camera.keys)}",
                advice="Add the dataset's key to the camera's aliases, or set required=False",
            )


def unreadable(view: View) -> Iterator[Finding]:
    """Frames can be read."""
    if view.unreadable or view.damaged:
        first = view.damaged[0] if view.damaged else None
        yield Finding(
            check="unreadable frames",
            severity="error" if first else "warning",
            name=view.key,
            episode=first.episode if first else None,
            seen=f"{first} ({len(view.damaged)} of the episodes that were looked at)" if first else view.unreadable,
            expected="frames that can be decoded",
            advice="Copy or download the files again, or leave the episodes out",
        )


def blank(view: View) -> Iterator[Finding]:
    """Pictures show something."""
    yield from _in_episodes(
        view,
        [g for g in view.glimpses if all(_is_blank(image) for image in (g.first, g.far, g.fast))],
        among=view.glimpses,
        check="blank camera",
        seen="black or blank pictures",
        expected="pictures of the scene",
        advice="Check that the camera was plugged in and open; leave these episodes out, or the camera",
    )


def frozen(view: View) -> Iterator[Finding]:
    """Pictures change when the robot moves."""
    moved = [g for g in view.glimpses if g.moved and not _is_blank(g.first)]
    yield from _in_episodes(
        view,
        [g for g in moved if _same(g.first, g.far) and _same(g.first, g.fast)],
        among=moved,
        check="frozen camera",
        seen="pictures that do not change while the robot moves",
        expected="pictures of the moment",
        advice="The camera or its recording hung: leave these episodes out",
    )


def repeated(view: View) -> Iterator[Finding]:
    """Each row has a picture of its own."""
    moving = [g for g in view.glimpses if g.moving and not _same(g.fast, g.following[1])]
    again = [g for g in moving if _repeats(g)]
    if len(moving) >= 4 and len(again) >= REPEATS * len(moving):
        yield Finding(
            check="repeated frames",
            severity="warning",
            name=view.key,
            episode=again[0].episode,
            frame=again[0].frames[2],
            seen=f"the same picture twice in {len(again)} of {len(moving)} moments of fast movement",
            expected="a new picture in every row",
            advice="The camera is slower than the dataset's rate: record at its rate, or expect late reactions",
        )


def same_view(views: Sequence[View]) -> Iterator[Finding]:
    """Two cameras show two things."""
    for i, one in enumerate(views):
        for other in views[:i]:
            shared = {g.episode: g for g in other.glimpses}
            both = [(g, shared[g.episode]) for g in one.glimpses if g.episode in shared and not _is_blank(g.first)]
            if both and all(a.far.shape == b.far.shape and _same(a.far, b.far) for a, b in both):
                yield Finding(
                    check="same view",
                    severity="error",
                    name=one.key,
                    seen=f"the pictures of {other.key}",
                    expected="pictures of another camera",
                    advice="Check which device each camera was opened on",
                )


def colours(view: View, reference: Sequence[Image]) -> Iterator[Finding]:
    """Red and blue are not swapped, judged by pictures of the same scene."""
    if not view.glimpses or not reference:
        return
    known = _histogram(reference)
    ours = _histogram([image for g in view.glimpses for image in (g.first, g.far)])
    as_is, swapped = np.abs(ours - known).sum() / 6, np.abs(ours[::-1] - known).sum() / 6
    if as_is > DISTINCT and swapped < SWAPPED * as_is:
        yield Finding(
            check="swapped colours",
            severity="error",
            name=view.key,
            seen=f"colours that differ from the reference by {as_is:.2f}, and with red and blue swapped by "
            f"{swapped:.2f}",
            expected="RGB, as the reference",
            advice="Convert the frames from BGR to RGB where they are recorded",
        )


PER_VIEW: tuple[Callable[[View], Iterator[Finding]], ...] = (unreadable, blank, frozen, repeated)


def _in_episodes(
    view: View, found: Sequence[Glimpse], *, among: Sequence[Glimpse], check: str, seen: str, expected: str, advice: str
) -> Iterator[Finding]:
    if found:
        yield Finding(
            check=check,
            severity="error" if len(found) == len(among) else "warning",
            name=view.key,
            episode=found[0].episode,
            seen=f"{seen}, in {len(found)} of the {len(among)} episodes that were looked at",
            expected=expected,
            advice=advice,
        )


def _is_blank(image: Image) -> bool:
    return bool(image.mean() <= DARK and np.quantile(image, 0.999) <= 3 * DARK) or bool(image.std() <= FLAT)


def _same(a: Image, b: Image) -> bool:
    return bool((np.abs(a.astype(np.int16) - b).max(axis=-1) > LEVELS).mean() < CHANGED)


def _repeats(glimpse: Glimpse) -> bool:
    """Whether one of two equally long movements is missing from the pictures."""
    first, second = (np.abs(a.astype(np.int16) - b).mean() for a, b in pairwise((glimpse.fast, *glimpse.following)))
    return bool(min(first, second) < STALE * max(first, second))


def _histogram(images: Sequence[Image]) -> NDArray[np.float64]:
    """`[3, 32]`: how often each brightness occurs in red, green and blue; each sums to 1."""
    counts = np.zeros((3, 32))
    for image in images:
        for channel in range(3):
            found = np.bincount(image[..., channel].ravel() // 8, minlength=32)
            counts[channel] += found / found.sum()
    return counts / len(images)
