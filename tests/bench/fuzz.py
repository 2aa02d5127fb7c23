"""Search for messages that a server does not expect, guided by the lines that they reach.

    uv pip install atheris
    python tests/bench/fuzz.py [-max_total_time=600] [FOLDER]

Every input is sent as one message, to an openpi client's connection and to one after a hello. A message must be
answered or refused; one that makes the server fail ends the search and lies in `crash-*`. The search begins with
tests/sdk/serving/corpus; what reaches new lines goes to FOLDER. `-merge=1 SMALL FOLDER` then keeps what is needed.
It takes all options of libFuzzer.
"""

import asyncio
import importlib
import logging
import sys
import tempfile
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

atheris: Any = importlib.import_module("atheris")  # needed here alone
SERVING = Path(__file__).parents[1] / "sdk" / "serving"
sys.path.insert(0, str(SERVING))
with atheris.instrument_imports(include=["fla_sdk"]):
    from golden_server import GoldenMany  # pyright: ignore[reportMissingImports]

    from fla_sdk import wire
    from fla_sdk.serving.service import Service

HELLO = wire.pack({"fla": {"hello": {"protocol": 1, "embodiment": "arm"}}})


class Socket:
    """Frames in memory."""

    def __init__(self, *frames: bytes) -> None:
        self._frames = frames
        self.said: list[str | bytes] = []

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for frame in self._frames:
            yield frame

    async def send(self, message: str | bytes, /) -> None:
        self.said.append(message)

    async def close(self, code: int = 1000, reason: str = "") -> None:
        raise AssertionError(f"the server failed: {self.said[-1]!r}")


class Obedient(GoldenMany):
    """The prompts that make the golden policy fail or wait are plain text to this one."""

    def infer(self, observation: Mapping[str, Any]) -> dict[str, Any]:
        return super().infer({**observation, "prompt": ""})


def main() -> None:
    logging.disable(logging.CRITICAL)
    service = Service(Obedient())
    loop = asyncio.new_event_loop()

    def send(message: bytes) -> None:
        for frames in ([message], [HELLO, message]):
            conversation = service.conversation("fuzz")
            socket = Socket(*frames)
            loop.run_until_complete(conversation.run(socket))
            conversation.hang_up()
            if len(socket.said) != len(frames) + 1:
                raise AssertionError(f"{len(frames)} messages, {len(socket.said) - 1} answers")

    options = sys.argv[1:]
    if not any(not option.startswith("-") for option in options):
        options.append(tempfile.mkdtemp())
    if "-merge=1" not in options:
        options.append(str(SERVING / "corpus"))
    with service.running():
        atheris.Setup([f"{sys.executable} {__file__}", *options], send)  # libFuzzer starts itself again to merge
        atheris.Fuzz()


if __name__ == "__main__":
    main()
