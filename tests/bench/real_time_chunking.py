r"""Success and smoothness of the planar arm when answers take their time, by how chunks are executed.

    fla record planar --embodiment planar2 --episodes 2500 --out out/rtc/data
    fla train pi05_planar --data out/rtc/data --embodiment planar2 --skip-idle --out out/rtc/plain --steps 2500 \
        --set optimizer.decay_steps=2500 --set model_options.horizon=8
    fla train pi05_planar --data out/rtc/data --embodiment planar2 --skip-idle --out out/rtc/run --steps 1500 \
        --set optimizer.decay_steps=1500 --set model_options.horizon=8 --set model_options.max_delay=4 \
        --init out/rtc/plain
    .venv/bin/python tests/bench/real_time_chunking.py out/rtc/run [--episodes N] [--drift RAD]

The policy has learned to continue chunks (`max_delay`), after it had learned the task: an arm that commands the pose of
the goal from the first step on teaches nothing to who is told the beginning of the chunk. Guided, it makes no use of
that. The targets drift, which no demonstration showed. Time is simulated: a delay is a number of control steps of
100 ms, in which the arm goes on as the way of execution says. Every way sees the same episodes. Jerk is the third
difference of the commands from the first chunk on, root mean square over an episode, in rad/s^3.
"""

import argparse
import statistics
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import fla_sdk as fla
from fla_sdk.client.buffer import Asked, ChunkBuffer
from fla_sdk.client.delay import DelayForecast
from fla_sdk.evaluation.wilson import wilson

EMBODIMENT = "planar2"
REPLAN = 4
FIRST_SEED = 20_000_000
Act = Callable[[Any], NDArray[np.floating]]


class Late:
    """A policy whose answer is there `delay` control steps after its observation."""

    def __init__(self, policy: fla.Policy, delay: int, continuing: fla.Policy | None = None) -> None:
        """`continuing` answers where there is a rest of a chunk; None: nobody is told of it."""
        self._policy, self.delay, self.continuing = policy, delay, continuing

    def ask(self, observation: Any, asked: Asked | None = None) -> NDArray[np.floating]:
        observation = {**observation, "embodiment": EMBODIMENT}
        if self.continuing is None or asked is None or asked.rest is None:
            return self._policy.infer(observation)["actions"]
        return self.continuing.infer(observation, rest=asked.rest, delay=asked.delay)["actions"]


class Synchronous:
    """The arm stands still until the answer is there."""

    def __init__(self, policy: Late) -> None:
        self._policy = policy
        self._chunk = np.zeros((0, 2))
        self._done = self._waits = 0
        self._last: NDArray[np.floating] | None = None

    def __call__(self, environment: Any) -> NDArray[np.floating]:
        if self._done == min(len(self._chunk), REPLAN):
            self._chunk, self._done = self._policy.ask(environment.observe()), 0
            self._waits = self._policy.delay
        if self._waits:
            self._waits -= 1
            return environment.joints if self._last is None else self._last
        action = self._last = self._chunk[self._done]
        self._done += 1
        return action


class Asynchronous:
    """What `AsynchronousExecutor` does, by the same buffer, in simulated time."""

    def __init__(self, policy: Late) -> None:
        self._policy = policy
        self._buffer, self._forecast = ChunkBuffer(), DelayForecast(1)
        self._coming: tuple[int, Asked, NDArray[np.floating]] | None = None
        self._last: NDArray[np.floating] | None = None

    def __call__(self, environment: Any) -> NDArray[np.floating]:
        buffer = self._buffer
        if self._coming is None and buffer.due(execute=REPLAN, forecast=self._forecast.steps):
            asked = buffer.ask(forecast=self._forecast.steps)
            self._coming = buffer.steps + self._policy.delay, asked, self._policy.ask(environment.observe(), asked)
        if self._coming is not None and self._coming[0] <= buffer.steps:
            _, asked, actions = self._coming
            measured = buffer.merge(actions, asked)
            if asked.rest is not None:
                self._forecast.add(measured)
            self._coming = None
        action = buffer.take()
        if action is not None:
            self._last = action
        return environment.joints if self._last is None else self._last


def play(environment: Any, act: Act, seed: int, hz: float) -> tuple[bool, int, float]:
    """Success, control steps, and jerk."""
    environment.reset(seed)
    at_rest = environment.joints
    commands: list[NDArray[np.floating]] = []
    over = False
    while not over:
        commands.append(np.array(act(environment), np.float64))
        over = environment.step(commands[-1])
    begun = next(step for step, command in enumerate(commands) if not np.array_equal(command, at_rest))
    jerks = np.diff(np.array(commands[begun:]), n=3, axis=0) * hz**3
    return environment.success, len(commands), float(np.sqrt(np.mean(jerks**2)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="checkpoint, or folder of a run")
    parser.add_argument("--episodes", type=int, default=50)
    parser.add_argument("--drift", type=float, default=0.04, help="of the targets, in rad per step around the base")
    parser.add_argument("--delays", type=int, nargs="+", default=[0, 100, 200, 400], help="in ms")
    options = parser.parse_args()
    registry = fla.load_plugins()
    hz = registry.embodiment(EMBODIMENT).control_hz
    trained, guided = (
        fla.Policy.load(options.run, plugins=registry, embodiment=EMBODIMENT, model_options=changes)
        for changes in ({}, {"max_delay": 0})
    )
    ways: dict[str, Callable[[int], Act]] = {
        "synchronous": lambda delay: Synchronous(Late(trained, delay)),
        "naive asynchronous": lambda delay: Asynchronous(Late(trained, delay)),
        "real-time chunking, guided": lambda delay: Asynchronous(Late(trained, delay, guided)),
        "real-time chunking, trained": lambda delay: Asynchronous(Late(trained, delay, trained)),
    }
    environment: Any = registry.benchmark("planar").make(EMBODIMENT, drift=options.drift)
    print(
        "| delay | execution | success | steps of the solved, median | jerk, rad/s^3, median |\n|---|---|---|---|---|"
    )
    for milliseconds in options.delays:
        played: dict[str, list[tuple[bool, int, float]]] = defaultdict(list)
        for seed in range(FIRST_SEED, FIRST_SEED + options.episodes):
            for name, make in ways.items():
                played[name].append(play(environment, make(round(milliseconds * hz / 1000)), seed, hz))
        for name, found in played.items():
            solved, steps, jerks = zip(*found, strict=True)
            taken = [count for count, success in zip(steps, solved, strict=True) if success]
            print(
                f"| {milliseconds} ms | {name} | {wilson(sum(solved), len(solved))} | "
                f"{statistics.median(taken) if taken else '-'} | {statistics.median(jerks):.0f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
