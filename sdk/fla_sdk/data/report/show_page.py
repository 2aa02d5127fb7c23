"""The page of `fla data show`: what the robot saw, did and was told."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from fla_sdk import prompts
from fla_sdk.codec import model_state
from fla_sdk.data.checks.views import cameras
from fla_sdk.data.report import page
from fla_sdk.data.report.drawing import curves, histograms
from fla_sdk.data.report.overview import Overview
from fla_sdk.errors import DataError

PICTURES = 8
TASKS = 100


def write_show_page(path: Path, overview: Overview, episodes: Sequence[int]) -> Path:
    """Write the page, with these episodes in pictures and curves, and return its path."""
    dataset = overview.dataset
    tasks = [(task or "(empty)", f"{count:,}") for task, count in overview.tasks.most_common(TASKS)]
    sections = [
        page.table(("", ""), list(overview.facts())),
        page.heading("Columns"),
        page.table(("name", "type", "shape", "dimensions"), list(overview.features())),
        page.heading(f"Tasks ({len(overview.tasks):,})"),
        page.table(("task", "episodes"), tasks, numbers=(1,)),
        *_prompts(overview, episodes),
        *(section for episode in episodes for section in _episode(overview, episode)),
        *_histograms(overview),
    ]
    return page.write(path, dataset.path.name, sections)


def _episode(overview: Overview, episode: int) -> Iterator[str]:
    dataset, subject = overview.dataset, overview.subject
    start, end = (int(bound) for bound in dataset.episode_bounds[episode])
    yield page.heading(f"Episode {episode}")
    yield page.paragraph(f"{dataset.task(start)!r}, {end - start} frames, {(end - start) / dataset.fps:.1f} s.")
    rows: list[int] = np.unique(np.linspace(start, end - 1, PICTURES).round().astype(int)).tolist()
    for key in cameras(dataset, subject.embodiment):
        try:
            images = [dataset.frame(key, row) for row in rows]
        except DataError as error:
            yield page.paragraph(page.marked(f"{key}: {error}", "error"))
        else:
            yield page.figure(page.strip(images, [f"frame {row - start}" for row in rows]), key)
    if episode in subject.sound and (drawn := curves(subject, subject.block(episode))):
        yield page.figure(drawn, "State (dark or light) and action (blue) over the frames of the episode.")
    elif episode not in subject.sound:
        yield page.paragraph(page.marked("Its states or actions are not finite.", "error"))


def _prompts(overview: Overview, episodes: Sequence[int]) -> Iterator[str]:
    """The texts that models read at the first frame of each episode. Needs an embodiment."""
    subject, robot = overview.subject, overview.embodiment
    if robot is None or not subject.sound:
        return
    yield page.heading("Prompts")
    states = model_state(robot, subject.sample.state)
    low, high = np.quantile(states, [0.01, 0.99], axis=0)
    rows: list[tuple[str, ...]] = []
    for episode in (e for e in episodes if e in subject.sound):
        state = model_state(robot, subject.block(episode).state[0])
        normalized = 2 * (state - low) / np.maximum(high - low, 1e-6) - 1
        text = robot.prompt.replace("{task}", overview.dataset.task(int(subject.bounds[episode, 0])))
        for style in ("pi0", "pi05", "fast"):
            wording = prompts.STYLES[style](text, normalized)
            rows.append((str(episode), style, repr("".join(wording.prompt) + wording.cue)))
    yield page.table(("episode", "style", "text at the first frame"), rows)
    yield page.paragraph("States in the text are normalized with the quantiles of this dataset.")


def _histograms(overview: Overview) -> Iterator[str]:
    subject = overview.subject
    for kind, values in (("state", subject.sample.state), ("action", subject.sample.action)):
        if spans := [span for span in subject.spans if span.kind == kind]:
            yield page.heading(f"Distribution of the {kind}")
            caption = f"How often each value occurs in {len(values):,} rows; the lines are the 1st and 99th percentile."
            yield page.figure(histograms(values, spans), caption)
