"""A thousand connections that drop, ten thousand messages that nobody should send: does the server stay as it was?

    .venv/bin/python tests/bench/malformed.py [--connections N] [--frames N]

Connections end at a random point: in the middle of the HTTP request, after it, inside a frame, after a request, with
and without a goodbye. Messages are those of tests/sdk/serving/corpus, good ones with some bytes changed, cut or
repeated, and values that hypothesis makes up. Memory and open descriptors of the server are read before and after.
"""

import argparse
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgpack
import numpy as np
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from fla_sdk import wire

SERVING = Path(__file__).parents[1] / "sdk" / "serving"
CORPUS = [file.read_bytes() for file in sorted((SERVING / "corpus").glob("*.bin"))]
GOOD = {"images": {"top": np.full((64, 64, 3), 7, np.uint8)}, "state": np.zeros(3, np.float32), "prompt": "pick"}
HELLO = wire.pack({"fla": {"hello": {"protocol": 1, "embodiment": "arm"}}})
CONTINUED = wire.pack({**GOOD, "fla": {"rest": np.zeros((2, 3)), "delay": 1, "request": 4}})
SEEDS = [*CORPUS, wire.pack(GOOD), HELLO, CONTINUED]

NAMES = st.sampled_from(["state", "images", "top", "prompt", "embodiment", "fla", "hello", "protocol", "rest", "robot"])
MARKS = st.sampled_from([b"__ndarray__", b"__npgeneric__", b"__image__", b"data", b"dtype", b"shape", b"format"])
PLAIN = st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.floats()
VALUES = st.recursive(
    PLAIN | st.text(max_size=5) | st.binary(max_size=9),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(NAMES | MARKS, inner, max_size=5),
    max_leaves=20,
)


def dial(url: str) -> ClientConnection:
    return connect(url, compression=None, max_size=None)


def answers(url: str) -> bool:
    """Whether a good request gets its actions."""
    with dial(url) as link:
        link.recv(10)
        link.send(wire.pack(GOOD))
        return "actions" in wire.unpack(link.recv(10, decode=False))


def drop(port: int, numbers: np.random.Generator) -> None:
    """Connect, go as far as it comes, and be gone."""
    request = (
        f"GET / HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
    ).encode()
    with socket.create_connection(("127.0.0.1", port), timeout=10) as link:
        stage = numbers.integers(6)
        if stage == 0:
            link.sendall(request[: numbers.integers(len(request))])
        elif stage > 0:
            link.sendall(request)
            link.recv(2000)
        if stage > 1:
            message = SEEDS[numbers.integers(len(SEEDS))]
            header = b"\x82" + (struct.pack(">BH", 0xFE, len(message)) + bytes(4))  # masked with zeros
            whole = header + message
            link.sendall(whole if stage > 2 else whole[: numbers.integers(len(whole))])
        if stage == 4:
            link.settimeout(0.05)
            with suppress(TimeoutError):
                link.recv(100_000)
        if stage == 5:  # a reset instead of an end
            link.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def mutated(numbers: np.random.Generator) -> bytes:
    """A message of the seeds with some bytes changed, a part cut out, or a part repeated."""
    message = bytearray(SEEDS[numbers.integers(len(SEEDS))])
    for _ in range(numbers.integers(0, 6)):
        if not message:
            break
        at, length = int(numbers.integers(len(message))), int(numbers.integers(1, 9))
        kind = numbers.integers(3)
        if kind == 0:
            message[at : at + length] = numbers.bytes(len(message[at : at + length]))
        elif kind == 1:
            del message[at : at + length]
        else:
            message[at:at] = message[at : at + length]
    return bytes(message)


class Mischief:
    """Sends messages over one connection, dials again where it is closed, and counts what comes back."""

    def __init__(self, url: str) -> None:
        self._url = url
        self.seen: Counter[str] = Counter()
        self._link: ClientConnection | None = None

    def send(self, message: bytes) -> None:
        if self._link is None:
            self._link = dial(self._url).__enter__()
            self._link.recv(10)
        try:
            self._link.send(message)
            reply = self._link.recv(10)
        except ConnectionClosed as closed:
            self.seen[f"closed with {closed.rcvd.code if closed.rcvd else 'nothing'}"] += 1
            self.close()
            return
        if isinstance(reply, str):
            self.seen["refused"] += 1
        else:
            entry = wire.unpack(reply).get("fla") or {}
            self.seen[entry.get("error", {}).get("code", "answered" if "hello" not in entry else "welcomed")] += 1

    def close(self) -> None:
        if self._link is not None:
            self._link.__exit__(None, None, None)
        self._link = None


def made_up(mischief: Mischief, count: int) -> None:
    """`count` messages of values that hypothesis makes up."""

    @settings(max_examples=count, database=None, phases=[Phase.generate], suppress_health_check=[HealthCheck.too_slow])
    @given(VALUES)
    def send(value: Any) -> None:
        try:
            message = msgpack.packb(value)
        except (OverflowError, ValueError):
            message = b""
        mischief.send(message or b"")

    send()


def state(process: subprocess.Popen[str]) -> tuple[float, int]:
    """Resident memory in MB, and open descriptors."""
    lines = Path(f"/proc/{process.pid}/status").read_text().splitlines()
    resident = next(int(line.split()[1]) for line in lines if line.startswith("VmRSS"))
    return resident / 1e3, len(list(Path(f"/proc/{process.pid}/fd").iterdir()))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--connections", type=int, default=1000)
    parser.add_argument("--frames", type=int, default=10_000)
    arguments = parser.parse_args()
    numbers = np.random.default_rng(0)
    command = [sys.executable, str(SERVING / "golden_server.py"), "0", "robots=many"]
    with (
        tempfile.TemporaryFile("w+") as log,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True) as process,
    ):
        assert process.stdout is not None
        try:
            url = process.stdout.readline().split()[-1]
            threading.Thread(target=process.stdout.read, daemon=True).start()
            first = Mischief(url)
            for message in CORPUS * 2:  # libraries that are loaded when they are first needed, threads that start then
                first.send(message)
            first.close()
            for _ in range(50):
                assert answers(url)
            before = state(process)
            begun = time.monotonic()
            for _ in range(arguments.connections):
                drop(int(url.rsplit(":", 1)[1]), numbers)
            assert answers(url)
            print(f"{arguments.connections} connections dropped in {time.monotonic() - begun:.0f} s", flush=True)
            mischief, begun = Mischief(url), time.monotonic()
            made_up(mischief, arguments.frames // 5)
            while mischief.seen.total() < arguments.frames:
                mischief.send(mutated(numbers))
                if numbers.integers(50) == 0:
                    mischief.close()
            mischief.close()
            counted = ", ".join(f"{count} {what}" for what, count in mischief.seen.most_common())
            print(f"{mischief.seen.total()} messages in {time.monotonic() - begun:.0f} s: {counted}", flush=True)
            print(f"the next good request is answered: {answers(url)}")
            time.sleep(1)
            after = state(process)
        finally:
            process.terminate()
        log.seek(0)
        said = log.read()
    print(f"resident memory {before[0]:.1f} MB, then {after[0]:.1f} MB: {100 * (after[0] / before[0] - 1):+.1f} %")
    print(f"open descriptors {before[1]}, then {after[1]}; {said.count('Traceback')} tracebacks in the log")


if __name__ == "__main__":
    main()
