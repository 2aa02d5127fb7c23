"""Tasks: what the robot was told, and the numbers that datasets give to texts."""

from collections import defaultdict
from collections.abc import Iterator, Mapping

import numpy as np

from fla_sdk.data.checks.finding import Finding
from fla_sdk.data.checks.subject import Subject
from fla_sdk.data.dataset import Dataset

INDEX = "task_index"


def tasks(subject: Subject) -> Iterator[Finding]:
    """Every moment has a task, and one task has one spelling and one number."""
    texts = task_rows(subject.dataset)
    spellings: defaultdict[str, list[str]] = defaultdict(list)
    for text, rows in texts.items():
        episode, frame = subject.place(rows[0])
        if not text.strip():
            yield Finding(
                check="tasks",
                severity="error",
                episode=episode,
                frame=frame,
                seen="an empty task",
                expected="what the robot was told to do",
                advice="Write the task into the dataset, or set default_task in the embodiment",
            )
        else:
            spellings[" ".join(text.casefold().split()).rstrip(" .!")].append(text)
        if len(rows) > 1:
            yield Finding(
                check="tasks",
                severity="warning",
                name=text,
                episode=episode,
                frame=frame,
                seen=f"{len(rows)} task numbers for one text",
                expected="one number per text",
                advice="Harmless here, but tools that merge datasets by number mix tasks up: number them again",
            )
    for same in spellings.values():
        if len(same) > 1:
            episode, frame = subject.place(texts[same[1]][0])
            yield Finding(
                check="tasks",
                severity="warning",
                name=same[0],
                episode=episode,
                frame=frame,
                seen=f"the same task in {len(same)} spellings: {', '.join(map(repr, same))}",
                expected="one spelling",
                advice="Choose one: to a model they are different instructions",
            )


def task_numbers(subject: Subject, against: Dataset) -> Iterator[Finding]:
    """A task number means the same in both datasets."""
    ours, theirs = _numbered(subject.dataset), _numbered(against)
    if clash := [number for number in sorted(ours.keys() & theirs.keys()) if ours[number] != theirs[number]]:
        number = clash[0]
        yield Finding(
            check="tasks",
            severity="note",
            name=f"{INDEX} {number}",
            seen=f"{len(clash)} numbers mean other tasks than in {against.path}: {ours[number]!r}, there "
            f"{theirs[number]!r}",
            expected="the same numbers",
            advice="Training reads texts and is not affected; merge the two by text, never by number",
        )


def task_rows(dataset: Dataset) -> Mapping[str, tuple[int, ...]]:
    """Each text -> a row for each of its numbers; of datasets that number nothing, one row."""
    found: defaultdict[str, list[int]] = defaultdict(list)
    for row, numbered in _first_rows(dataset):
        text = dataset.task(row)
        if numbered or text not in found:
            found[text].append(row)
    return {text: tuple(rows) for text, rows in found.items()}


def _numbered(dataset: Dataset) -> dict[int, str]:
    if INDEX not in dataset.features:
        return {}
    numbers = dataset.column(INDEX)
    return {int(np.ravel(numbers[row])[0]): dataset.task(row) for row, _ in _first_rows(dataset)}


def _first_rows(dataset: Dataset) -> Iterator[tuple[int, bool]]:
    """The first row of each task number; of each episode, in datasets that number nothing."""
    starts = [int(start) for e, start in enumerate(dataset.episode_bounds[:, 0]) if e not in dataset.damaged]
    if INDEX not in dataset.features:
        yield from ((row, False) for row in starts)
        return
    numbers = np.ravel(dataset.column(INDEX))
    healthy = np.ones(len(numbers), np.bool_)
    for episode in dataset.damaged:
        healthy[slice(*dataset.episode_bounds[episode].tolist())] = False
    rows = np.flatnonzero(healthy)
    yield from ((int(rows[i]), True) for i in np.unique(numbers[rows], return_index=True)[1])
