"""A policy as a deployment of Ray Serve: the server of `fla serve`, in as many replicas as the robots need.

serve run --app-dir examples/ray_serve deployment:app checkpoint=out/planar3 max_replicas=4
"""

import contextlib
import os
from typing import Any

from asgi import converse
from fastapi import FastAPI
from pydantic import BaseModel
from ray import serve
from ray.serve import Application, Deployment
from starlette.responses import PlainTextResponse
from starlette.websockets import WebSocket

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
    async def robot(self, websocket: WebSocket) -> None:
        await converse(websocket, self._service, self._tokens)


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
