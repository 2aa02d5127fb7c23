"""What the server costs beyond the policy: a request of three 224x224 images on loopback, one client.

    .venv/bin/python tests/bench/round_trip.py [--rounds N]

Compared, in turns, in one run: a bare websocket echo of the same bytes; a server that runs the policy inside its event
loop, as openpi's does; ours, asked as openpi's client asks and after a hello. The policy answers at once. Then encoding
and decoding of the observation, against plain msgpack with zero-copy arrays, each in processes of its own: what one
frees decides what memory costs the other.
"""

import argparse
import asyncio
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import msgpack
import numpy as np
from websockets.asyncio.server import ServerConnection
from websockets.asyncio.server import serve as open_server
from websockets.sync.client import connect

from fla_sdk import wire
from fla_sdk.embodiment import Camera, Embodiment
from fla_sdk.serving.server import serve
from fla_sdk.space import Space, joints

NAMES = [f"joint{i}" for i in range(14)]
CAMERAS = ("top", "left", "right")
WARMING = 50
CODEC_TURNS = 5
ACTIONS = np.zeros((50, 14), np.float32)


class Instant:
    """Answers with the same chunk at once."""

    metadata: Mapping[str, Any] = {}
    embodiments: Mapping[str, Embodiment] = {
        "arms": Embodiment(
            name="arms",
            state=Space(joints(*NAMES)),
            action=Space(joints(*NAMES)),
            cameras=tuple(Camera(name, slot=None) for name in CAMERAS),
            control_hz=50,
        )
    }
    default_embodiment = "arms"
    horizon = 50

    def infer(self, observation: Mapping[str, Any]) -> dict[str, Any]:
        return {"actions": ACTIONS}


def observation() -> dict[str, Any]:
    noise = np.random.default_rng(0)
    images = {name: noise.integers(0, 256, (224, 224, 3), np.uint8) for name in CAMERAS}
    return {"images": images, "state": np.zeros(14, np.float32), "prompt": "put the cup on the shelf"}


# --- Servers ----------------------------------------------------------------------------------------------------------


async def echo(connection: ServerConnection) -> None:
    await connection.send(b"")
    async for frame in connection:
        await connection.send(frame)


async def inline(connection: ServerConnection) -> None:
    """openpi's way: everything in the handler."""
    await connection.send(plain_pack({}))
    total: float | None = None
    async for frame in connection:
        begun = time.monotonic()
        asked = plain_unpack(frame)
        inferred = time.monotonic()
        answer = Instant().infer(asked)
        answer["server_timing"] = {"infer_ms": (time.monotonic() - inferred) * 1e3}
        if total is not None:
            answer["server_timing"]["prev_total_ms"] = total * 1e3
        await connection.send(plain_pack(answer))
        total = time.monotonic() - begun


async def bare(handler: Callable[[ServerConnection], Any]) -> None:
    async with open_server(handler, "127.0.0.1", 0, compression=None, max_size=None) as server:
        print(f"serving on ws://127.0.0.1:{next(iter(server.sockets)).getsockname()[1]}", flush=True)
        await server.serve_forever()


def run_server(kind: str) -> None:
    if kind == "ours":
        serve(Instant(), port=0)
    else:
        asyncio.run(bare({"echo": echo, "inline": inline}[kind]))


# --- Plain msgpack ----------------------------------------------------------------------------------------------------


def plain_pack(value: Any) -> bytes:
    def encode(one: Any) -> Any:
        return {b"__ndarray__": True, b"data": one.tobytes(), b"dtype": one.dtype.str, b"shape": one.shape}

    return msgpack.packb(value, default=encode)  # type: ignore[return-value]


def plain_unpack(message: Any) -> Any:
    def decode(one: dict[Any, Any]) -> Any:
        if b"__ndarray__" in one:
            return np.ndarray(buffer=one[b"data"], dtype=np.dtype(one[b"dtype"]), shape=one[b"shape"])
        return one

    return msgpack.unpackb(message, object_hook=decode)


