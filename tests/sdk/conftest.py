"""A policy server as its own process, for the tests of the wire, the server and the client."""

import queue
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

_SCRIPT = Path(__file__).parent / "serving" / "golden_server.py"
_LIMIT_S = 300.0


class ServerProcess:
    """`golden_server.py` in a process; `url` is set once it accepts connections."""

    def __init__(self, errors: Path, *, port: int = 0, command: Sequence[str] = (), **options: Any) -> None:
        """`command` serves something else instead."""
        self._errors = errors
        golden = [str(_SCRIPT), str(port), *(f"{name}={value}" for name, value in options.items())]
        with errors.open("w") as stderr:
            self.process = subprocess.Popen(
                [sys.executable, *(command or golden)], stdout=subprocess.PIPE, stderr=stderr, text=True
            )
        self._lines: queue.Queue[str] = queue.Queue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        line = self.line()
        while command and "serving" not in line and line != "(end)":  # it compiles
            line = self.line()
        assert line.startswith(("serving on ws://127.0.0.1:", "serving on wss://127.0.0.1:")), (line, self.stderr())
        self.url = line.split()[-1]
        self.port = int(self.url.rsplit(":", 1)[1])

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._lines.put(line.rstrip("\n"))
        self._lines.put("(end)")

    def line(self) -> str:
        """The next line that the server printed."""
        return self._lines.get(timeout=_LIMIT_S)

    def stderr(self) -> str:
        return self._errors.read_text()

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Send a signal; the exit status."""
        self.process.send_signal(number)
        return self.process.wait(_LIMIT_S)

    def close(self) -> None:
        """Make sure that the process has ended, and free the pipe."""
        if self.process.poll() is None:
            self.stop(signal.SIGKILL)
        self._reader.join(_LIMIT_S)
        assert self.process.stdout is not None
        self.process.stdout.close()


@pytest.fixture
def free_port() -> Iterator[int]:
    """A port on which nobody listens, and which nobody is given: a server takes it when the test names it."""
    with socket.socket() as held:
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        held.bind(("127.0.0.1", 0))
        yield held.getsockname()[1]


@pytest.fixture
def start_server(tmp_path: Path) -> Iterator[Callable[..., ServerProcess]]:
    """`start_server(port=0, **options)` starts a server that ends with the test."""
    started: list[ServerProcess] = []

    def start(**options: Any) -> ServerProcess:
        started.append(ServerProcess(tmp_path / f"server{len(started)}.log", **options))
        return started[-1]

    yield start
    for server in started:
        server.close()


@pytest.fixture
def fla_serve(tmp_path: Path) -> Iterator[Callable[..., ServerProcess]]:
    """`fla_serve(CHECKPOINT, *arguments)` runs `fla serve` on a free port until the test ends."""
    started: list[ServerProcess] = []

    def start(*arguments: Any) -> ServerProcess:
        command = ["-m", "fla_sdk.cli", "serve", *map(str, arguments), "--port", "0"]
        started.append(ServerProcess(tmp_path / f"served{len(started)}.log", command=command))
        return started[-1]

    yield start
    for one in started:
        one.close()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """One server shared by a module's tests, which must leave it as they found it: serving."""
    yield from _shared(tmp_path_factory.mktemp("server") / "server.log", robots=1)


@pytest.fixture(scope="module")
def many_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """Likewise; it answers several robots at once, checks observations, continues chunks and takes guidance."""
    yield from _shared(tmp_path_factory.mktemp("server") / "server.log", robots="many", max_message_bytes=2_000_000)


def _shared(log: Path, **options: Any) -> Iterator[ServerProcess]:
    shared = ServerProcess(log, **options)
    try:
        yield shared
        assert shared.process.poll() is None, shared.stderr()
        assert shared.stop() == 0, shared.stderr()
    finally:
        shared.close()


# --- A small policy, really trained -----------------------------------------------------------------------------------

_EXPERT = {"width": 16, "depth": 1, "heads": 2, "kv_heads": 1, "head_dim": 8, "mlp_dim": 32}
SMALL_MODEL = {
    "vision": {"width": 16, "depth": 1, "heads": 2, "mlp_dim": 32, "patch": 32},
    "language": _EXPERT,
    "expert": _EXPERT,
    "vocab_size": 300,
    "unroll": False,
}
"""Changes to `pi05/tiny` that make it compile in seconds."""


@pytest.fixture(scope="session")
def registry() -> Any:
    """Everything installed."""
    from fla_sdk.plugins import load_plugins

    return load_plugins()


@pytest.fixture(scope="session")
def arms(registry: Any, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Three recorded episodes of each planar arm: embodiment -> dataset."""
    from fla_sdk.evaluation.recording import record

    folder = tmp_path_factory.mktemp("arms")
    for name in ("planar2", "planar3"):
        record(registry, benchmark="planar", embodiment=name, episodes=3, out=folder / name)
    return {name: folder / name for name in ("planar2", "planar3")}


@pytest.fixture(scope="session")
def small_run(arms: dict[str, Path], compiled: None) -> Callable[..., Any]:
    """`small_run(out, **changes)`: the config of a run on both arms that takes seconds."""
    from fla_sdk.training.config import Optimizer, Source, TrainConfig

    def config(out: Path, **changes: Any) -> TrainConfig:
        defaults: dict[str, Any] = {
            "model": "pi05/tiny",
            "model_options": SMALL_MODEL,
            "sources": [Source(data=str(path), embodiment=name) for name, path in arms.items()],
            "steps": 40,
            "batch_size": 4,
            "optimizer": Optimizer(peak_lr=1e-2, end_lr=1e-3, warmup_steps=2, decay_steps=40),
            "ema_decay": 0.9,
            "save_every": 20,
            "log_every": 1,
            "loader_threads": 1,
            "frame_cache": "never",
        }
        return TrainConfig(out=out, **(defaults | changes))

    return config


@pytest.fixture(scope="session")
def trained(small_run: Callable[..., Any], registry: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run of 40 steps, with checkpoints at 20 and 40. Copy it before changing anything."""
    from fla_sdk.training.trainer import Trainer

    out = tmp_path_factory.mktemp("trained") / "run"
    Trainer(small_run(out), plugins=registry).fit()
    return out
