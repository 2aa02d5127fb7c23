"""`CachedFrames`: a dataset whose camera frames were decoded once, at the size that a model sees.

    <data home>/frames/<key>/shard-00000 ...      frames of one camera (`frame_shard.py`)
    <data home>/frames/<key>.lock                 held while they are made

The key is a hash of what the frames are made of and how, so whatever changes gives another key, and nothing in the
cache is ever stale. What the cache lacks, the dataset answers: a shard that is missing, damaged or deleted meanwhile
costs time, not correctness.
"""

import os
import threading
from collections.abc import Generator, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import attrs
import numpy as np
from numpy.typing import NDArray

from fla_sdk.data.dataset import Dataset, Feature
from fla_sdk.data.frame_format import FrameFormat
from fla_sdk.data.frame_rates import FrameRates, measure
from fla_sdk.data.frame_store import FrameStore
from fla_sdk.errors import DataError, EpisodeError
from fla_sdk.home import data_home, locked, refuse_without_space
from fla_sdk.normalization import fingerprint
from fla_sdk.sample import PendingImage
from fla_sdk.terminal import duration, progress, size

BUILD_THREADS = min(16, os.cpu_count() or 1)

_LAYOUT = 1
"""Changes when the same key would mean other bytes."""


class CachedFrames:
    """The `Dataset` that it is given, but frames of `cameras` come from the cache, already at the model's size.

    Frames are the same whether they were in the cache or not. Nothing is written before `build`.
    """

    def __init__(
        self,
        dataset: Dataset,
        cameras: Sequence[str],
        *,
        size: tuple[int, int],
        quality: int | None = 95,
        episodes: NDArray[np.integer] | None = None,
        folder: Path | None = None,
    ) -> None:
        """`size` is height and width, `quality` that of JPEG (None: plain bytes), `folder` `<data home>/frames`.

        `episodes` are those to build, all by default; two that differ in nothing else share what is on disk.
        """
        self.dataset, self.cameras = dataset, tuple(cameras)
        self.format = FrameFormat(size=size, quality=quality)
        self.folder = data_home() / "frames" if folder is None else folder
        self.path, self.fps = dataset.path, dataset.fps
        given, shape = dataset.features, (*size, 3)
        self.features: Mapping[str, Feature] = {
            **given,
            **{camera: attrs.evolve(given[camera], shape=shape) for camera in cameras},
        }
        self.episode_bounds: NDArray[np.int64] = dataset.episode_bounds
        self.damaged: Mapping[int, str] = dataset.damaged
        self.starts: NDArray[np.int64] | None = getattr(dataset, "starts", None)
        self._bounds = dataset.episode_bounds if episodes is None else dataset.episode_bounds[episodes]
        self.stores: Mapping[str, FrameStore] = {camera: self._store(camera) for camera in self.cameras}

    def _store(self, camera: str) -> FrameStore:
        made_of = {"frames": self.dataset.frames_fingerprint(camera), "camera": camera, "rows": len(self.dataset)}
        key = fingerprint({**made_of, **attrs.asdict(self.format), "layout": _LAYOUT})
        return FrameStore(self.folder / key, rows=len(self.dataset), typical_bytes=self.format.typical_bytes)

    # --- A dataset ----------------------------------------------------------------------------------------------------

    @property
    def fingerprint(self) -> str:
        return self.dataset.fingerprint

    def __len__(self) -> int:
        return len(self.dataset)

    def column(self, name: str) -> NDArray[Any]:
        return self.dataset.column(name)

    def frames_fingerprint(self, name: str) -> str:
        return self.stores[name].folder.name if name in self.stores else self.dataset.frames_fingerprint(name)

    def task(self, row: int) -> str:
        return self.dataset.task(row)

    def frame(self, name: str, row: int) -> NDArray[np.uint8]:
        """RGB `[height, width, 3]`; as the dataset gives it for a camera that is not cached."""
        image = self.pending(name, row)
        return image.decoded() if isinstance(image, PendingImage) else image

    def pending(self, name: str, row: int) -> NDArray[np.uint8] | PendingImage:
        """The frame, read but not decoded yet."""
        if name not in self.stores:
            return self.dataset.frame(name, row)
        encoded = self.stores[name].read(row)
        return self.format.pending(self._encoded(name, row) if encoded is None else encoded)

    def _encoded(self, camera: str, row: int) -> bytes:
        return self.format.encode(self.dataset.frame(camera, row))

    # --- On disk ------------------------------------------------------------------------------------------------------

    def missing(self) -> int:
        """Frames that are left to build, of all cameras."""
        return sum(len(self.stores[camera].rows_of(shard)) for shard, camera in self._tasks())

    def _tasks(self) -> list[tuple[int, str]]:
        """Shards that are left to build and their cameras, those of the same rows together."""
        every = [(shard, camera) for camera, store in self.stores.items() for shard in self._shards(store)]
        return sorted((shard, camera) for shard, camera in every if not self.stores[camera].holds(shard))

    def _shards(self, store: FrameStore) -> list[int]:
        return sorted({shard for first, end in self._bounds.tolist() for shard in store.shards(first, end)})

    def nbytes(self) -> int:
        """Taken on disk."""
        return sum(store.nbytes() for store in self.stores.values())

    def measure(self, *, threads: int, seconds: float = 1.0) -> FrameRates:
        """How fast training reads with `threads`, without this cache and with it, and what building it takes."""
        return measure(
            self.dataset.frame,
            self.cameras,
            self.format,
            bounds=self._bounds,
            threads=threads,
            build_threads=BUILD_THREADS,
            seconds=seconds,
        )

    def build(self, *, threads: int = BUILD_THREADS) -> None:
        """Make what is missing, in one pass over the frames; continues where another process stopped, however it did.

        Frames that raise `EpisodeError` are left out. Raises `DataError` when the disk is too small.
        """
        if not self.missing():
            return
        try:
            with self._locked():
                if left := self.missing():
                    self._build(left, threads=threads)
        except OSError as error:
            raise DataError(
                f"frames of {self.path} cannot be cached in {self.folder}: {error}; make room, set FLA_DATA_HOME to "
                "another folder, or do without (frame_cache: never)"
            ) from error

    def _build(self, left: int, *, threads: int) -> None:
        rates = self.measure(threads=1, seconds=0.5)
        rows = left / len(self.cameras)
        needed = rows * rates.row_bytes
        print(
            f"caching {left:,} frames of {self.path} ({', '.join(self.cameras)}; {self.format}) in {self.folder}: "
            f"about {size(needed)} and {duration(rows / rates.built)}",
            flush=True,
        )
        refuse_without_space(int(needed), self.folder, what=f"caching frames of {self.path}", error=DataError)
        for store in self.stores.values():
            store.tidy()
        stopped = threading.Event()

        def make(shard: int, camera: str) -> int:
            rows = self.stores[camera].rows_of(shard)
            self.stores[camera].write(shard, self._encode_all(camera, rows, stopped))
            return len(rows)

        with progress("frames cached", left) as advance, ThreadPoolExecutor(threads) as pool:
            try:
                for done in as_completed([pool.submit(make, *task) for task in self._tasks()]):
                    advance(by=done.result())
            except BaseException:
                stopped.set()
                pool.shutdown(wait=False, cancel_futures=True)
                raise

    def _encode_all(self, camera: str, rows: range, stopped: threading.Event) -> Iterator[bytes | None]:
        """Encoded frames; None from the first that raises `EpisodeError` to the end of its episode."""
        ends = self.episode_bounds[:, 1]
        lost = rows.start
        for row in rows:
            if stopped.is_set():
                raise DataError("stopped")
            encoded = None
            if row >= lost:
                try:
                    encoded = self._encoded(camera, row)
                except EpisodeError:
                    lost = int(ends[np.searchsorted(ends, row, side="right")])
            yield encoded

    def verify(self, *, threads: int = BUILD_THREADS) -> list[str]:
        """Read everything that is there and delete what is damaged; says which and why. `build` makes it anew."""

        def check(store: FrameStore, shard: int) -> str | None:
            if (damage := store.damage(shard)) is not None:
                store.delete(shard)
            return damage

        shards = [(store, shard) for store in self.stores.values() for shard in self._shards(store)]
        with self._locked(), ThreadPoolExecutor(threads) as pool:
            found = list(pool.map(check, *zip(*shards, strict=True)))
        return [damage for damage in found if damage is not None]

    def delete(self) -> None:
        """Remove the frames of all cameras from the disk."""
        with self._locked():
            for store in self.stores.values():
                store.clear()

    @contextmanager
    def _locked(self) -> Generator[None]:
        self.folder.mkdir(parents=True, exist_ok=True)
        with ExitStack() as stack:
            # In one order, so that two processes with some cameras in common do not wait for each other for ever.
            for place in sorted(store.folder for store in self.stores.values()):
                stack.enter_context(locked(place, what=f"caching frames of {self.path}", error=DataError))
            yield
