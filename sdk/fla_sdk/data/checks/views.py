"""`Glimpse`: a few frames of one camera in one episode, at moments that tell whether it works."""

from collections.abc import Callable, Iterable

import attrs
import numpy as np
from numpy.typing import NDArray

from fla_sdk.data.checks.block import Block
from fla_sdk.data.checks.subject import Subject
from fla_sdk.data.dataset import Dataset
from fla_sdk.embodiment import Camera, Embodiment
from fla_sdk.errors import DataError, EpisodeError

Image = NDArray[np.uint8]

PER_EPISODE = 5
THUMBNAIL = 320
"""Longest side that frames are thinned out to; no value is changed by it."""

MOVED = 0.1
"""Part of a joint's range that must have been covered before a still picture is strange."""


@attrs.frozen(kw_only=True, eq=False)
class Glimpse:
    """Five frames `[h, w, 3]` of one episode."""

    episode: int
    first: Image
    far: Image
    """When the robot is farthest from where it began."""

    fast: Image
    """When it moves fastest, for two rows."""

    following: tuple[Image, Image]
    """The two rows after `fast`."""

    frames: tuple[int, int, int]
    """Rows of the episode that `first`, `far` and `fast` are of."""

    moved: bool
    """Whether the robot was far from where it began."""

    moving: bool
    """Whether the state changes from `fast` on."""


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
            images = _read(subject, key, episode, {*rows, rows[2] + 1, rows[2] + 2})
        except EpisodeError as error:
            damaged.append(error)
        except DataError as error:
            return View(key=key, glimpses=(), damaged=(), unreadable=str(error))
        else:
            glimpses.append(
                Glimpse(
                    episode=episode,
                    first=images[rows[0]],
                    far=images[rows[1]],
                    fast=images[rows[2]],
                    following=(images[rows[2] + 1], images[rows[2] + 2]),
                    frames=rows,
                    moved=moved,
                    moving=moving,
                )
            )
        seen()
    return View(key=key, glimpses=tuple(glimpses), damaged=tuple(damaged), unreadable="")


def chosen_episodes(subject: Subject, frames: int) -> tuple[int, ...]:
    """The episodes that `look` looks at, rising."""
    sound = [e for e in subject.sound if np.diff(subject.bounds[e])[0] > 2]
    count = min(len(sound), max(1, frames // PER_EPISODE))
    places: list[float] = np.linspace(0, len(sound) - 1, count).tolist()
    return tuple(sound[round(place)] for place in places)


def thinned(image: Image) -> Image:
    """Every n-th pixel, so that no side is longer than `THUMBNAIL`."""
    step = -(-max(image.shape[:2]) // THUMBNAIL)
    return np.ascontiguousarray(image[::step, ::step])


def _read(subject: Subject, key: str, episode: int, rows: Iterable[int]) -> dict[int, Image]:
    start = int(subject.bounds[episode, 0])
    return {row: thinned(subject.dataset.frame(key, start + row)) for row in sorted(rows)}


def _moments(subject: Subject, block: Block) -> tuple[tuple[int, int, int], bool, bool]:
    """Rows of `first`, `far` and `fast`; whether the robot moved far, and whether it moves at `fast`."""
    last = len(block) - 1
    joints = [d.index for d in subject.state if not d.is_gripper]  # whose movement every camera sees
    if not joints:
        return (0, last, (last - 1) // 2), False, False
    states = (block.state / subject.ranges)[:, joints]
    away = np.abs(states - states[0]).max(axis=1)
    steps = np.median(np.abs(np.diff(states, axis=0)), axis=1)  # of one joint alone, a camera may see nothing
    steady = np.minimum(steps[:-1], steps[1:])
    far, fast = int(away.argmax()), int(steady.argmax())
    return (0, far, fast), bool(away[far] > MOVED), bool(steady[fast] > MOVED / 20)
