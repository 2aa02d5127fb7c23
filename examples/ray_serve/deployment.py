"""A policy as a deployment of Ray Serve: the server of `fla serve`, in as many replicas as the robots need.

serve run --app-dir examples/ray_serve deployment:app checkpoint=out/planar3 max_replicas=4
"""

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Callable
from typing import Any

from fastapi import FastAPI
from pydantic import BaseModel
from ray import serve
from ray.serve import Application, Deployment
from starlette.responses import PlainTextResponse
from starlette.websockets import WebSocket, WebSocketDisconnect, WebSocketState

import fla_sdk as fla
from fla_sdk.serving.service import Service
from fla_sdk.serving.tokens import Token, Tokens

TOKEN = "FLA_TOKEN"


class Arguments(BaseModel, extra="forbid"):
    """What stands behind the import path, or under `args` in a config file."""

    checkpoint: str
    """Everything that `fla serve` takes, at a place that all nodes reach."""

    embodiment: str | None = None
    model_options: dict[str, Any] = {}
    max_batch: int = 1
    """Robots that one call of the model answers."""

    robots: int = 4
    """Per replica. When there are more on the average, another replica is started."""

    min_replicas: int = 1
    max_replicas: int = 4
    cpus: float = 1.0
    gpus: float = 0.0


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


ingress = FastAPI(openapi_url=None)


@serve.deployment
@serve.ingress(ingress)
class Robots:
    """One replica: a policy, its model thread, and the robots that are connected to it."""

    def __init__(self, arguments: Arguments) -> None:
        from fla_sdk.policy.opening import open_policy

        policy = open_policy(
            arguments.checkpoint,
            fla.load_plugins(),
            embodiment=arguments.embodiment,
            model_options=arguments.model_options,
            max_batch=arguments.max_batch,
        )
        token = os.environ.get(TOKEN)
        self._tokens = Tokens([Token(secret=token)]) if token else None
        self._service = Service(policy)
        self._threads = contextlib.ExitStack()
        self._threads.enter_context(self._service.running())

    def __del__(self) -> None:
        """Ray calls this when it stops the replica."""
        if hasattr(self, "_threads"):
            self._threads.close()

    @ingress.get("/healthz")
    def healthz(self) -> PlainTextResponse:
        return PlainTextResponse("OK\n")

    @ingress.websocket("/")
    async def converse(self, websocket: WebSocket) -> None:
        if self._tokens is not None and self._tokens.why_not(websocket.headers.getlist("authorization")):
            await websocket.close()  # not accepted yet: HTTP 403
            return
        await websocket.accept()
        peer = websocket.client
        conversation = self._service.conversation("unknown" if peer is None else f"{peer.host}:{peer.port}")
        frames = Frames(websocket, conversation.hang_up)
        receiving = asyncio.create_task(frames.receive())
        try:
            await conversation.run(frames)
        except WebSocketDisconnect:
            pass
        finally:
            receiving.cancel()
            conversation.hang_up()


def app(arguments: Arguments) -> Application:
    """What `serve run` and config files build."""
    deployment: Deployment = Robots  # pyright: ignore[reportAssignmentType]  # what the decorators make of the class
    return deployment.options(
        # A connected robot is one ongoing request, for as long as it is connected.
        autoscaling_config={
            "min_replicas": arguments.min_replicas,
            "max_replicas": arguments.max_replicas,
            "target_ongoing_requests": arguments.robots,
        },
        max_ongoing_requests=10 * arguments.robots,
        ray_actor_options={"num_cpus": arguments.cpus, "num_gpus": arguments.gpus},
        # Robots of a replica that is stopped are told by their connection, and connect to another one.
        graceful_shutdown_timeout_s=2.0,
    ).bind(arguments)
