"""Sixteen robots on one server, with a policy that takes 40 ms for one robot and 60 ms for eight.

    .venv/bin/python tests/bench/batching.py [--seconds S]

The policy sleeps: it stands for a model on a GPU, whose times are given. Each robot asks twice a second, at its own
moments; in turns with a client that stops in the middle of a message and one that does not read its answers. Then
everybody asks without a pause, in batches and one at a time.
"""

import argparse
import asyncio
import statistics
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

import numpy as np
from websockets.asyncio.client import ClientConnection, connect

from fla_sdk import wire
from fla_sdk.policy.interface import Request
from fla_sdk.serving.server import serve

ROBOTS = 16
PERIOD_S = 0.5
IMAGE = np.zeros((224, 224, 3), np.uint8)


def took_s(count: int) -> float:
    """40 ms for one request, 60 ms for eight."""
    return 0.040 + 0.020 * (count - 1) / 7


class StandIn:
    metadata: Mapping[str, Any] = {}

    def __init__(self, max_batch: int) -> None:
        self.max_batch = max_batch

    def infer(self, observation: Mapping[str, Any]) -> dict[str, Any]:
        return self.infer_many([Request(observation=observation)])[0]

    def infer_many(self, requests: Sequence[Request]) -> list[dict[str, Any]]:
        time.sleep(took_s(2 ** (len(requests) - 1).bit_length()))
        return [{"actions": np.zeros((50, 7), np.float32)} for _ in requests]


async def robot(url: str, number: int, seconds: float, *, period_s: float) -> list[float]:
    """Asks every `period_s` seconds, late answers or not; the seconds that each answer took."""
    took: list[float] = []
    observation = {"images": {"front": IMAGE, "wrist": IMAGE}, "state": np.zeros(7, np.float32), "prompt": "work"}
    async with connect(url, compression=None, max_size=None) as link:
        await link.recv()
        begun = time.monotonic() + np.random.default_rng(number).uniform(0, 0.5)
        step = 0
        while (due := begun + step * period_s) < begun + seconds and time.monotonic() < begun + seconds:
            await asyncio.sleep(max(due - time.monotonic(), 0))
            asked = time.monotonic()
            await link.send(wire.pack(observation))
            assert "actions" in wire.unpack(await link.recv(decode=False))
            took.append(time.monotonic() - asked)
            step += 1
    return took


async def stuck(url: str, until: asyncio.Event) -> None:
    """Begins a message and never ends it."""
    async with connect(url, compression=None, max_size=None) as link:
        await link.recv()

        async def pieces() -> AsyncIterator[bytes]:
            yield b"\x81"
            await until.wait()
            yield b"\xa1a\x01"

        await link.send(pieces())


async def deaf(url: str, until: asyncio.Event) -> None:
    """Asks and asks, and reads nothing."""
    async with connect(url, compression=None, max_size=None, max_queue=1) as link:
        link.transport.pause_reading()
        asking = asyncio.ensure_future(_shout(link))
        await until.wait()
        asking.cancel()
        link.transport.abort()


async def _shout(link: ClientConnection) -> None:
    while True:
        await link.send(wire.pack({"state": np.zeros(7, np.float32), "images": {"front": IMAGE}}))
        await asyncio.sleep(0.5)


async def crowd(url: str, seconds: float, *, period_s: float, disturbed: bool = False) -> tuple[list[float], float]:
    """All waiting times, and answers per second."""
    until = asyncio.Event()
    trouble = [asyncio.ensure_future(one(url, until)) for one in (stuck, deaf)] if disturbed else []
    await asyncio.sleep(0.2)
    begun = time.monotonic()
    answers = await asyncio.gather(*(robot(url, n, seconds, period_s=period_s) for n in range(ROBOTS)))
    spent = time.monotonic() - begun
    until.set()
    await asyncio.gather(*trouble, return_exceptions=True)
    waited = [one for found in answers for one in found]
    return waited, len(waited) / spent


def show(name: str, waited: Sequence[float], rate: float) -> None:
    p50, p99, worst = statistics.median(waited), float(np.percentile(waited, 99)), max(waited)
    print(
        f"  {name:34} {len(waited):5} answers  {rate:6.1f}/s  median {p50 * 1e3:4.0f} ms  p99 {p99 * 1e3:4.0f} ms  "
        f"longest {worst * 1e3:4.0f} ms",
        flush=True,
    )


def measure(max_batch: int, *runs: dict[str, Any]) -> list[tuple[list[float], float]]:
    command = [sys.executable, __file__, "--serve", str(max_batch)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            url = process.stdout.readline().split()[-1]
            return [asyncio.run(crowd(url, **run)) for run in runs]
        finally:
            process.terminate()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=10.0, help="of each run")
    parser.add_argument("--serve", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve:
        serve(StandIn(arguments.serve), port=0)
        return
    calm = {"seconds": arguments.seconds, "period_s": PERIOD_S}
    hurry = {"seconds": arguments.seconds / 2, "period_s": 1e-3}
    disturbed = {**calm, "disturbed": True}
    *turns, hurried = measure(8, calm, disturbed, calm, disturbed, hurry)
    (alone,) = measure(1, hurry)
    print(f"{ROBOTS} robots, {took_s(1) * 1e3:.0f} ms for one request, {took_s(8) * 1e3:.0f} ms for eight")
    asked, troubled = (([*one[0], *two[0]], (one[1] + two[1]) / 2) for one, two in (turns[::2], turns[1::2]))
    show("two requests per second each", *asked)
    print(f"  longest wait: {max(asked[0]) / took_s(8):.2f} batches of eight, its own included (two before it: 3)")
    show("likewise, with stuck clients", *troubled)
    slow = [float(np.percentile(waited, 99)) for waited, _ in (troubled, asked)]
    print(f"  p99 with stuck clients over p99 without: x {slow[0] / slow[1]:.2f}")
    show("without a pause", *hurried)
    show("without a pause, one at a time", *alone)
    print(f"  throughput: x {hurried[1] / alone[1]:.2f}")


if __name__ == "__main__":
    main()
