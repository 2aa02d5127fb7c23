"""`Saver`: checkpoints written beside the training, and which of them stay."""

import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fla_sdk.policy import checkpoint


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

    def save(self, write: Callable[[], Path]) -> None:
        """Begin to write, as soon as the one before is done. `write` works on copies: training goes on meanwhile."""
        self.wait()
        self._thread = threading.Thread(target=self._run, args=(write,), name="saver", daemon=True)
        self._thread.start()

    def _run(self, write: Callable[[], Path]) -> None:
        try:
            path = write()
            self._written.append(path)
            self._prune()
        except BaseException as error:
            self._error = error

    def wait(self, *, must: bool = False) -> None:
        """Until nothing is being written. Raises what went wrong if it `must` not."""
        if self._thread is None:
            return
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
        present = checkpoint.steps(self.folder)
        for step in present[: -self._keep_last]:
            periodic = self._keep_period is not None and step % self._keep_period == 0
            if not periodic and step != self.best:
                shutil.rmtree(self.folder / str(step))


def copy_to_host(tree: Any) -> Any:
    """The tree as numpy arrays that nothing else writes to; arrays that are spread over hosts stay where they are."""
    import jax
    import numpy as np

    def fetch(leaf: Any) -> Any:
        if isinstance(leaf, jax.Array) and not leaf.is_fully_addressable:
            return leaf
        return np.array(leaf)

    for leaf in jax.tree.leaves(tree):
        if isinstance(leaf, jax.Array) and leaf.is_fully_addressable:
            leaf.copy_to_host_async()
    return jax.tree.map(fetch, tree)
