"""`Status`: what the status page shows, as `/status.json`."""

import base64
import json
import math
import time
from collections.abc import Iterator, Mapping
from importlib.metadata import version
from io import BytesIO
from typing import Any, cast

import attrs
import numpy as np
from numpy.typing import NDArray

from fla_sdk.serving.metrics import Histogram, Metrics
from fla_sdk.serving.observer import Client, Exchange, Observer
from fla_sdk.serving.service import Service

WIDTH = 160
"""Of a picture on the page, at most, in pixels."""

CAMERAS, ROBOTS, DIMENSIONS, STEPS = 6, 64, 32, 64
"""At most so many are shown: of one robot's cameras, of robots, of a chunk's dimensions and of its actions."""


@attrs.define(kw_only=True, eq=False)
class Seen:
    """The last that was heard of one client."""

    client: Client
    answers: int = 0
    refusals: int = 0
    exchange: Exchange | None = None
    """Keeps its images until the next one comes, for who looks."""

    at_s: float = 0.0
    problem: str | None = None
    """Why it got no actions the last time."""


class Status(Observer):
    """Remembers one request per client, and makes nothing of it before somebody looks."""

    def __init__(self, metrics: Metrics) -> None:
        self.checkpoint = ""
        """What is served, in words."""

        self._metrics = metrics
        self._begun_s = time.time()
        self._seen: dict[int, Seen] = {}

    # --- Observer -----------------------------------------------------------------------------------------------------

    def connected(self, client: Client) -> None:
        self._seen[client.number] = Seen(client=client)

    def answered(self, exchange: Exchange) -> None:
        if (seen := self._seen.get(exchange.client.number)) is None:
            return  # it hung up meanwhile
        seen.exchange, seen.at_s, seen.problem = exchange, time.monotonic(), None
        seen.answers += 1

    def refused(self, client: Client, code: str, message: str) -> None:
        if (seen := self._seen.get(client.number)) is None:
            return  # it hung up meanwhile
        seen.refusals += 1
        seen.problem = f"{code}: {message[:300]}"

    def disconnected(self, client: Client) -> None:
        self._seen.pop(client.number, None)

    # --- The page -----------------------------------------------------------------------------------------------------

    def figures(self, service: Service) -> dict[str, Any]:
        """All but the robots; on the event loop."""
        metrics = self._metrics
        return {
            "started_s": self._begun_s,
            "up_s": round(time.time() - self._begun_s),
            "version": version("fla-sdk"),
            "checkpoint": self.checkpoint,
            "draining": service.draining,
            "queue": service.thread.waiting,
            "max_batch": service.served.max_batch,
            "connections": len(service.clients),
            "answers": sum(metrics.answers.values()),
            "per_s": round(metrics.per_s(), 1),
            "errors": dict(metrics.errors),
            "dropped_rows": metrics.dropped_rows,
            "reloads": dict(metrics.reloads),
            "stages": {name: _told(histogram) for name, histogram in metrics.stages.items()},
            "batches": _told(metrics.batches),
        }

    def robots(self) -> list[Seen]:
        """A copy for another thread; on the event loop."""
        return [attrs.evolve(seen) for seen in list(self._seen.values())[:ROBOTS]]

    @staticmethod
    def render(figures: Mapping[str, Any], robots: list[Seen], service: Service) -> bytes:
        """The JSON with its pictures; in any thread."""
        now_s = time.monotonic()
        told = [_robot(seen, service, now_s) for seen in robots]
        return json.dumps({**figures, "robots": told}, allow_nan=False, separators=(",", ":")).encode()


def _told(histogram: Histogram) -> dict[str, Any]:
    quantiles = {f"p{share}": histogram.quantile(share / 100) for share in (50, 99)}
    return {
        "bounds": histogram.bounds,
        "counts": list(histogram.counts),
        "mean": round(histogram.sum / max(histogram.total, 1), 3),
        # JSON has no infinity.
        **{name: None if value is None or math.isinf(value) else value for name, value in quantiles.items()},
        "above": {name: value is not None and math.isinf(value) for name, value in quantiles.items()},
    }


def _robot(seen: Seen, service: Service, now_s: float) -> dict[str, Any]:
    session, exchange = seen.client.session, seen.exchange
    told: dict[str, Any] = {
        "number": seen.client.number,
        "peer": seen.client.peer,
        "client": session.client if session else "",
        "embodiment": session.embodiment if session else None,
        "execution": session.execution if session else None,
        "connected_s": round(now_s - seen.client.connected_s, 1),
        "answers": seen.answers,
        "refusals": seen.refusals,
        "problem": seen.problem,
        "age_s": None,
        "cameras": [],
        "chunk": None,
    }
    if exchange is None:
        return told
    name = exchange.embodiment
    told["embodiment"] = told["embodiment"] or (None if name is None else name[:100])
    told["age_s"] = round(now_s - seen.at_s, 1)
    told["total_ms"] = round(exchange.timing.total_ms, 1) if exchange.timing else None
    observation = exchange.request.observation
    prompt = observation.get("prompt", observation.get("task"))
    told["prompt"] = prompt[:300] if isinstance(prompt, str) else None
    told["cameras"] = _pictures(observation)
    robot = service.served.embodiments.get(name or "")
    told["chunk"] = _chunk(exchange.answer, robot.action.names if robot else ())
    return told


def _pictures(observation: Mapping[str, Any]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for name, image in _images(observation, ""):
        if len(found) == CAMERAS:
            break
        if (data := _jpeg(image)) is not None:
            found.append(
                {"name": name.removeprefix("images/")[:100], "data": data, "size": [image.shape[1], image.shape[0]]}
            )
    return found


def _images(entries: Mapping[str, Any], path: str) -> Iterator[tuple[str, NDArray[np.uint8]]]:
    for key, value in entries.items():
        if isinstance(value, dict):
            yield from _images(cast("dict[str, Any]", value), f"{path}{key}/")
        elif isinstance(value, np.ndarray):
            image = cast("NDArray[np.uint8]", value)
            if image.dtype == np.uint8 and image.ndim == 3 and image.shape[2] == 3:
                yield f"{path}{key}", image


def _jpeg(image: NDArray[np.uint8]) -> str | None:
    """A small picture as a data URI; None where there is nothing to see."""
    from PIL import Image

    height, width = image.shape[:2]
    if not height or not width:
        return None
    every = max(width // (2 * WIDTH), height // (2 * WIDTH), 1)
    picture = Image.fromarray(np.ascontiguousarray(image[::every, ::every]))
    picture.thumbnail((WIDTH, WIDTH))
    file = BytesIO()
    picture.save(file, "JPEG", quality=70)
    return "data:image/jpeg;base64," + base64.b64encode(file.getvalue()).decode()


def _chunk(answer: Mapping[str, Any] | None, names: tuple[str, ...]) -> dict[str, Any] | None:
    actions = np.asarray((answer or {}).get("actions"))
    if actions.ndim != 2 or actions.dtype.kind not in "fiu" or not actions.size:
        return None
    every = -(-len(actions) // STEPS)
    shown = actions[::every, :DIMENSIONS].astype(np.float64)
    lines = [[float(f"{v:.5g}") if math.isfinite(v) else None for v in column] for column in shown.T]
    known = names if len(names) == actions.shape[1] else tuple(f"action {i}" for i in range(actions.shape[1]))
    return {"steps": len(actions), "lines": [{"name": n, "values": v} for n, v in zip(known, lines, strict=False)]}
