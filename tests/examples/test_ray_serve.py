"""`examples/ray_serve` on a Ray instance of this machine, asked by our client."""

import contextlib
import os
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fla_sdk as fla
from fla_sdk import wire
from fla_sdk.client import PolicyClient
from fla_sdk.errors import ConnectionLost, ServerError
from fla_sdk.policy.opening import open_policy
from fla_sdk.serving.service import Service

pytestmark = pytest.mark.slow  # Ray starts ten processes

ROOT = Path(__file__).parents[2]
LIMIT_S = 120.0
TOKEN = "let-me-in"


class Cluster:
    """`ray_cluster.py` in a process."""

    def __init__(self, folder: str, log: Path) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self.url, self._log = f"ws://127.0.0.1:{port}", log
        key = Path(folder) / "key"
        key.write_text(secrets.token_hex(32))  # else Ray makes one, and leaves it in the home of who runs this
        environment = os.environ | {
            "PYTHONPATH": str(ROOT / "examples" / "ray_serve"),
            "FLA_TOKEN": TOKEN,
            "JAX_PLATFORMS": "cpu",
            "RAY_AUTH_TOKEN_PATH": str(key),
            "RAY_USAGE_STATS_ENABLED": "0",
            "RAY_worker_niceness": "0",  # else a busy machine keeps the replicas from ever starting
        }
        with log.open("w") as errors:
            self.process = subprocess.Popen(
                [sys.executable, str(Path(__file__).with_name("ray_cluster.py")), str(port), folder],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                env=environment,
                start_new_session=True,  # so that all that Ray started can be ended together
            )

    def hear(self, line: str) -> None:
        """Wait until the process says `line`."""
        assert self.process.stdout is not None
        for said in self.process.stdout:
            if said.strip() == line:
                return
        raise AssertionError(f"the cluster ended before it said {line!r}; it said: {self._log.read_text()[-3000:]}")

    def serve(self, checkpoint: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{checkpoint}\n")
        self.process.stdin.flush()
        self.hear(f"serving {checkpoint}")

    def close(self) -> None:
        try:
            self.process.communicate(timeout=LIMIT_S)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    pytest.importorskip("ray.serve", reason="needs the extra `ray`")
    # Its sockets lie there, and the names of sockets are short.
    with tempfile.TemporaryDirectory(prefix="ray", dir="/tmp", ignore_cleanup_errors=True) as folder:
        started = Cluster(folder, tmp_path_factory.mktemp("ray") / "log")
        try:
            started.hear("ready")
            yield started
        finally:
            started.close()


def _client(cluster: Cluster, **options: Any) -> PolicyClient:
    return PolicyClient(cluster.url, token=TOKEN, embodiment="planar2", connect_timeout_s=LIMIT_S, **options)


def _seen(joint1: float) -> dict[str, Any]:
    state = np.array([joint1, -1], np.float32)
    return {"images/front": np.zeros((64, 64, 3), np.uint8), "state": state, "task": "do nothing"}


def test_it_speaks_as_the_server_does(cluster: Cluster) -> None:
    policy = open_policy("scripted:hold", fla.load_plugins(), embodiment="planar2")
    with _client(cluster) as client:
        assert client.metadata == wire.unpack(Service(policy).greeting)
        np.testing.assert_array_equal(client.infer(_seen(0.5))["actions"], policy.infer(_seen(0.5))["actions"])
        with pytest.raises(ServerError, match="planar2: the state is missing"):
            client.infer({"task": "do nothing"})
        np.testing.assert_array_equal(client.infer(_seen(0.5))["actions"], policy.infer(_seen(0.5))["actions"])


def test_strangers_are_turned_away(cluster: Cluster) -> None:
    with pytest.raises(ServerError, match="wants a valid token"):
        PolicyClient(cluster.url, token="guess")


def test_robots_keep_apart_and_outlive_their_replicas(cluster: Cluster) -> None:
    def drive(robot: int) -> str:
        asked = lost = 0
        with _client(cluster) as client:
            while client.metadata["policy"] == "scripted:hold":
                try:
                    actions = client.infer(_seen(robot / 10 + asked / 1e5))["actions"]
                except ConnectionLost:
                    lost += 1
                    assert lost < 100
                    continue
                if client.metadata["policy"] == "scripted:hold":  # a connection that broke may have found the other
                    np.testing.assert_allclose(actions[0, 0], robot / 10 + asked / 1e5, atol=1e-6)
                asked += 1
                if asked == 10:
                    under_way.release()
            return client.metadata["policy"]

    under_way = threading.Semaphore(0)
    with ThreadPoolExecutor(4) as robots:
        driven = [robots.submit(drive, robot) for robot in range(4)]
        assert all(under_way.acquire(timeout=LIMIT_S) for _ in driven)
        # Ray starts replicas with the new policy, and then stops those that the robots are connected to.
        cluster.serve("scripted:sine")
        assert [one.result(LIMIT_S) for one in driven] == ["scripted:sine"] * 4
