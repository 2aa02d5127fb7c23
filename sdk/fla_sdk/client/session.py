"""`Session`: one connection's conversation with a policy server, without any input or output.

openpi-compatible: the server greets with a binary frame of metadata; then each binary request gets one reply, which is
binary when it holds actions and text when it holds the reason why there are none.
"""

from collections.abc import Mapping
from typing import Any, cast

from fla_sdk import wire
from fla_sdk.errors import ObservationError, ProtocolError, ServerError, UnknownNameError


class Session:
    """Builds requests and interprets frames; whoever owns the socket moves the bytes."""

    def __init__(self, url: str, *, embodiment: str | None = None, max_message_bytes: int = wire.MAX_BYTES) -> None:
        """`url` is for messages; `embodiment` names the robot to a server that knows several."""
        self.url = url
        self.metadata: dict[str, Any] = {}
        self._embodiment = embodiment
        self._max_message_bytes = max_message_bytes

    def greet(self, frame: str | bytes) -> dict[str, Any]:
        """Take the server's first frame; returns its metadata.

        Raises `UnknownNameError` when the server lists its embodiments and ours is not among them.
        """
        self.metadata = self.answer(frame)
        known = self._embodiments()
        if self._embodiment is not None and known is not None and self._embodiment not in known:
            raise UnknownNameError("embodiment", self._embodiment, known)
        return self.metadata

    def request(self, observation: Mapping[str, Any]) -> bytes:
        """The frame that asks for actions. An observation that has its own `embodiment` entry keeps it.

        Raises `ObservationError` when the observation is no mapping, `ProtocolError` when an entry cannot be sent.
        """
        if not isinstance(observation, Mapping):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise ObservationError(
                f"an observation is a mapping of names to values, got a {type(observation).__name__}"
            )
        entries = dict(observation)
        # A server of openpi's own may hand unknown entries to transforms that refuse them.
        if self._embodiment is not None and "fla" in self.metadata:
            entries.setdefault("embodiment", self._embodiment)
        return wire.pack(entries)

    def answer(self, frame: str | bytes) -> dict[str, Any]:
        """The map in a frame from the server; raises `ServerError` with the server's reason on a text frame."""
        if isinstance(frame, str):
            raise ServerError(f"the policy server at {self.url} answered: {frame.strip()}")
        reply = wire.unpack(frame, max_bytes=self._max_message_bytes)
        if not isinstance(reply, dict):
            raise ProtocolError(f"{self.url} sent a {type(reply).__name__} where a policy server sends a map")
        return cast("dict[str, Any]", reply)

    @property
    def horizon(self) -> int | None:
        """Actions in a chunk, from the greeting; None when the server does not say."""
        fla = self.metadata.get("fla")
        if not isinstance(fla, dict):
            return None
        known: Any = cast("dict[str, Any]", fla)
        name = self._embodiment or known.get("default_embodiment")
        horizon: Any = known.get("embodiments", {}).get(name, {}).get("horizon")
        return horizon if isinstance(horizon, int) else None

    def _embodiments(self) -> list[str] | None:
        """Names that the server lists; None when it is not one of ours."""
        fla = self.metadata.get("fla")
        listed = cast("dict[str, Any]", fla).get("embodiments") if isinstance(fla, dict) else None
        return [str(name) for name in cast("dict[Any, Any]", listed)] if isinstance(listed, dict) else None
