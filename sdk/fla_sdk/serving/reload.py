"""`Reloader`: puts a newer checkpoint in place of the one that is served, without losing a robot."""

import logging
import threading
from collections.abc import Callable, Hashable
from types import TracebackType

from fla_sdk import schema
from fla_sdk.errors import ConfigError
from fla_sdk.policy.interface import PolicyLike
from fla_sdk.serving.metrics import Metrics
from fla_sdk.serving.served_policy import ServedPolicy

log = logging.getLogger(__name__)


class Reloader:
    """A thread that loads and compiles; until that is done, and when it fails, the old policy goes on."""

    def __init__(
        self,
        load: Callable[[], PolicyLike],
        replace: Callable[[PolicyLike], None],
        *,
        newest: Callable[[], Hashable],
        served: Hashable,
        metrics: Metrics,
        every_s: float | None = None,
    ) -> None:
        """`newest()` names what `load` would read now, `served` what was read. It is asked every `every_s`
        seconds; None: only when `now` is called. `replace` is that of `PolicyServer`.
        """
        self._load, self._replace, self._newest = load, replace, newest
        self._served, self._metrics, self._every_s = served, metrics, every_s
        self._failed: Hashable = None
        self._asked, self._stopping = threading.Event(), False
        self._thread = threading.Thread(target=self._run, name="fla-reload", daemon=True)

    def now(self, *_: object) -> None:
        """Load again, whether there is something newer or not. From any thread; also the handler of a signal."""
        self._asked.set()

    def __enter__(self) -> "Reloader":
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Does not wait for a compilation under way."""
        self._stopping = True
        self._asked.set()

    def _run(self) -> None:
        while True:
            asked = self._asked.wait(self._every_s)
            self._asked.clear()
            if self._stopping:
                return
            try:
                newest = self._newest()
                # One that is broken is not tried again and again.
                if not asked and newest in (None, self._served, self._failed):
                    continue
                self._failed = newest
                self._replace(self._load())
            except Exception as error:
                log.error("the newer checkpoint is not served, the old one goes on: %s", error)
                log.debug("why", exc_info=error)
                self._metrics.reloads["failed"] += 1
            else:
                self._served, self._failed = newest, None
                log.info("serving %s now", newest)
                self._metrics.reloads["done"] += 1


def check_replacement(old: ServedPolicy, new: ServedPolicy) -> None:
    """Raise `ConfigError` when robots that were greeted by `old` could not go on with `new`."""
    for name, robot in old.embodiments.items():
        if name not in new.embodiments:
            raise ConfigError(f"it does not drive {name}, as the one that is served does: start another server for it")
        if found := schema.differences(schema.describe(robot), schema.describe(new.embodiments[name])):
            raise ConfigError(f"its {name} is another robot: {'; '.join(found)}. Start another server for it")
    for what in ("default_embodiment", "horizon", "rest_mode", "guidance"):
        mine, its = getattr(old, what), getattr(new, what)
        if mine != its:
            raise ConfigError(
                f"its {what} is {its}, robots were told {mine}: start the server again to serve this checkpoint"
            )
