"""`RequestRecorder`: what robots saw and were answered, as episodes to look at and to train on."""

import logging
import os
import queue
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType

import attrs
import numpy as np

from fla_sdk.data.dataset import EpisodeDraft, EpisodeWriter, Feature
from fla_sdk.embodiment import Embodiment
from fla_sdk.serving.metrics import Metrics
from fla_sdk.serving.observer import Client, Exchange, Observer

log = logging.getLogger(__name__)

WAITING = 32
"""Observations that wait to be written, at most: they are large."""

PAUSE_S = 10.0
"""A robot that asked nothing for so long begins a new episode."""

EPISODE_ROWS = 3000
"""A longer episode is split: what is not yet saved is lost when the machine fails."""

MEASURE_EVERY_S = 5.0

OBSERVED = "observed_s"
COLUMNS = {OBSERVED: Feature(dtype="float64", shape=(1,))}
"""Seconds since the episode's first observation, on the server's clock: robots do not ask at a steady rate."""


@attrs.define(kw_only=True, eq=False)
class _Episode:
    robot: str
    draft: EpisodeDraft
    begun_s: float
    last_s: float
    rows: int = 0


class RequestRecorder(Observer):
    """A dataset per embodiment, an episode per connection. A row is an observation and the first action of its answer.

    A thread of its own writes; what it has no time for is dropped and counted, so no answer waits for the disk. Nothing
    is deleted: when the folder holds `max_bytes`, open episodes are saved and recording ends.
    """

    def __init__(
        self,
        folder: Path,
        create: Callable[[Path, Embodiment], EpisodeWriter],
        *,
        robots: Mapping[str, Embodiment],
        metrics: Metrics,
        max_bytes: float,
    ) -> None:
        """`create(path, robot)` begins or goes on with a dataset that has LeRobot's columns and `COLUMNS`."""
        self._folder, self._create, self._robots, self._metrics = folder, create, robots, metrics
        self._max_bytes, self._measured_s, self._full = max_bytes, 0.0, False
        self._writers: dict[str, EpisodeWriter] = {}
        self._episodes: dict[int, _Episode] = {}
        self._complained: set[str] = set()
        self._work: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="fla-recorder")

    def __enter__(self) -> "RequestRecorder":
        self._folder.mkdir(parents=True, exist_ok=True)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Saves what is open, and finishes the datasets."""
        self._work.put(None)
        self._thread.join()

    # --- Observer, on the event loop ----------------------------------------------------------------------------------

    def answered(self, exchange: Exchange) -> None:
        if self._full or self._work.qsize() >= WAITING:
            self._metrics.dropped_rows += 1
            return
        now_s = time.monotonic()
        self._work.put(lambda: self._add(exchange, now_s))

    def disconnected(self, client: Client) -> None:
        self._work.put(lambda: self._end(client.number))

    # --- On the thread ------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        while (work := self._work.get()) is not None:
            self._tried(work)
        for number in list(self._episodes):
            self._tried(lambda number=number: self._end(number))
        for writer in self._writers.values():
            self._tried(writer.close)

    def _tried(self, work: Callable[[], None]) -> None:
        try:
            work()
        except Exception as error:
            self._metrics.dropped_rows += 1
            text = str(error)
            if text not in self._complained and len(self._complained) < 100:
                self._complained.add(text)
                log.error("not recorded: %s", text or type(error).__name__)

    def _add(self, exchange: Exchange, now_s: float) -> None:
        robot = self._robots.get(exchange.embodiment or "")
        if robot is None or self._is_full(now_s):
            self._metrics.dropped_rows += 1
            return
        number = exchange.client.number
        episode = self._episodes.get(number)
        if episode is not None and (
            episode.robot != robot.name or now_s - episode.last_s > PAUSE_S or episode.rows >= EPISODE_ROWS
        ):
            self._end(number)
            episode = None
        if episode is None:
            draft = self._writer(robot).begin()
            episode = self._episodes[number] = _Episode(robot=robot.name, draft=draft, begun_s=now_s, last_s=now_s)
        sample = robot.observe(exchange.request.observation)
        assert exchange.answer is not None
        row = {
            **{f"observation.images.{name}": image for name, image in sample.images.items()},
            "observation.state": np.asarray(sample.state, np.float32),
            "action": np.asarray(exchange.answer["actions"][0], np.float32),
            OBSERVED: np.array([now_s - episode.begun_s]),
        }
        episode.draft.add_row(row, task=sample.task)
        episode.rows += 1
        episode.last_s = now_s

    def _end(self, number: int) -> None:
        episode = self._episodes.pop(number, None)
        if episode is None:
            return
        if episode.rows:
            self._writers[episode.robot].commit(episode.draft)
        else:
            episode.draft.abort()

    def _writer(self, robot: Embodiment) -> EpisodeWriter:
        if robot.name not in self._writers:
            self._writers[robot.name] = self._create(self._folder / robot.name, robot)
        return self._writers[robot.name]

    def _is_full(self, now_s: float) -> bool:
        if self._full or now_s - self._measured_s < MEASURE_EVERY_S:
            return self._full
        self._measured_s = now_s
        if (size := _size(self._folder)) >= self._max_bytes:
            self._full = True
            log.warning("recording has ended: %s holds %.2f GB, as much as it may", self._folder.name, size / 1e9)
            for number in list(self._episodes):
                self._tried(lambda number=number: self._end(number))
        return self._full


def _size(folder: Path) -> int:
    """Of all files in it, in bytes."""
    total = 0
    for place, _, names in os.walk(folder):
        for name in names:
            try:
                total += os.stat(os.path.join(place, name)).st_size
            except FileNotFoundError:  # renamed meanwhile
                continue
    return total
