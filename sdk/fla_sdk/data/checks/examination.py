"""`Examination`: every check over one dataset, and what they looked at."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import attrs
import numpy as np

from fla_sdk.data.checks import cameras, damage, episodes, gripper, motion, pairing, ranges, tasks, timing
from fla_sdk.data.checks.block import Span
from fla_sdk.data.checks.finding import SEVERITIES, Finding
from fla_sdk.data.checks.subject import Subject
from fla_sdk.data.checks.views import Image, View, chosen_episodes, look, thinned
from fla_sdk.data.checks.views import cameras as camera_keys
from fla_sdk.data.dataset import Dataset
from fla_sdk.embodiment import Embodiment
from fla_sdk.errors import ConfigError
from fla_sdk.terminal import progress

FRAMES = 64
"""Frames that are decoded of each camera unless the caller says otherwise."""

CHECKS: tuple[Callable[[Subject], Iterator[Finding]], ...] = (
    damage.damaged,
    damage.columns,
    damage.finite,
    ranges.limits,
    ranges.outliers,
    ranges.constant,
    gripper.gripper_range,
    gripper.gripper_polarity,
    motion.jumps,
    motion.idle,
    pairing.copied,
    pairing.representation,
    pairing.delay,
    pairing.offset,
    timing.rate,
    timing.timestamps,
    tasks.tasks,
    episodes.doubled,
    cameras.missing,
)
"""Those that need no picture and nothing to compare with."""


@attrs.frozen(kw_only=True, eq=False)
class Examination:
    """What the checks found, and what they looked at."""

    subject: Subject
    findings: tuple[Finding, ...]
    """Worst first."""

    spans: tuple[Span, ...]
    views: tuple[View, ...]

    def tree(self) -> dict[str, Any]:
        """Plain values for JSON. Keys are only ever added; `version` changes when one is not."""
        dataset, robot = self.subject.dataset, self.subject.embodiment
        counts = {kind: sum(finding.severity == kind for finding in self.findings) for kind in SEVERITIES}
        return {
            "version": 1,
            "dataset": str(dataset.path),
            "embodiment": robot.name if robot else None,
            "episodes": len(dataset.episode_bounds),
            "rows": len(dataset),
            "counts": counts,
            "findings": [attrs.asdict(finding) for finding in self.findings],
            "numbers": [
                {
                    "kind": span.kind,
                    "name": span.dimension.name,
                    "unit": span.dimension.unit or None,
                    **{name: getattr(span, name) for name in ("low", "q01", "q99", "high", "coverage")},
                }
                for span in self.spans
            ],
        }


def examine(
    dataset: Dataset,
    embodiment: Embodiment | None = None,
    *,
    against: Dataset | None = None,
    reference: Dataset | Image | None = None,
    horizon: int | None = None,
    frames: int = FRAMES,
    show: bool = False,
) -> Examination:
    """Run every check; `show` prints progress.

    `embodiment` brings units, limits and the meaning of actions. `against` is a dataset that must have no episode in
    common with this one, such as the one to test on. `reference` has the right colours: a dataset with the same
    cameras, or a picture `[H, W, 3]` of the scene. `horizon` is the length of the chunks to be learned. At most
    `frames` frames of each camera are decoded, and none when it is 0.

    Raises `DataError` when the dataset has no state or action of the embodiment's width, `ConfigError` for numbers
    that make no sense.
    """
    if frames < 0 or (horizon is not None and horizon < 1):
        raise ConfigError(f"frames is {frames} and must be at least 0; horizon is {horizon} and must be at least 1")
    subject = Subject(dataset, embodiment)
    other = None if against is None else Subject(against, embodiment)
    keys = camera_keys(dataset, embodiment) if frames else ()
    pictures = len(keys) * len(chosen_episodes(subject, frames))
    with _progress(len(CHECKS) + pictures, show=show) as advance:
        findings: list[Finding] = []
        for one in CHECKS:
            findings += one(subject)
            advance()
        findings += episodes.short(subject, horizon)
        if against is not None and other is not None:
            findings += episodes.leaked(subject, other)
            findings += tasks.task_numbers(subject, against)
        views = tuple(look(subject, key, frames=frames, seen=advance) for key in keys)
    for view in views:
        findings += [finding for one in cameras.PER_VIEW for finding in one(view)]
        findings += cameras.colours(view, _reference(reference, view.key, frames))
    findings += cameras.same_view(views)
    ordered = sorted(findings, key=lambda finding: SEVERITIES.index(finding.severity))
    return Examination(subject=subject, findings=tuple(ordered), spans=subject.spans, views=views)


def check(dataset: Dataset, embodiment: Embodiment | None = None, **options: Any) -> tuple[Finding, ...]:
    """The findings of `examine`, worst first; empty for a dataset that is fit to be learned from."""
    return examine(dataset, embodiment, **options).findings


def _progress(total: int, *, show: bool) -> AbstractContextManager[Callable[..., None]]:
    return progress("checking", total) if show else nullcontext(lambda *_: None)


def _reference(reference: Dataset | Image | None, key: str, frames: int) -> Sequence[Image]:
    """Pictures with the right colours; none when there is no such camera."""
    if reference is None:
        return ()
    if isinstance(reference, np.ndarray):
        return (thinned(reference),)
    if key not in reference.features:
        return ()
    return [image for g in look(Subject(reference), key, frames=frames).glimpses for image in (g.first, g.far)]
