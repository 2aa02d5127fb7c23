"""Every hook a plugin can implement, in three families. `docs/hooks.md` has a page for each.

*Registrations* take nothing and return (or yield) frozen records of `fla_sdk.records`. They are called once, when the
plugins are loaded, on every machine: trainer, server, robot and command line. Keep them instant.

*Events* are called outside `jit`, and their results are ignored. In training an exception in one stops the run and
names the plugin; in serving it is logged once and serving goes on.

*Choices* stop at the first plugin that answers with something other than None.

Implementations may take fewer arguments than listed here. They may not give arguments default values: pluggy 1.6 and
1.7 disagree on what that means, so registration refuses it.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pluggy

if TYPE_CHECKING:
    from fla_sdk.data.dataset import Dataset
    from fla_sdk.embodiment import Embodiment
    from fla_sdk.plugins import Registry
    from fla_sdk.policy.interface import PolicyLike
    from fla_sdk.records import (
        Benchmark,
        Command,
        DatasetFormat,
        ModelFamily,
        Recipe,
        Regularizer,
        Tracker,
    )
    from fla_sdk.training.config import TrainConfig

hookspec = pluggy.HookspecMarker("fla")
hookimpl = pluggy.HookimplMarker("fla")

# --- Registrations ----------------------------------------------------------------------------------------------------


@hookspec
def fla_embodiments() -> "Iterable[Embodiment]":  # type: ignore[empty-body]
    """Robots.

    Example:
        @fla.hookimpl
        def fla_embodiments():
            yield fla.Embodiment(name="myrobot", ...)
    """


@hookspec
def fla_datasets() -> "Iterable[DatasetFormat]":  # type: ignore[empty-body]
    """Dataset formats that can be read, and perhaps recorded.

    Example:
        @fla.hookimpl
        def fla_datasets():
            yield fla.DatasetFormat(name="mylog", description="...", open=open_mylog)
    """


@hookspec
def fla_models() -> "Iterable[ModelFamily]":  # type: ignore[empty-body]
    """Model families with their variants.

    Example:
        @fla.hookimpl
        def fla_models():
            yield fla.ModelFamily(name="mymodel", variants={"small": MyConfig()}, ...)
    """


@hookspec
def fla_regularizers() -> "Iterable[Regularizer]":  # type: ignore[empty-body]
    """Penalties against forgetting, added to the loss.

    Example:
        @fla.hookimpl
        def fla_regularizers():
            yield fla.Regularizer(name="l2sp", description="...", prepare=keep_start, penalty=squared_distance)
    """


@hookspec
def fla_recipes() -> "Iterable[Recipe]":  # type: ignore[empty-body]
    """Named training configs.

    Example:
        @fla.hookimpl
        def fla_recipes():
            yield fla.Recipe(name="mine", description="...", config=lambda: fla.TrainConfig(model="pi05/base", ...))
    """


@hookspec
def fla_benchmarks() -> "Iterable[Benchmark]":  # type: ignore[empty-body]
    """Tasks to judge a policy on, each with an environment and perhaps a scripted expert.

    Example:
        @fla.hookimpl
        def fla_benchmarks():
            yield fla.Benchmark(name="mytask", embodiments=("myrobot",), make=make_environment, max_steps=400, ...)
    """


@hookspec
def fla_trackers() -> "Iterable[Tracker]":  # type: ignore[empty-body]
    """Places that metrics go to.

    Example:
        @fla.hookimpl
        def fla_trackers():
            yield fla.Tracker(name="csv", description="...", open=open_csv)
    """


@hookspec
def fla_commands() -> "Iterable[Command]":  # type: ignore[empty-body]
    """Subcommands of `fla`.

    Example:
        @fla.hookimpl
        def fla_commands():
            yield fla.Command(name="calibrate", help="...", configure=add_arguments, run=calibrate)
    """


# --- Events -----------------------------------------------------------------------------------------------------------


@hookspec
def fla_train_started(config: "TrainConfig", run_dir: Path, step: int) -> None:
    """Training is about to take its first step; `step` is above 0 when it resumes. Called in the trainer.

    :param config: the resolved config.
    :param run_dir: where the run writes.
    :param step: optimizer steps already taken.
    """


@hookspec
def fla_step_ended(step: int, total: int, metrics: Mapping[str, float]) -> None:
    """An optimizer step has been dispatched. Called in the trainer after every step.

    :param step: steps taken, 1 after the first.
    :param total: steps of the whole run.
    :param metrics: means since the last report (`loss`, `grad_norm`, `learning_rate`, `steps_per_second`, ...); empty
        between reports, because reading them would make the device wait.
    """


@hookspec
def fla_checkpoint_saved(step: int, path: Path) -> None:
    """A checkpoint is complete on disk. Called in the trainer.

    :param step: steps taken when it was made.
    :param path: its folder, ready for `fla serve`.
    """


@hookspec
def fla_train_ended(step: int, reason: str) -> None:
    """Training is over. Called in the trainer, also after Ctrl-C and errors.

    :param step: steps taken.
    :param reason: `finished`, `interrupted` or `failed`.
    """


@hookspec
def fla_policy_called(embodiment: str, milliseconds: float) -> None:
    """The policy server has answered one observation. Called in the server, on its event loop: return at once.

    :param embodiment: name of the robot that asked.
    :param milliseconds: from decoded observation to actions; of the whole batch, where robots are answered together.
    """


# --- Choices ----------------------------------------------------------------------------------------------------------


@hookspec(firstresult=True)
def fla_open_dataset(uri: str) -> "Dataset | None":
    """Open a dataset that a path or URI names, or return None if it is not yours. Called by training and statistics.

    :param uri: what the user typed after `--data`.
    """


@hookspec(firstresult=True)
def fla_open_checkpoint(
    path: Path, registry: "Registry", embodiment: str | None, options: Mapping[str, Any]
) -> "PolicyLike | None":
    """Open a checkpoint as a policy, or return None if it is not yours. Called by serving and evaluation.

    Checkpoints of our own trainer are opened after these.

    :param path: file or folder on this machine; what the user typed, or what was fetched from there.
    :param registry: to look up embodiments and models in.
    :param embodiment: name of the robot to be driven; None when the user named none.
    :param options: `denoising_steps` and `guidance`; and where the user gave them `assets`, the name of the statistics
        to take, and `model`, fields of the model's config to change.
    """
