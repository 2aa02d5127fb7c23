"""`Saver`: checkpoints written beside the training, and which of them stay."""

import shutil
import threading
from collections.abc import Callable
from pathlib import Path

from fla_sdk.policy import checkpoint
from fla_sdk.training import hosts


class Saver:
    """Writes one checkpoint at a time in a thread. One that fails is told and leaves those before it as they are."""

    def __init__(self, folder: Path, *, keep_last: int, keep_period: int | None, tell: Callable[[str], None]) -> None:
        """Besides the last `keep_last`, every checkpoint at a multiple of `keep_period` stays, and the best."""
        self.folder, self._keep_last, self._keep_period, self._tell = folder, keep_last, keep_period, tell
        self._thread: threading.Thread | None = None
        self._written: list[Path] = []
        self._error: BaseException | None = None
        self.best: int | None = checkpoint.best(folder)
        """Step of the checkpoint that validated best."""

    def save(self, begin: Callable[[], Callable[[], Path]]) -> None:
        """Write as soon as the one before is done: `begin` copies at once, what it returns writes in the thread."""
        self.wait()
        try:
            finish = begin()
        except Exception as error:
            self._error = error
            return
        self._thread = threading.Thread(target=self._run, args=(finish,), name="saver", daemon=True)
        self._thread.start()

    def _run(self, finish: Callable[[], Path]) -> None:
        try:
            path = finish()
            self._written.append(path)
            self._prune()
        except BaseException as error:
            self._error = error

    def wait(self, *, must: bool = False) -> None:
        """Until nothing is being written. Raises what went wrong if it `must` not."""
        if self._thread is not None:
            self._thread.join()
        self._thread = None
        error, self._error = self._error, None
        if error is None:
            return
        if must or not isinstance(error, Exception):
            raise error
        kept = ", ".join(map(str, checkpoint.steps(self.folder))) or "none"
        self._tell(f"no checkpoint: {type(error).__name__}: {error}; training goes on (checkpoints kept: {kept})")

    def finished(self) -> list[Path]:
        """Checkpoints that are complete since the last call."""
        written, self._written = self._written, []
        return written

    def _prune(self) -> None:
        if not hosts.is_first():
            return
        present = checkpoint.steps(self.folder)
        for step in present[: -self._keep_last]:
            periodic = self._keep_period is not None and step % self._keep_period == 0
            if not periodic and step != self.best:
                shutil.rmtree(self.folder / str(step))
