"""What can go wrong, as one tree. Every message says what, where, both sides, and how to fix it.

    FlaError
    ├── ConfigError          a config, recipe, flag or path does not make sense
    ├── UnknownNameError     a name that nothing provides (the nearest one is offered)
    ├── PluginError          a plugin that cannot be loaded, or breaks its contract
    ├── EmbodimentError      a robot's description that contradicts itself
    ├── DataError            a dataset that is damaged or does not fit its embodiment
    │   ├── EpisodeError     one damaged episode of a dataset; the others are fine
    │   └── StatsError       statistics that are missing, stale, or of another shape
    ├── CheckpointError      a checkpoint that is damaged or was made for another model
    ├── ObservationError     an observation that does not fit the embodiment
    ├── ProtocolError        bytes on the wire, or values for it, that the protocol has no room for
    └── ServerError          what a policy server answered instead of actions
        ├── Overloaded       too many robots at once: ask again later
        └── ConnectionLost   no answer: unreachable, closed, or past a time limit

This module imports nothing but the standard library: the robot's client raises from it too.
"""

import difflib
from collections.abc import Iterable


class FlaError(Exception):
    """Base of every error that is the caller's to mend. The command line prints it without a traceback."""


class ConfigError(FlaError):
    """A config, recipe, flag or path does not make sense."""


class UnknownNameError(FlaError):
    """A name that nothing provides."""

    def __init__(self, kind: str, name: str, known: Iterable[str], *, reason: str | None = None) -> None:
        """`kind` is the noun ("embodiment"); `reason` is why a plugin that provides `name` failed to load."""
        self.kind, self.name, self.known = kind, name, tuple(sorted(known))
        message = f"unknown {kind} {name!r}"
        if reason:
            message += f": {reason}"
        elif close := nearest(name, self.known):
            message += f"; did you mean {close!r}?"
        listing = ", ".join(self.known) or "none"
        super().__init__(f"{message} (known: {listing})")


class PluginError(FlaError):
    """A plugin that cannot be loaded, or breaks its contract."""


class EmbodimentError(FlaError):
    """A robot's description that contradicts itself."""


class DataError(FlaError):
    """A dataset that is damaged or does not fit its embodiment."""


class EpisodeError(DataError):
    """One episode of a dataset is damaged. Training leaves it out when its budget allows."""

    def __init__(self, message: str, *, episode: int) -> None:
        super().__init__(message)
        self.episode = episode


class StatsError(DataError):
    """Statistics that are missing, stale, or of another shape."""


class CheckpointError(FlaError):
    """A checkpoint that is damaged or was made for another model."""


class ActionTokenError(FlaError):
    """Generated tokens that spell no action chunk."""


class ObservationError(FlaError):
    """An observation that does not fit the embodiment."""


class ProtocolError(FlaError):
    """Bytes on the wire, or values for it, that the protocol has no room for."""


class ServerError(FlaError):
    """What a policy server answered instead of actions."""

    def __init__(self, message: str, *, code: str | None = None) -> None:
        """`code` is the server's word for the kind of error (docs/protocol.md); None when it gave none."""
        super().__init__(message)
        self.code = code


class Overloaded(ServerError):
    """The policy server has more to do than it can; ask again after `retry_after_s` seconds."""

    def __init__(self, message: str, *, retry_after_s: float = 1.0, code: str | None = None) -> None:
        super().__init__(message, code=code)
        self.retry_after_s = retry_after_s


class ConnectionLost(ServerError):
    """No answer from the policy server: unreachable, closed, or past a time limit."""


def nearest(name: str, known: Iterable[str]) -> str | None:
    """The known name closest to `name`, or None when nothing is close."""
    matches = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return matches[0] if matches else None
