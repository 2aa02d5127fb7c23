"""A simulated arm at 50 Hz, driven by a policy server as a real one would be.

    fla serve scripted:sine --embodiment planar2 &
    python examples/simulated_robot.py --seconds 10

Serve a checkpoint trained on `planar2` instead, and the arm reaches for the target that it is told to. Change the class
below, and your own robot moves.
"""

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import fla_sdk as fla
from fla_sdk.client import AsynchronousExecutor, ChunkExecutor, PolicyClient, Runtime, SafetyFilter, TemporalEnsemble
from fla_sdk.data.recorder import DatasetRecorder

RATE_HZ = 50.0


class SimulatedArm:
    """The planar arm as a robot whose motors listen 50 times a second: reset, observe and act are all there is."""

    def __init__(self, registry: fla.Registry, name: str, seed: int) -> None:
        # The benchmark's arm moves at 2 radians per second.
        options: dict[str, Any] = {"speed_limit": 2.0 / RATE_HZ, "dwell": 25, "max_steps": 10**9}
        self._arm: Any = registry.benchmark("planar").make(name, **options)
        self._seed = seed

    def reset(self) -> None:
        self._seed += 1
        self._arm.reset(self._seed)

    def observe(self) -> Mapping[str, Any]:
        return self._arm.observe()

    def act(self, action: NDArray[np.floating]) -> Mapping[str, Any]:
        over = self._arm.step(action)
        return {"done": over, "success": self._arm.success}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--url", default="ws://127.0.0.1:8000")
    parser.add_argument("--embodiment", default="planar2", choices=["planar2", "planar3"])
    parser.add_argument("--execution", default="asynchronous", choices=["synchronous", "ensemble", "asynchronous"])
    parser.add_argument("--seconds", type=float, default=10.0, help="longest episode")
    parser.add_argument("--episodes", type=int, default=1)
    parser.add_argument("--record", type=Path, help="folder of a LeRobot dataset to make")
    options = parser.parse_args()

    registry = fla.load_plugins()
    embodiment = registry.embodiment(options.embodiment)
    recorder = None
    if options.record is not None:
        recorder = DatasetRecorder.create(registry, options.record, embodiment, rate_hz=RATE_HZ)
    with PolicyClient(options.url, embodiment=embodiment, execution=options.execution) as policy:
        executor: Any = {
            "synchronous": ChunkExecutor,
            "ensemble": TemporalEnsemble,
            "asynchronous": AsynchronousExecutor,
        }[options.execution](policy)
        runtime = Runtime(
            SimulatedArm(registry, options.embodiment, seed=0),
            executor,
            rate_hz=RATE_HZ,
            safety=SafetyFilter(embodiment, rate_hz=RATE_HZ, velocity={"rad": 2.0}, jerk={"rad": 500.0}),
            recorder=recorder,
        )
        try:
            for _ in range(options.episodes):
                report = runtime.run_episode(limit_s=options.seconds)
                jitter = report.jitter
                print(
                    f"{report.steps} steps in {report.seconds:.1f} s, {report.end}, "
                    f"{'solved' if report.success else 'not solved'}; late by {jitter.mean_ms:.2f} ms on average, "
                    f"{jitter.p99_ms:.2f} at p99, {jitter.max_ms:.2f} at most, {jitter.missed} missed; {report.counts}"
                )
        finally:
            if isinstance(executor, AsynchronousExecutor):
                executor.close()
            if recorder is not None:
                recorder.close()


if __name__ == "__main__":
    main()
