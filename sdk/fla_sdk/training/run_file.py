"""`run.json` in a run's folder: what is trained, and how it went; and the lock of who trains there."""

import json
import os
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

import attrs

from fla_sdk.config import structure, unstructure
from fla_sdk.errors import ConfigError
from fla_sdk.training.config import TrainConfig

FILE = "run.json"
LOCK = ".lock"

State = Literal["running", "finished", "interrupted", "failed"]


@attrs.frozen(kw_only=True)
class RunFile:
    """Contents of `run.json`."""

    config: Mapping[str, Any]
    """The training config as plain values."""

    state: State
    """As it was last written; `running` may be a process that was killed."""

    started: float
    """Seconds since 1970; when a run goes on, those of its beginning."""

    resumed: int = 0
    """How often it has been taken up again."""

    error: str = ""
    """What it failed with."""


def read(folder: Path) -> RunFile | None:
    """None where there is none, or none that can be read."""
    try:
        return structure(json.loads((folder / FILE).read_text()), RunFile, where=FILE)
    except (OSError, ValueError, ConfigError):
        return None


def is_locked(folder: Path) -> bool:
    """Whether a process trains in `folder` now, on this machine or on one that shares its disk."""
    import fcntl

    try:
        with (folder / LOCK).open() as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:  # no such file, or a disk that knows no locks
        return False
    return False


class Claim:
    """Keeps `run.json` while a process trains, and others out of the folder. A killed process leaves no lock.

    Use it as a context manager. Raises `ConfigError` when another process trains there.
    """

    def __init__(self, config: TrainConfig, *, resume: bool) -> None:
        """`resume` goes on with the run that is there."""
        import fcntl

        self._folder = config.out
        self._lock = (self._folder / LOCK).open("w")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            self._lock.close()
            raise ConfigError(
                f"another process is training in {self._folder}; wait for it, stop it, or choose another --out"
            ) from error
        except OSError:  # a disk that knows no locks
            pass
        before = read(self._folder) if resume else None
        self._file = RunFile(
            config=unstructure(config),
            state="running",
            started=before.started if before else time.time(),
            resumed=before.resumed + 1 if before else 0,
        )
        self._write()

    def end(self, *, finished: bool) -> None:
        """Say how it ended, where nothing went wrong."""
        self._file = attrs.evolve(self._file, state="finished" if finished else "interrupted")

    def __enter__(self) -> "Claim":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if isinstance(error, KeyboardInterrupt):
            self.end(finished=False)
        elif error is not None:
            reason = f"{type(error).__name__}: {error}"
            self._file = attrs.evolve(self._file, state="failed", error=reason)
        with suppress(OSError):  # on a full disk it looks killed, which is no reason to fail
            self._write()
        self._lock.close()

    def _write(self) -> None:
        scratch = self._folder / f".{FILE}.partial"
        scratch.write_text(json.dumps(unstructure(self._file), indent=2))
        os.replace(scratch, self._folder / FILE)
