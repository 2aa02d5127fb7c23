"""One episode: an environment, whatever chooses its actions, and what came of it."""

from collections.abc import Callable
from pathlib import Path

import attrs
import numpy as np
from numpy.typing import NDArray

from fla_sdk.environment import Environment

Act = Callable[[Environment], NDArray[np.floating]]
"""Chooses the next action `[A]`; may call `environment.observe()`."""


@attrs.frozen(kw_only=True)
class Episode:
    """How an episode went."""

    seed: int
    task: str
    success: bool
    steps: int
    video: str | None = None
    """Path of its animation, when one was made."""


def play(
    environment: Environment,
    act: Act,
    *,
    seed: int,
    max_steps: int,
    on_frame: Callable[[NDArray[np.uint8]], None] | None = None,
) -> Episode:
    """Reset with `seed` and act until the episode ends or `max_steps` have passed.

    `on_frame` receives `environment.render()` before the first step and after every one.
    """
    environment.reset(seed)
    steps, over = 0, False
    if on_frame is not None:
        on_frame(environment.render())
    while not over and steps < max_steps:
        over = environment.step(act(environment))
        steps += 1
        if on_frame is not None:
            on_frame(environment.render())
    return Episode(seed=seed, task=environment.task, success=bool(environment.success), steps=steps)


def save_animation(frames: list[NDArray[np.uint8]], path: Path, *, hz: float, most: int = 150) -> None:
    """Write frames `[H, W, 3]` as an animated GIF that lasts as long as the episode did; at most `most` are kept."""
    from PIL import Image

    stride = -(-len(frames) // most)
    images = [Image.fromarray(frame) for frame in frames[::stride]]
    path.parent.mkdir(parents=True, exist_ok=True)
    duration_ms = max(20, round(1000 * stride / hz))
    images[0].save(path, save_all=True, append_images=images[1:], duration=duration_ms, loop=0)
