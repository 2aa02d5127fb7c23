"""`PolicyLike`: anything that answers observations with actions can be served."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal, Protocol

import attrs
import numpy as np
from numpy.typing import NDArray

from fla_sdk.errors import FlaError

RestMode = Literal["guided", "trained", "none"]
"""How a policy continues the chunk that a robot is executing: by guidance, as it was trained to, or not at all."""


class PolicyLike(Protocol):
    """A trained checkpoint, a replay, a script: the server does not care.

    What a policy has besides, the server makes use of:

    - `embodiments`, a mapping from name to `Embodiment`, `default_embodiment`, a name, and `horizon`, the number of
      actions in a chunk, are announced to clients;
    - `infer_many(requests)` answers several robots at once, see `BatchPolicy`; `max_batch` says how many;
    - `rest_mode`, a `RestMode`, and `guidance`, True where requests may bring a weight, say what a `Request` may hold;
    - `prepare(request)` does the part of `infer_many` that needs no model, in another thread; what it returns takes
      the place of the request. It raises `ObservationError`.
    """

    @property
    def metadata(self) -> Mapping[str, Any]:
        """Sent to every client on connection; plain values and numpy arrays."""
        ...

    def infer(self, observation: Mapping[str, Any]) -> dict[str, Any]:
        """Answer one observation with at least `actions` `[T, A]`, in the embodiment's units.

        Raises `ObservationError` when the observation does not fit; its text goes to the client.
        """
        ...


@attrs.frozen(kw_only=True, eq=False)
class Request:
    """One robot's question."""

    observation: Mapping[str, Any]
    """As for `infer`."""

    rest: NDArray[np.floating] | None = None
    """`[n, A]`, in the robot's units: what was not yet executed of its chunk when it observed (real-time chunking)."""

    delay: int = 0
    """How many actions of `rest` will be executed before the answer arrives."""

    guidance: float | None = None
    """Weight of guidance towards a good advantage; None: the policy's own."""

    session: str | None = None
    """Who asks: the same for all requests of a robot, for policies that remember."""


class BatchPolicy(PolicyLike, Protocol):
    """A policy that answers several robots at once."""

    max_batch: int

    def infer_many(self, requests: Sequence[Request]) -> Sequence[dict[str, Any] | FlaError]:
        """For each request what `infer` would return, or the error that it would raise."""
        ...
