"""The page of `fla data check`: findings, what they look like, the joints and the cameras."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from fla_sdk.data.checks.examination import Examination
from fla_sdk.data.checks.finding import SEVERITIES, Finding
from fla_sdk.data.report import page
from fla_sdk.data.report.drawing import around

EVIDENCE = 12
"""Findings that get a drawing."""

STRIPS = 4
"""Episodes of which a camera's pictures are shown, besides those with findings."""


def write_check_page(path: Path, examination: Examination) -> Path:
    """Write the page and return its path."""
    dataset = examination.subject.dataset
    robot = examination.subject.embodiment
    rows = f"{len(dataset.episode_bounds):,} episodes, {len(dataset):,} rows at {dataset.fps:g} per second"
    sections = [
        page.paragraph(f"{dataset.path}: {rows}; {f'embodiment {robot.name}' if robot else 'no embodiment given'}."),
        *_findings(examination.findings),
        *_evidence(examination),
        *_joints(examination),
        *_cameras(examination),
    ]
    return page.write(path, f"Check of {dataset.path.name}", sections)


def summary(findings: tuple[Finding, ...]) -> str:
    """`2 errors, 1 warning`; `nothing found`."""
    counts = Counter(finding.severity for finding in findings)
    return ", ".join(f"{n} {kind}{'' if n == 1 else 's'}" for kind in SEVERITIES if (n := counts[kind])) or (
        "nothing found"
    )


def _findings(findings: tuple[Finding, ...]) -> Iterator[str]:
    kind = findings[0].severity if findings else "fine"
    yield page.paragraph(page.marked(summary(findings), kind))
    if findings:
        yield page.table(
            ("", "check", "where", "seen", "expected", "what to do"),
            [(page.marked(f.severity, f.severity), f.check, f.where, f.seen, f.expected, f.advice) for f in findings],
        )


def _evidence(examination: Examination) -> Iterator[str]:
    """Drawings of the findings that have a joint and a moment."""
    subject = examination.subject
    dimensions = {f"{kind} {d.name}": (kind, d) for kind, known in subject.dimensions.items() for d in known}
    seen = [
        f for f in examination.findings if f.name in dimensions and f.frame is not None and f.episode in subject.sound
    ]
    if seen:
        yield page.heading("What it looks like")
    for finding in seen[:EVIDENCE]:
        assert finding.name and finding.episode is not None and finding.frame is not None
        kind, dimension = dimensions[finding.name]
        values = getattr(subject.block(finding.episode), kind)[:, dimension.index]
        drawn = around(dimension, values, finding.frame)
        yield page.figure(drawn, f"{finding.check}: {finding.where}. {finding.seen}.")


def _joints(examination: Examination) -> Iterator[str]:
    if not examination.spans:
        return
    yield page.heading("Numbers")
    rows: list[tuple[str, ...]] = []
    for span in examination.spans:
        field = span.dimension.field
        limits = "" if field is None or field.limits is None else f"{field.limits[0]:.3g} to {field.limits[1]:.3g}"
        coverage = "" if span.coverage is None else f"{100 * span.coverage:.0f} %"
        values = (f"{value:.4g}" for value in (span.low, span.q01, span.q99, span.high))
        rows.append((span.kind, span.dimension.name, span.dimension.unit, *values, limits, coverage))
    head = ("", "dimension", "unit", "lowest", "1 %", "99 %", "highest", "limits", "used of them")
    yield page.table(head, rows, numbers=(3, 4, 5, 6, 8))


def _cameras(examination: Examination) -> Iterator[str]:
    if examination.views:
        yield page.heading("Cameras")
    for view in examination.views:
        wrong = {finding.episode for finding in examination.findings if finding.name == view.key}
        shown = [g for g in view.glimpses if g.episode in wrong]
        shown += [g for g in view.glimpses if g.episode not in wrong][:STRIPS]
        if shown:
            images = [image for g in shown for image in (g.first, g.far)]
            labels = [f"episode {g.episode}, frame {frame}" for g in shown for frame in g.frames[:2]]
            for i in range(0, len(images), 8):
                episodes = ", ".join(str(g.episode) for g in shown[i // 2 : i // 2 + 4])
                caption = f"{view.key}: first frame, and when the robot is farthest from there, of episodes "
                strip = page.strip(images[i : i + 8], labels[i : i + 8])
                yield page.figure(strip, caption + episodes)
