"""What this plugin offers to the SDK: the benchmark `isaaclab`. Importing this loads no simulator."""

from collections.abc import Iterator

from fla_sdk.environment import Environment
from fla_sdk.errors import ConfigError
from fla_sdk.hookspecs import hookimpl
from fla_sdk.records import Benchmark


def make(embodiment_name: str, *, task: str = "", robot: str = "robot", device: str = "cuda:0") -> Environment:
    """One instance of an Isaac Lab task, headless; `robot` is the name of the articulation in its scene.

    Raises `ConfigError` when Isaac Lab is not installed, `UnknownNameError` for a task that it does not have.
    """
    del embodiment_name  # the task has its own robot
    try:
        import isaaclab  # noqa: F401  # pyright: ignore[reportMissingImports]
    except ModuleNotFoundError as error:
        raise ConfigError(
            "Isaac Lab is not installed in this Python (no module isaaclab). It needs Isaac Sim and an NVIDIA GPU:"
            " install it as https://isaac-sim.github.io/IsaacLab says, fla-sdk[train] beside it, and run this again."
            " Recordings that were made elsewhere are read with `fla data convert`"
        ) from error
    if not task:
        raise ConfigError("say which task with --task, such as Isaac-Lift-Cube-Franka-v0")
    from fla_plugins.isaaclab.environment import IsaacLabEnvironment

    return IsaacLabEnvironment(task, robot=robot, device=device)


@hookimpl
def fla_benchmarks() -> Iterator[Benchmark]:
    yield Benchmark(
        name="isaaclab",
        description="any task of an installed Isaac Lab, with the robot that the task has",
        embodiments=(),
        make=make,
        max_steps=1000,
    )
