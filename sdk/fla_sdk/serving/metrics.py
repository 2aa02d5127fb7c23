"""`Metrics`: counts and times of a server since its start, and their text for Prometheus."""

import bisect
import itertools
import math
import time
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Sequence

from fla_sdk.serving.observer import Client, Exchange, Observer
from fla_sdk.serving.service import Service

STAGES = ("decode", "queue", "infer", "encode")
"""Where the time of a request goes, in this order. `encode` ends when the answer is handed to the network."""

BOUNDS_MS = (0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 25.0, 50.0, 100.0, 250.0, 500.0, 1000.0, 2500.0)
BATCHES = (1, 2, 4, 8, 16, 32, 64, 128)
RATE_WINDOW_S = 10
_OTHER = "other"


class Histogram:
    """How many values were at most as large as each bound, as Prometheus counts."""

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = tuple(bounds)
        self.counts = [0] * (len(self.bounds) + 1)
        """One more than bounds: what is above them all."""

        self.sum = 0.0

    def add(self, value: float) -> None:
        self.counts[bisect.bisect_left(self.bounds, value)] += 1
        self.sum += value

    @property
    def total(self) -> int:
        return sum(self.counts)

    def quantile(self, share: float) -> float | None:
        """The bound below which `share` of the values are; infinite above the last, None without values."""
        if not (total := self.total):
            return None
        index = next(i for i, below in enumerate(itertools.accumulate(self.counts)) if below >= share * total)
        return self.bounds[index] if index < len(self.bounds) else math.inf


class Metrics(Observer):
    """Costs a few microseconds per request."""

    def __init__(self) -> None:
        self.answers: Counter[str] = Counter()
        """By embodiment."""

        self.errors: Counter[str] = Counter()
        """By code."""

        self.stages = {stage: Histogram(BOUNDS_MS) for stage in STAGES}
        self.batches = Histogram(BATCHES)
        self.connections = 0
        """Since the start."""

        self.reloads: Counter[str] = Counter()
        """`done` and `failed`."""

        self.dropped_rows = 0
        """Observations that a recorder had no time or place for."""

        self._answered_s: deque[float] = deque(maxlen=100_000)

    def per_s(self) -> float:
        """Answers per second, lately."""
        since_s = time.monotonic() - RATE_WINDOW_S
        while self._answered_s and self._answered_s[0] < since_s:
            self._answered_s.popleft()
        return len(self._answered_s) / RATE_WINDOW_S

    # --- Observer -----------------------------------------------------------------------------------------------------

    def connected(self, client: Client) -> None:
        self.connections += 1

    def answered(self, exchange: Exchange) -> None:
        assert exchange.timing is not None
        known = exchange.embodiment if exchange.client.session is not None else None
        # What a client without a session calls its robot is not checked, and must not fill the memory.
        self.answers[known or _OTHER] += 1
        self.stages["decode"].add(exchange.timing.decode_ms)
        self.stages["queue"].add(exchange.timing.queue_ms)
        self.stages["infer"].add(exchange.timing.infer_ms)
        self.batches.add(exchange.timing.batch)
        self._answered_s.append(time.monotonic())

    def sent(self, client: Client, encode_ms: float) -> None:
        self.stages["encode"].add(encode_ms)

    def refused(self, client: Client, code: str, message: str) -> None:
        self.errors[code] += 1

    # --- Prometheus ---------------------------------------------------------------------------------------------------

    def text(self, service: Service) -> str:
        """In Prometheus' text format, version 0.0.4."""
        sessions = Counter(c.session.embodiment if c.session else _OTHER for c in service.clients.values())
        lines = itertools.chain(
            _family("fla_requests_total", "counter", "Requests that got actions.", _by("embodiment", self.answers)),
            _family("fla_errors_total", "counter", "Requests that got an error.", _by("code", self.errors)),
            _family("fla_connections_total", "counter", "Connections since the start.", [("", self.connections)]),
            _family("fla_connections", "gauge", "Connections that are open.", [("", len(service.clients))]),
            _family("fla_sessions", "gauge", "Robots that are connected.", _by("embodiment", sessions)),
            _family("fla_queue_length", "gauge", "Requests that wait for the policy.", [("", service.thread.waiting)]),
            _family("fla_draining", "gauge", "1 when the server is going down.", [("", int(service.draining))]),
            _family("fla_reloads_total", "counter", "Checkpoints loaded while serving.", _by("result", self.reloads)),
            _family("fla_dropped_rows_total", "counter", "Rows that --record dropped.", [("", self.dropped_rows)]),
            _histograms("fla_stage_seconds", "Time of a request, by stage.", "stage", self.stages, scale=1e-3),
            _histograms("fla_batch_size", "Requests answered together.", None, {"": self.batches}, scale=1),
        )
        return "\n".join(lines) + "\n"


def _by(label: str, counts: Counter[str]) -> list[tuple[str, float]]:
    return [(f'{{{label}="{_escaped(name)}"}}', count) for name, count in sorted(counts.items())]


def _family(name: str, kind: str, text: str, values: Iterable[tuple[str, float]]) -> Iterator[str]:
    yield f"# HELP {name} {text}"
    yield f"# TYPE {name} {kind}"
    for labels, value in values:
        yield f"{name}{labels} {value:g}" if isinstance(value, float) else f"{name}{labels} {value}"


def _histograms(
    name: str, text: str, label: str | None, histograms: dict[str, Histogram], *, scale: float
) -> Iterator[str]:
    yield from _family(name, "histogram", text, ())
    for value, histogram in histograms.items():
        own = f'{label}="{_escaped(value)}"' if label else ""
        bounds = [f"{bound * scale:g}" for bound in histogram.bounds] + ["+Inf"]
        for bound, below in zip(bounds, itertools.accumulate(histogram.counts), strict=True):
            yield f'{name}_bucket{{{own}{"," if own else ""}le="{bound}"}} {below}'
        braces = f"{{{own}}}" if own else ""
        yield f"{name}_sum{braces} {histogram.sum * scale:.9g}"
        yield f"{name}_count{braces} {histogram.total}"


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
