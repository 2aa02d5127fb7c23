"""Robots that speak the protocol frame by frame, as a client in another language would."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import numpy as np
import pytest
from websockets.sync.client import ClientConnection, connect

from fla_sdk import wire

OBSERVATION = {
    "images": {"top": np.full((8, 12, 3), 7, np.uint8)},
    "state": np.array([0.5, -1.0, 0.25], np.float32),
    "prompt": "pick the cup",
}


class Robot:
    """A connection to the golden server."""

    def __init__(self, connection: ClientConnection) -> None:
        self.connection = connection
        self.greeting = self._unpacked(connection.recv(120))

    def ask(self, message: Any) -> Any:
        """The reply to `message`: a map, or the text of an error."""
        self.connection.send(message if isinstance(message, (bytes, str)) else wire.pack(message))
        return self._unpacked(self.connection.recv(120))

    def hello(self, **entries: Any) -> Any:
        """The answer to a hello; the error, if it is one."""
        answer = self.ask({"fla": {"hello": {"protocol": 1, **entries}}})["fla"]
        return answer.get("hello") or answer["error"]

    def observe(self, *without: str, **changes: Any) -> Any:
        """The reply to a good observation, changed."""
        entries = OBSERVATION | changes
        return self.ask({key: value for key, value in entries.items() if key not in without})

    def refused(self, *without: str, **changes: Any) -> Any:
        """The error that `observe` gets after a hello."""
        return self.observe(*without, **changes)["fla"]["error"]

    @staticmethod
    def _unpacked(frame: str | bytes) -> Any:
        return frame if isinstance(frame, str) else wire.unpack(frame)


@pytest.fixture
def robot(many_server: Any) -> Iterator[Callable[[], Robot]]:
    """`robot()` connects one."""
    with ExitStack() as stack:

        def dial() -> Robot:
            return Robot(stack.enter_context(connect(many_server.url, compression=None, max_size=None)))

        yield dial
