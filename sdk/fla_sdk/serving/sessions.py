"""`Sessions`: what the server remembers of a robot between two connections."""

import secrets
from typing import Any

import attrs

KEPT_S = 60.0
"""After a disconnect."""


@attrs.define(kw_only=True, eq=False)
class Session:
    """A robot that said hello. Everything that actions depend on travels in its requests."""

    id: str
    embodiment: str
    guidance: float | None = None
    client: str = ""
    """Name and version of its software."""

    execution: str | None = None
    """How it executes chunks: `synchronous`, `receding`, `ensemble` or `asynchronous`."""

    capabilities: tuple[str, ...] = ()
    requests: int = 0
    refusals: int = 0
    connections: int = 0
    """Open now; a robot that comes back may be faster than the news of its old connection's end."""

    left_s: float = 0.0


class Sessions:
    """By their id, which nobody can guess."""

    def __init__(self) -> None:
        self._known: dict[str, Session] = {}

    def open(self, resume: str | None, *, now_s: float, **told: Any) -> tuple[Session, bool]:
        """The session `resume`, if it is known, else a new one; and whether it was resumed. `told` are its fields."""
        self._expire(now_s)
        session = self._known.get(resume) if resume is not None else None
        resumed = session is not None
        if session is None:
            session = Session(id=secrets.token_hex(8), **told)
            self._known[session.id] = session
        else:
            for name, value in told.items():
                setattr(session, name, value)
        session.connections += 1
        return session, resumed

    def leave(self, session: Session, *, now_s: float) -> None:
        """One of its connections ended."""
        session.connections -= 1
        session.left_s = now_s
        self._expire(now_s)

    def __len__(self) -> int:
        return len(self._known)

    def _expire(self, now_s: float) -> None:
        gone = [s.id for s in self._known.values() if s.connections == 0 and now_s - s.left_s > KEPT_S]
        for name in gone:
            del self._known[name]
