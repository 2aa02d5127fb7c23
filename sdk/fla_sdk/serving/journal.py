"""`Journal`: what happens on a server as lines of a log, for people or for machines."""

import json
import logging
import sys
from collections.abc import Generator
from contextlib import contextmanager
from datetime import datetime, timezone
from typing import Any, Literal

from fla_sdk.serving.observer import Client, Exchange, Observer

log = logging.getLogger(__name__)


class Journal(Observer):
    """Connections and errors as level INFO, answers as DEBUG. What is told travels in `record.fla`."""

    def connected(self, client: Client) -> None:
        _line(logging.INFO, "connected", client, peer=client.peer)

    def greeted(self, client: Client) -> None:
        assert client.session is not None
        session = client.session
        _line(logging.INFO, "hello", client, client=session.client, execution=session.execution)

    def answered(self, exchange: Exchange) -> None:
        if log.isEnabledFor(logging.DEBUG) and (timing := exchange.timing) is not None:
            times = {key: round(getattr(timing, key), 3) for key in ("decode_ms", "queue_ms", "infer_ms")}
            _line(logging.DEBUG, "answered", exchange.client, **times, batch=timing.batch)

    def refused(self, client: Client, code: str, message: str) -> None:
        _line(logging.INFO, "refused", client, code=code, reason=message)

    def disconnected(self, client: Client) -> None:
        _line(logging.INFO, "disconnected", client)


def _line(level: int, event: str, connection: Client, /, **told: Any) -> None:
    session = connection.session
    known = {} if session is None else {"embodiment": session.embodiment, "session": session.id[:4]}
    entries = {"connection": connection.number, **known, **told}
    # Text from clients is quoted: it must not look like a line of the log.
    words = " ".join(f"{name}={json.dumps(value)}" for name, value in entries.items() if value is not None)
    log.log(level, "%s %s", event, words, extra={"fla": {"event": event, **entries}})


class JsonLines(logging.Formatter):
    """One JSON object per line: `time`, `level`, `logger`, `message`, and what is known besides."""

    def format(self, record: logging.LogRecord) -> str:
        told: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, timezone.utc).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
        }
        known: dict[str, Any] | None = getattr(record, "fla", None)
        told |= known if known is not None else {"event": "log", "message": record.getMessage()}
        if record.exc_info:
            told["traceback"] = self.formatException(record.exc_info)
        return json.dumps(told, default=str)


@contextmanager
def written(kind: Literal["text", "json"], level: str) -> Generator[None, None, None]:
    """Within, the SDK's log goes to stderr, from `level` on: `debug`, `info`, `warning` or `error`."""
    handler = logging.StreamHandler(sys.stderr)
    text = logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s")
    handler.setFormatter(JsonLines() if kind == "json" else text)
    ours = logging.getLogger("fla_sdk")
    before = ours.level
    ours.addHandler(handler)
    ours.setLevel(level.upper())
    try:
        yield
    finally:
        ours.removeHandler(handler)
        ours.setLevel(before)
