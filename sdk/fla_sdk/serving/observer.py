"""`Observer`: hears what the server does. Metrics, a status page and a recorder are observers."""

from collections.abc import Mapping
from typing import Any

import attrs

from fla_sdk.policy.interface import Request
from fla_sdk.serving.sessions import Session


@attrs.define(kw_only=True, eq=False)
class Client:
    """One connection."""

    number: int
    """Counts connections since the server was started."""

    peer: str
    """Its address."""

    connected_s: float
    """On `time.monotonic`."""

    session: Session | None = None
    """None until it says hello; openpi's clients never do."""


@attrs.frozen(kw_only=True)
class Timing:
    """Where the time of one request went, in milliseconds."""

    decode_ms: float
    """From the last byte to the queue: message, images, and what the policy prepares."""

    queue_ms: float
    infer_ms: float
    batch: int
    """Requests that were answered by the same call."""

    @property
    def total_ms(self) -> float:
        return self.decode_ms + self.queue_ms + self.infer_ms


@attrs.define(kw_only=True, eq=False)
class Exchange:
    """One request, and what became of it."""

    client: Client
    embodiment: str | None
    """None where neither the robot nor the policy says."""

    request: Request
    """With the images that the policy sees, not copies: do not change them."""

    answer: Mapping[str, Any] | None = None
    """With `actions` `[T, A]`."""

    timing: Timing | None = None


class Observer:
    """Override what you want to hear. Called on the event loop: return at once, and leave work to a thread.

    What a method raises is logged, and harms nobody.
    """

    def connected(self, client: Client) -> None: ...

    def greeted(self, client: Client) -> None:
        """It said hello; `client.session` is set."""

    def asked(self, exchange: Exchange) -> None:
        """A request was read."""

    def answered(self, exchange: Exchange) -> None:
        """The answer is about to be sent."""

    def sent(self, client: Client, encode_ms: float) -> None:
        """The answer was packed and handed to the network."""

    def refused(self, client: Client, code: str, message: str) -> None:
        """The client is told why it gets no actions."""

    def disconnected(self, client: Client) -> None: ...
