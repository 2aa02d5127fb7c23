"""What the benchmark `aloha_sim` hands to the SDK. Importing this loads no simulator."""

from collections.abc import Iterator

import numpy as np

from fla_plugins.aloha_sim.environment import AlohaSim
from fla_sdk.environment import Environment
from fla_sdk.errors import ConfigError, UnknownNameError
from fla_sdk.hookspecs import hookimpl
from fla_sdk.records import Benchmark, Expert

EMBODIMENTS = ("aloha_sim",)


def make(
    embodiment_name: str,
    *,
    task: str = "transfer_cube",
    camera_height: int = 480,
    camera_width: int = 640,
    fast_rendering: bool = True,
) -> AlohaSim:
    """One ALOHA in MuJoCo; `task` is `transfer_cube` or `insertion`. The other options are those of `AlohaSim`.

    Raises `UnknownNameError` for another robot or task, `ConfigError` when the simulator is not installed.
    """
    if embodiment_name not in EMBODIMENTS:
        raise UnknownNameError("embodiment of benchmark aloha_sim", embodiment_name, EMBODIMENTS)
    return AlohaSim(task, camera_height=camera_height, camera_width=camera_width, fast_rendering=fast_rendering)


def expert(environment: Environment, seed: int) -> Expert:
    """The scripted demonstrator of the environment's task; call it after `reset`. The same seed moves the same way."""
    if not isinstance(environment, AlohaSim):
        raise ConfigError(
            f"the aloha_sim expert reads MuJoCo's state, which {type(environment).__name__} does not have; "
            "hand it the environment that the benchmark's `make` returned"
        )
    from fla_plugins.aloha_sim.insertion import insertion_expert
    from fla_plugins.aloha_sim.transfer import transfer_expert

    experts = {"transfer_cube": transfer_expert, "insertion": insertion_expert}
    return experts[environment.task_name](environment.physics, np.random.default_rng(seed))


@hookimpl
def fla_benchmarks() -> Iterator[Benchmark]:
    yield Benchmark(
        name="aloha_sim",
        description="bimanual ALOHA in MuJoCo: hand over a cube (task=transfer_cube), join peg and socket (insertion)",
        embodiments=EMBODIMENTS,
        make=make,
        # 8 s. The experts need up to 6 s of it, and gym-aloha's own limit of 300 leaves a slower policy no time to
        # try a second grasp.
        max_steps=400,
        expert=expert,
        replan=25,
    )
