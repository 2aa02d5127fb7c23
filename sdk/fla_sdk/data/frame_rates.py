"""How fast camera frames can be had: at random, in order, and from a cache. Measured on the spot, in about a second."""

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import attrs
import numpy as np
from numpy.typing import NDArray

from fla_sdk.data.frame_format import FrameFormat
from fla_sdk.errors import EpisodeError
from fla_sdk.transforms import resize_with_pad

EPISODES = 4
"""How many are read from. Opening their files is not counted."""


@attrs.frozen(kw_only=True)
class FrameRates:
    """Of one dataset on this machine, as busy as it is now. A row is one frame of each camera."""

    decoded: float
    """Random rows per second, decoded and resized: what training gets without a cache."""

    cached: float
    """Random rows per second from a cache whose files are in memory."""

    built: float
    """Rows per second in order, decoded, resized and encoded."""

    row_bytes: float
    """Of an encoded row."""


def measure(
    frame: Callable[[str, int], NDArray[np.uint8]],
    cameras: Sequence[str],
    form: FrameFormat,
    *,
    bounds: NDArray[np.int64],
    threads: int,
    build_threads: int,
    seconds: float = 1.0,
) -> FrameRates:
    """Rates of `Dataset.frame` in episodes of `bounds`, with the threads that training and building a cache have.

    Raises `EpisodeError` when all episodes that were tried are damaged.
    """
    episodes = _readable(frame, cameras, bounds)
    rows = [[form.encode(frame(camera, first)) for camera in cameras] for first, _ in episodes]

    def order(thread: int, *, rising: bool) -> Iterator[int]:
        rng = np.random.default_rng(thread)
        while True:
            first, end = episodes[rng.integers(len(episodes))]
            row = int(rng.integers(first, end))
            yield from range(row, end if rising else row + 1)

    def decode(row: int) -> None:
        for camera in cameras:
            with suppress(EpisodeError):
                resize_with_pad(frame(camera, row), *form.size)

    def build(row: int) -> None:
        for camera in cameras:
            with suppress(EpisodeError):
                form.encode(frame(camera, row))

    def read(row: int) -> None:
        for encoded in rows[row % len(rows)]:
            form.pending(encoded).decoded()

    return FrameRates(
        decoded=_rate(decode, [order(n, rising=False) for n in range(threads)], seconds=0.5 * seconds),
        cached=_rate(read, [order(n, rising=False) for n in range(threads)], seconds=0.1 * seconds),
        built=_rate(build, [order(n, rising=True) for n in range(build_threads)], seconds=0.4 * seconds),
        row_bytes=sum(len(encoded) for row in rows for encoded in row) / len(rows),
    )


def _readable(
    frame: Callable[[str, int], NDArray[np.uint8]], cameras: Sequence[str], bounds: NDArray[np.int64]
) -> list[tuple[int, int]]:
    """Bounds of some episodes whose first frames can be had."""
    found: list[tuple[int, int]] = []
    errors: list[EpisodeError] = []
    for episode in np.random.default_rng(0).permutation(len(bounds)).tolist():
        first, end = bounds[episode].tolist()
        try:
            for camera in cameras:
                frame(camera, first)
        except EpisodeError as error:
            errors.append(error)
        else:
            found.append((first, end))
        if len(found) == EPISODES or len(errors) == 2 * EPISODES:
            break
    if not found:
        raise errors[-1]
    return found


def _rate(work: Callable[[int], None], orders: Sequence[Iterator[int]], *, seconds: float) -> float:
    """Rows per second, a thread for each of `orders`; at least one row each."""
    begun = time.monotonic()

    def run(order: Iterator[int]) -> int:
        for done, row in enumerate(order, start=1):
            work(row)
            if time.monotonic() - begun > seconds:
                return done
        return 0

    with ThreadPoolExecutor(len(orders)) as pool:
        done = sum(pool.map(run, orders))
    return done / (time.monotonic() - begun)
