"""`Feed`: batches on the devices before the step asks for them."""

import queue
import threading
import time
from collections.abc import Mapping
from types import TracebackType
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import NamedSharding
from numpy.typing import NDArray

from fla_sdk.data.mixture import Mixture
from fla_sdk.model import Batch


class Served(NamedTuple):
    """A batch, and what the trainer remembers of it."""

    batch: Batch
    """On the devices."""

    origin: NDArray[np.int32] | None
    """`[B, 2]` on the host: part of the mixture and row of its dataset, of this process's samples."""

    state: Mapping[str, Any]
    """The mixture's after this batch: what a checkpoint made now must go on from."""


class Feed:
    """Reads, encodes and transfers ahead of the step, in a thread of its own.

    Use it as a context manager: leaving it ends the thread.
    """

    def __init__(self, mixture: Mixture, sharding: NamedSharding, *, ahead: int = 2) -> None:
        """`ahead` batches wait on the devices, beside the one in use."""
        self._mixture, self._sharding = mixture, sharding
        self._ready: queue.Queue[Served | BaseException] = queue.Queue(ahead)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="feed", daemon=True)
        self.waited_s = 0.0
        """How long `next` has waited in all: what the data cost the run."""

    def __enter__(self) -> "Feed":
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._stop.set()
        while self._thread.is_alive():
            try:  # it may be waiting for room
                self._ready.get_nowait()
            except queue.Empty:
                self._thread.join(timeout=0.05)

    def next(self) -> Served:
        """The next batch. Raises what reading it raised."""
        begun = time.monotonic()
        served = self._ready.get()
        self.waited_s += time.monotonic() - begun
        if isinstance(served, BaseException):
            raise served
        return served

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                batch = next(self._mixture)
                state = self._mixture.state
                origin = None if batch.origin is None else np.asarray(batch.origin)
                self._put(Served(self._place(batch), origin, state))
            except BaseException as error:
                self._put(error)
                return

    def _place(self, batch: Batch) -> Batch:
        if jax.process_count() == 1:
            return jax.device_put(batch, self._sharding)
        return jax.tree.map(lambda leaf: jax.make_array_from_process_local_data(self._sharding, leaf), batch)

    def _put(self, served: "Served | BaseException") -> None:
        while not self._stop.is_set():
            try:
                self._ready.put(served, timeout=0.1)
                return
            except queue.Full:
                continue
