"""`Limits`: what one client may ask of the server."""

import math
from typing import Any

import attrs

from fla_sdk import wire
from fla_sdk.errors import ConfigError


@attrs.frozen(kw_only=True)
class Limits:
    """Checked before anything is allocated, and told to clients in the greeting. Raises `ConfigError` on nonsense."""

    message_bytes: int = wire.MAX_BYTES
    """Of a message, and of all of its images when they are decompressed."""

    arrays: int = wire.MAX_ARRAYS
    items: int = wire.MAX_ITEMS
    connections: int | None = None
    """At once."""

    requests_per_s: float | None = None
    """Of one connection, hello included."""

    def __attrs_post_init__(self) -> None:
        for name, value in self.plain().items():
            if value is not None and not 0 < value < math.inf:
                raise ConfigError(f"the limit {name} is {value}, must be above 0")

    def plain(self) -> dict[str, Any]:
        """As they travel."""
        return attrs.asdict(self)
