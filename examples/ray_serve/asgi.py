"""A policy server's conversation over a websocket of Starlette: for FastAPI, Ray Serve and other ASGI servers."""

import asyncio
from collections.abc import AsyncIterator, Callable

from starlette.websockets import WebSocket, WebSocketDisconnect, WebSocketState

from fla_sdk.serving.service import Service
from fla_sdk.serving.tokens import Tokens


async def converse(websocket: WebSocket, service: Service, tokens: Tokens | None = None) -> None:
    """One robot from its connection to its end. `service` is running; None of `tokens` lets everyone in."""
    if tokens is not None and tokens.why_not(websocket.headers.getlist("authorization")):
        await websocket.close()  # not accepted yet: HTTP 403
        return
    await websocket.accept()
    peer = websocket.client
    conversation = service.conversation("unknown" if peer is None else f"{peer.host}:{peer.port}")
    frames = Frames(websocket, conversation.hang_up)
    receiving = asyncio.create_task(frames.receive())
    try:
        await conversation.run(frames)
    except WebSocketDisconnect:
        pass
    finally:
        receiving.cancel()
        conversation.hang_up()


class Frames:
    """A websocket of starlette's as a conversation wants it; hears of its end while a request is being answered."""

    def __init__(self, websocket: WebSocket, on_end: Callable[[], None]) -> None:
        self._websocket, self._on_end = websocket, on_end
        # A client that sends ahead is read no further than one message, so it cannot fill the memory.
        self._frames: asyncio.Queue[str | bytes | None] = asyncio.Queue(1)

    async def __aiter__(self) -> AsyncIterator[str | bytes]:
        while (frame := await self._frames.get()) is not None:
            yield frame

    async def receive(self) -> None:
        """Read until the socket ends. To be run beside the conversation."""
        while (message := await self._websocket.receive())["type"] == "websocket.receive":
            frame = message.get("bytes")
            await self._frames.put(message["text"] if frame is None else frame)
        self._on_end()
        await self._frames.put(None)

    async def send(self, message: str | bytes, /) -> None:
        if self._websocket.client_state is not WebSocketState.CONNECTED:
            raise WebSocketDisconnect
        if isinstance(message, str):
            await self._websocket.send_text(message)
        else:
            await self._websocket.send_bytes(message)

    async def close(self, code: int = 1000, reason: str = "") -> None:
        await self._websocket.close(code, reason)
