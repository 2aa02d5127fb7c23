"""`PolicyLike`: anything that answers observations with actions can be served."""

from collections.abc import Mapping
from typing import Any, Protocol


class PolicyLike(Protocol):
    """A trained checkpoint, a replay, a script: the server does not care."""

    @property
    def metadata(self) -> Mapping[str, Any]:
        """Sent to every client on connection; plain values and numpy arrays."""
        ...

    def infer(self, observation: Mapping[str, Any]) -> dict[str, Any]:
        """Answer one observation with at least `actions` `[T, A]`, in the embodiment's units.

        Raises `ObservationError` when the observation does not fit; its text goes to the client.
        """
        ...
