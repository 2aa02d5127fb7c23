"""`DatasetRecorder`: what a robot does under a policy, as a dataset to train on."""

import queue
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fla_sdk.data.dataset import EpisodeWriter, Feature
from fla_sdk.embodiment import Embodiment
from fla_sdk.plugins import Registry

SUCCESS = "success"
INTERVENTION = "intervention"
COLUMNS = {name: Feature(dtype="bool", shape=(1,)) for name in (SUCCESS, INTERVENTION)}
"""Whether the task is done after the row's action, and whether a person chose the action."""

_Row = tuple[Mapping[str, Any], NDArray[np.floating], bool, bool]


class DatasetRecorder:
    """A `fla_sdk.client.runtime.Recorder`. Images are encoded and written by a thread, so the control loop goes on.

    Nothing is dropped: when the thread is `waiting_rows` behind, `add` waits for it. An error of the thread, such as a
    full disk, is raised by the next call. An episode is in the dataset from the return of `end` on.
    """

    def __init__(self, writer: EpisodeWriter, robot: Embodiment, *, waiting_rows: int = 500) -> None:
        """`writer` must have the columns `COLUMNS`; `create` makes one. It is closed with the recorder."""
        self._writer, self._robot = writer, robot
        self._work: queue.Queue[Callable[[], None] | None] = queue.Queue(waiting_rows)
        self._error: BaseException | None = None
        self._last: _Row | None = None
        self._thread = threading.Thread(target=self._run, name="fla-recording", daemon=True)
        self._thread.start()

    @classmethod
    def create(
        cls,
        registry: Registry,
        path: Path,
        robot: Embodiment,
        *,
        rate_hz: float | None = None,
        video: bool = False,
        append: bool = False,
        dataset_format: str = "lerobot",
    ) -> "DatasetRecorder":
        """Record `robot` into a new dataset in `path`, or `append` to the one there.

        `rate_hz` is that of the control loop; None: the robot's own.
        """
        storage = registry.dataset_format(dataset_format)
        writer = storage.create_for(
            path, robot, fps=rate_hz, optional_cameras=False, video=video, columns=COLUMNS, append=append
        )
        return cls(writer, robot)

    def add(
        self, observation: Mapping[str, Any], action: NDArray[np.floating], *, success: bool, intervention: bool
    ) -> None:
        """One control step; raises what the thread has met."""
        self._flush(success=None)
        self._last = observation, action, success, intervention

    def end(self, *, success: bool) -> None:
        """Save the episode; its last row is marked with its outcome. Waits until it is on disk."""
        self._flush(success=success)
        done = threading.Event()
        self._put(self._writer.save_episode)
        self._put(done.set)
        done.wait()
        self._raise()

    def discard(self) -> None:
        """Forget the episode that has not ended."""
        self._last = None
        self._put(self._writer.discard_episode)

    def close(self) -> None:
        """Finish the dataset; an episode that has not ended is forgotten."""
        self._work.put(None)
        self._thread.join()
        self._writer.close()
        self._raise()

    def __enter__(self) -> "DatasetRecorder":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _flush(self, *, success: bool | None) -> None:
        """Hand the row that was held back to the thread; `success` is the episode's outcome if it is the last one."""
        if self._last is not None:
            observation, action, done, intervention = self._last
            self._last = None
            self._put(lambda: self._write(observation, action, done if success is None else success, intervention))

    def _put(self, work: Callable[[], None]) -> None:
        self._raise()
        self._work.put(work)

    def _raise(self) -> None:
        error, self._error = self._error, None
        if error is not None:
            raise error

    def _write(
        self, observation: Mapping[str, Any], action: NDArray[np.floating], success: bool, intervention: bool
    ) -> None:
        sample = self._robot.observe(observation)
        marks = {SUCCESS: np.array([success]), INTERVENTION: np.array([intervention])}
        images = {f"images/{name}": image for name, image in sample.images.items()}
        self._writer.add({**images, "state": sample.state, "task": sample.task, **marks}, np.asarray(action))

    def _run(self) -> None:
        while (work := self._work.get()) is not None:
            try:
                work()
            except Exception as error:
                # The first one says what is wrong; those that follow from it would only hide it.
                self._error = self._error or error