def run_codec(kind: str, rounds: int) -> None:
    asked = observation()
    codecs = {"plain": lambda: plain_unpack(plain_pack(asked)), "ours": lambda: wire.unpack(wire.pack(asked))}
    print(json.dumps(interleaved({kind: codecs[kind]}, rounds=rounds)[kind]))


# --- Measuring --------------------------------------------------------------------------------------------------------


def processor_ms(pid: int) -> float:
    """What all threads of a process have used since it began."""
    tasks = Path(f"/proc/{pid}/task").glob("*/schedstat")
    return sum(int(task.read_text().split()[0]) for task in tasks) / 1e6


def interleaved(cases: Mapping[str, Callable[[], Any]], *, rounds: int) -> dict[str, list[float]]:
    """Milliseconds of every call, one of each case in turn, after some for warming up."""
    times: dict[str, list[float]] = {name: [] for name in cases}
    for turn in range(-WARMING, rounds):
        for name, call in cases.items():
            begun = time.perf_counter()
            call()
            if turn >= 0:
                times[name].append((time.perf_counter() - begun) * 1e3)
    return times


def show(times: Mapping[str, list[float]], *against: str) -> None:
    for name, found in times.items():
        median, slow = statistics.median(found), float(np.percentile(found, 99))
        ratios = "  ".join(
            f"over {base}: x {median / statistics.median(times[base]):.2f} and "
            f"{slow / float(np.percentile(times[base], 99)):.2f}"
            for base in against
        )
        print(f"  {name:16} median {median:7.3f} ms  p99 {slow:7.3f} ms   {ratios}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3000)
    parser.add_argument("--serve", help=argparse.SUPPRESS)
    parser.add_argument("--codec", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.codec:
        run_codec(arguments.codec, arguments.rounds)
        return
    if arguments.serve:
        run_server(arguments.serve)
        return
    asked = observation()
    packed = wire.pack(asked)
    with ExitStack() as stack:
        links: dict[str, Any] = {}
        servers: dict[str, int] = {}
        for name in ("echo", "inline", "ours", "ours, hello"):
            command = [sys.executable, __file__, "--serve", name.split(",")[0]]
            process = stack.enter_context(subprocess.Popen(command, stdout=subprocess.PIPE, text=True))
            stack.callback(process.terminate)
            assert process.stdout is not None
            url, servers[name] = process.stdout.readline().split()[-1], process.pid
            links[name] = stack.enter_context(connect(url, compression=None, max_size=None))
            links[name].recv(30)
        links["ours, hello"].send(wire.pack({"fla": {"hello": {"protocol": 1}}}))
        assert "session" in wire.unpack(links["ours, hello"].recv(30))["fla"]["hello"]

        def ask(name: str) -> Callable[[], None]:
            def call() -> None:
                if name == "echo":
                    links[name].send(packed)
                    links[name].recv(30)
                else:
                    links[name].send(wire.pack(asked))
                    wire.unpack(links[name].recv(30))

            return call

        print(f"round trip of {len(packed) / 1e3:.0f} kB, {arguments.rounds} times each", flush=True)
        before = {name: processor_ms(pid) for name, pid in servers.items()}
        show(interleaved({name: ask(name) for name in links}, rounds=arguments.rounds), "echo", "inline")
        print("processor time of the server per request: says the same where others take part of the machine")
        asks = arguments.rounds + WARMING
        spent = {name: (processor_ms(pid) - before[name]) / asks for name, pid in servers.items()}
        for name, one in spent.items():
            print(f"  {name:16} {one:7.3f} ms   over inline: x {one / spent['inline']:.2f}")
    print("observation to bytes and back")
    codecs: dict[str, list[float]] = {"plain": [], "ours": []}
    for _ in range(CODEC_TURNS):
        for name, times in codecs.items():
            command = [sys.executable, __file__, "--codec", name, "--rounds", str(arguments.rounds)]
            times += json.loads(subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout)
    show(codecs, "plain")


if __name__ == "__main__":
    main()
