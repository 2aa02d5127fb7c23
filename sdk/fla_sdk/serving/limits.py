"""`Limits`: what one client may ask of the server."""

from typing import Any

import attrs

from fla_sdk import wire


@attrs.frozen(kw_only=True)
class Limits:
    """Checked before anything is allocated, and told to clients in the greeting."""

    message_bytes: int = wire.MAX_BYTES
    """Of a message, and of all of its images when they are decompressed."""

    arrays: int = wire.MAX_ARRAYS
    items: int = wire.MAX_ITEMS
    connections: int | None = None
    requests_per_s: float | None = None

    def plain(self) -> dict[str, Any]:
        """As they travel."""
        return attrs.asdict(self)
