"""What the planar arms offer to the SDK: the benchmark `planar`."""

from collections.abc import Iterator
from typing import Any

from fla_sdk.environment import Environment
from fla_sdk.hookspecs import hookimpl
from fla_sdk.records import Benchmark, Expert


def _make(embodiment: str, **options: Any) -> Environment:
    from fla_plugins.planar.environment import make

    return make(embodiment, **options)


def _expert(environment: Environment, seed: int) -> Expert:
    from fla_plugins.planar.expert import expert

    return expert(environment, seed)


@hookimpl
def fla_benchmarks() -> Iterator[Benchmark]:
    yield Benchmark(
        name="planar",
        description="planar arms reach for the coloured target that the instruction names",
        embodiments=("planar2", "planar3"),
        make=_make,
        max_steps=40,
        expert=_expert,
        replan=4,
    )
