"""`Glimpse`: a few frames of one camera in one episode, at moments that tell whether it works."""

from collections.abc import Callable

import attrs
import numpy as np
from numpy.typing import NDArray

from fla_sdk.data.checks.block import Block
from fla_sdk.data.checks.subject import Subject
from fla_sdk.data.dataset import Dataset
from fla_sdk.embodiment import Camera, Embodiment
from fla_sdk.errors import DataError, EpisodeError

Image = NDArray[np.uint8]

PER_EPISODE = 4
THUMBNAIL = 320
"""Longest side that frames are thinned out to; no value is changed by it."""

MOVED = 0.1
"""Part of a joint's range that must have been covered before a still picture is strange."""


@attrs.frozen(kw_only=True, eq=False)
class Glimpse:
    """Four frames `[h, w, 3]` of one episode."""

    episode: int
    first: Image
    far: Image
    """When the robot is farthest from where it began."""

    fast: Image
    """When it moves fastest."""

    following: Image
    """One row after `fast`."""

    frames: tuple[int, int, int, int]
    """Rows of the episode that they are of."""

    moved: bool
    """Whether the robot was far from where it began."""

    moving: bool
    """Whether the state changes between `fast` and `following`."""


@attrs.frozen(kw_only=True)
class View:
    """What was looked at of one camera."""

    key: str
    """As the dataset calls it."""

    glimpses: tuple[Glimpse, ...]
    damaged: tuple[EpisodeError, ...]
    """Frames that could not be read."""

    unreadable: str
    """Why none can be read; empty when some can."""


def cameras(dataset: Dataset, embodiment: Embodiment | None) -> tuple[str, ...]:
    """Keys of the cameras that the embodiment uses; of all without one."""
    available = [key for key, feature in dataset.features.items() if feature.is_camera]
    if embodiment is None:
        return tuple(available)
    found = (camera_key(dataset, camera) for camera in embodiment.cameras if camera.slot is not None)
    return tuple(key for key in found if key is not None)


def camera_key(dataset: Dataset, camera: Camera) -> str | None:
    """Under which key the dataset has this camera."""
    return next((k for k in camera.keys if k in dataset.features and dataset.features[k].is_camera), None)


def look(subject: Subject, key: str, *, frames: int, seen: Callable[..., None] = lambda *_: None) -> View:
    """Decode at most `frames` frames of one camera, from sound episodes spread evenly over the dataset.

    `seen` is called after each episode.
    """
    glimpses: list[Glimpse] = []
    damaged: list[EpisodeError] = []
    for episode in chosen_episodes(subject, frames):
        rows, moved, moving = _moments(subject, subject.block(episode))
        try:
            images = dict(zip(sorted(set(rows)), _read(subject, key, episode, sorted(set(rows))), strict=True))
        except EpisodeError as error:
            damaged.append(error)
        except DataError as error:
            return View(key=key, glimpses=(), damaged=(), unreadable=str(error))
        else:
            first, far, fast, following = (images[row] for row in rows)
            glimpses.append(
                Glimpse(
                    episode=episode,
                    first=first,
                    far=far,
                    fast=fast,
                    following=following,
                    frames=rows,
                    moved=moved,
                    moving=moving,
                )
            )
        seen()
    return View(key=key, glimpses=tuple(glimpses), damaged=tuple(damaged), unreadable="")


def chosen_episodes(subject: Subject, frames: int) -> tuple[int, ...]:
    """The episodes that `look` looks at, rising."""
    sound = [e for e in subject.sound if np.diff(subject.bounds[e])[0] > 1]
    count = min(len(sound), max(1, frames // PER_EPISODE))
    places: list[float] = np.linspace(0, len(sound) - 1, count).tolist()
    return tuple(sound[round(place)] for place in places)


def thinned(image: Image) -> Image:
    """Every n-th pixel, so that no side is longer than `THUMBNAIL`."""
    step = -(-max(image.shape[:2]) // THUMBNAIL)
    return np.ascontiguousarray(image[::step, ::step])


def _read(subject: Subject, key: str, episode: int, rows: list[int]) -> list[Image]:
    start = int(subject.bounds[episode, 0])
    return [thinned(subject.dataset.frame(key, start + row)) for row in rows]


def _moments(subject: Subject, block: Block) -> tuple[tuple[int, int, int, int], bool, bool]:
    last = len(block) - 1
    if not subject.state:  # nothing says when the robot moves
        return (0, last, last // 2, last // 2 + 1), last > 4, False
    states = block.state / subject.ranges
    away = np.abs(states - states[0]).max(axis=1)
    steps = np.abs(np.diff(states, axis=0)).max(axis=1)
    far, fast = int(away.argmax()), int(steps.argmax())
    return (0, far, fast, fast + 1), bool(away[far] > MOVED), bool(steps[fast] > MOVED / 20)
