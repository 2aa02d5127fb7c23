"""Copying any dataset that can be read into a format that can be written: `fla data convert`."""

import io
import json
import os
import shutil
import threading
from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import attrs
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fla_sdk.data.comparison import Comparison, compare
from fla_sdk.data.dataset import EpisodeDraft, EpisodeWriter
from fla_sdk.data.selection import Selection
from fla_sdk.errors import ConfigError, DataError, EpisodeError
from fla_sdk.records import DatasetFormat
from fla_sdk.terminal import progress

JOURNAL = Path("meta/conversion.json")
"""What is converted and which episodes were left out; also what a later `resume` must agree with."""


@attrs.frozen(kw_only=True)
class Conversion:
    """What came of it."""

    path: Path
    episodes: int
    rows: int
    skipped: Mapping[int, str]
    """Damaged episodes that were left out, and why."""

    comparison: Comparison


def convert(
    selection: Selection,
    out: Path,
    storage: DatasetFormat,
    *,
    workers: int = 2,
    resume: bool = False,
    skip_damaged: bool = False,
) -> Conversion:
    """Copy the selection into the new folder `out`, episode by episode, and compare the copy with it.

    A stopped conversion continues with `resume`, when it was of the same selection. Raises `DataError` before any work
    when something cannot be copied, and `EpisodeError` at a damaged episode, unless they are skipped.
    """
    create = storage.writable()
    if workers < 1:
        raise ConfigError(f"workers is {workers}, must be at least 1")
    journal = _Journal.open(out, selection, resume=resume)
    known = {number: reason for number, reason in selection.damaged.items() if number not in journal.skipped}
    if known and not skip_damaged:
        number, reason = next(iter(known.items()))
        raise EpisodeError(
            f"{len(known)} of {len(selection.episodes)} episodes are damaged; leave them out with --skip-damaged."
            f" Episode {number}: {reason}",
            episode=number,
        )
    _check_space(selection, out)
    writer: EpisodeWriter = create(
        out, robot=selection.robot, fps=selection.dataset.fps, columns=selection.features, append=resume
    )
    try:
        journal.write()
        journal.skip(known)
        _copy(selection, writer, journal, workers=workers, skip_damaged=skip_damaged)
    finally:
        writer.close()
    kept = journal.kept
    if not kept:
        raise DataError(f"nothing was converted: all {len(selection.episodes)} chosen episodes are damaged")
    comparison = compare(selection, storage.open(out), kept)
    return Conversion(
        path=out,
        episodes=len(kept),
        rows=sum(len(selection.rows(number)) for number in kept),
        skipped=journal.skipped,
        comparison=comparison,
    )


def _copy(
    selection: Selection, writer: EpisodeWriter, journal: "_Journal", *, workers: int, skip_damaged: bool
) -> None:
    """Episodes are read and encoded side by side, and committed in their order."""
    done = writer.episodes
    todo = deque(journal.kept[done:])
    waiting: deque[tuple[int, EpisodeDraft, Future[None]]] = deque()
    stop, pool = threading.Event(), ThreadPoolExecutor(workers)
    try:
        with progress(f"converting {selection.dataset.path.name}", len(journal.kept)) as advance:
            if done:
                advance("converted before", by=done)
            while todo or waiting:
                while todo and len(waiting) <= workers:
                    number, draft = todo.popleft(), writer.begin()
                    waiting.append((number, draft, pool.submit(_fill, selection, number, draft, stop)))
                number, draft, filled = waiting[0]
                try:
                    filled.result()
                except EpisodeError as error:
                    if not skip_damaged:
                        raise EpisodeError(f"{error}; leave it out with --skip-damaged", episode=number) from error
                    draft.abort()
                    journal.skip({number: str(error)})
                else:
                    writer.commit(draft)
                waiting.popleft()
                advance()
    finally:
        stop.set()
        pool.shutdown(cancel_futures=True)
        for _, draft, _ in waiting:
            draft.abort()


def _fill(selection: Selection, number: int, draft: EpisodeDraft, stop: threading.Event) -> None:
    for row in selection.rows(number):
        if stop.is_set():
            return
        draft.add_row(selection.row(row), task=selection.task(row))


class _Journal:
    """`meta/conversion.json` of the copy."""

    def __init__(self, path: Path, selection: Selection, skipped: Mapping[int, str]) -> None:
        self.path, self._selection, self.skipped = path, selection, dict(skipped)

    @classmethod
    def open(cls, out: Path, selection: Selection, *, resume: bool) -> "_Journal":
        path = out / JOURNAL
        if not path.is_file():
            if resume and any(file.is_file() and file.suffix != ".tmp" for file in out.rglob("*")):
                raise DataError(f"{out} is no conversion that could be continued (it has no {JOURNAL})")
            return cls(path, selection, {})
        if not resume:
            raise DataError(f"{out} holds a conversion; continue it with the same command and --resume, or remove it")
        try:
            before = json.loads(path.read_text(encoding="utf-8"))
            skipped = {int(number): str(reason) for number, reason in before.pop("skipped").items()}
        except (ValueError, KeyError, AttributeError) as error:
            raise DataError(f"{path} is damaged ({error!r}); remove {out} and convert again") from error
        now = json.loads(json.dumps(selection.described))
        if changed := [key for key in now if before.get(key) != now[key]]:
            sides = "; ".join(f"{key}: {before.get(key)} before, {now[key]} now" for key in changed)
            raise DataError(f"cannot continue {out}, which is of something else ({sides}); convert into another folder")
        return cls(path, selection, skipped)

    @property
    def kept(self) -> list[int]:
        return [number for number in self._selection.episodes if number not in self.skipped]

    def skip(self, reasons: Mapping[int, str]) -> None:
        """Written down before anything that comes after it is committed: positions in the copy depend on it."""
        if reasons:
            self.skipped |= reasons
            self.write()

    def write(self) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        temporary = self.path.with_name(self.path.name + ".tmp")
        entries = self._selection.described | {"skipped": self.skipped}
        temporary.write_text(json.dumps(entries, indent=1), encoding="utf-8")
        os.replace(temporary, self.path)


def _check_space(selection: Selection, out: Path) -> None:
    """Raise `DataError` when the copy will hardly fit. Guessed from the first pictures, which are read for it anyway:
    a camera that cannot be read shall not stop the work after hours.
    """
    rows = sum(len(selection.rows(number)) for number in selection.episodes if number not in selection.damaged)
    needed = sum(rows * int(np.prod(f.shape)) * 8 for f in selection.features.values() if not f.is_camera)
    for name, feature in selection.features.items():
        if feature.is_camera:
            needed += rows * _encoded_bytes(selection.first_frame(name), video=feature.dtype == "video")
    folder = next(parent for parent in (out, *out.absolute().parents) if parent.is_dir())
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise DataError(
            f"the copy needs about {needed / 1e9:.1f} GB, but {folder} has {free / 1e9:.1f} GB left; free some, choose"
            " another folder, or store video instead of images"
        )


def _encoded_bytes(image: NDArray[np.uint8], *, video: bool) -> int:
    """Of one frame: as PNG, or as a poor JPEG, which is about what a frame of a video needs."""
    buffer = io.BytesIO()
    save: Callable[..., None] = Image.fromarray(image).save
    save(buffer, "JPEG", quality=30) if video else save(buffer, "PNG", compress_level=1)
    return buffer.tell()
