"""The records that plugins hand over. Frozen, keyword-only, checked when built; they carry functions, not work.

A registration hook yields these; the `Registry` keeps them by name. Heavy imports (jax, pyarrow, a simulator) belong
inside the functions, never at the top of a plugin's module: every `fla` command imports every plugin.
"""

import argparse
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import attrs
import numpy as np
from numpy.typing import NDArray

from fla_sdk.environment import Environment
from fla_sdk.errors import ConfigError, PluginError
from fla_sdk.model import ActionModel, ModelSpec, Tokenizer
from fla_sdk.normalization import NormStats

if TYPE_CHECKING:
    from fla_sdk.data.dataset import Dataset, EpisodeWriter
    from fla_sdk.embodiment import Embodiment
    from fla_sdk.training.config import TrainConfig


def _valid_name(record: Any, attribute: "attrs.Attribute[str]", value: str) -> None:
    if not value or not all(c.isalnum() or c in "_-." for c in value):
        raise PluginError(
            f"{type(record).__name__}: name {value!r} must be letters, digits, '_', '-' or '.', and not empty"
        )


def _name() -> Any:
    return attrs.field(validator=[attrs.validators.instance_of(str), _valid_name])


@attrs.frozen(kw_only=True)
class DatasetFormat:
    """A way to store demonstrations (hook `fla_datasets`). Hook `fla_open_dataset` says which folders are in it."""

    name: str = _name()
    description: str
    open: Callable[[Path], "Dataset"]
    """Read the folder. Raises `DataError` naming the file that is missing or damaged."""

    create: Callable[..., "EpisodeWriter"] | None = None
    """`create(path, *, robot: str, fps: float, state_names: tuple[str, ...], action_names: tuple[str, ...],
    cameras: tuple[str, ...], video: bool = False, columns: Mapping[str, Feature] = {}, append: bool = False)` begins a
    new dataset, or takes up one to `append` to; None when the format is read-only. `columns` are further ones, or all
    of them; cameras among them are `image` or `video`, and a shape `()` is learned from the first frame."""

    recognises: Callable[[Path], bool] = lambda path: False
    """Whether the folder is in this format, damaged or not. Asked for what `open` may not be able to read."""

    copy: Callable[..., int] | None = None
    """`copy(path, out, episodes: Sequence[int] | None = None)` writes the numbered episodes, or all, into the new
    folder `out`, packed into files of the usual size and encoding nothing again; returns how many."""

    repair: Callable[..., Sequence[str]] | None = None
    """`repair(path, *, dry_run: bool, tasks: Mapping[int, str])` makes a damaged folder readable without losing what is
    whole, and returns what it did, or would do. `tasks` are texts that the folder has lost, by their number."""

    download: Callable[[str, Path | None], Path] | None = None
    """`download(uri, out)`: a dataset of a hub as a folder on this machine; `out` None for the usual place."""

    upload: Callable[..., str] | None = None
    """`upload(path, uri, *, private: bool)` publishes the folder on a hub, and returns where to look at it."""

    def writable(self) -> Callable[..., "EpisodeWriter"]:
        """`create`. Raises `ConfigError` when the format is read-only."""
        if self.create is None:
            raise ConfigError(f"dataset format {self.name!r} is read-only; choose another one")
        return self.create

    def create_for(
        self,
        path: Path,
        robot: "Embodiment",
        *,
        fps: float | None = None,
        optional_cameras: bool = True,
        **options: Any,
    ) -> "EpisodeWriter":
        """A dataset of what `robot` senses and does, with the cameras that a model sees.

        `fps` None: the robot's control rate, in Hz. `options` are `create`'s. Raises `ConfigError` when the format is
        read-only.
        """
        seen = [camera for camera in robot.cameras if camera.slot is not None]
        return self.writable()(
            path,
            robot=robot.name,
            fps=fps or robot.control_hz,
            state_names=robot.state.names,
            action_names=robot.action.names,
            cameras=tuple(camera.name for camera in seen if optional_cameras or camera.required),
            **options,
        )


@attrs.frozen(kw_only=True)
class Published:
    """Weights that anyone can fetch, and what of their model's config no shape shows."""

    uri: str
    """`gs://...` or `hf://...`; the last part is the name they are known by."""

    variant: str
    """Of the family that lists them."""

    options: Mapping[str, Any] = attrs.field(factory=dict[str, Any])
    """Fields of the variant's config to change, such as `{"horizon": 15}`."""

    groups: tuple[str, ...] = ()
    """Parameter groups that they have; empty when they have all of the variant's."""

    unfit: str = ""
    """Why no policy can be made of them as they are; empty when one can. Training can start from them either way."""

    @property
    def name(self) -> str:
        return self.uri.rstrip("/").rsplit("/", 1)[-1]


@attrs.frozen(kw_only=True)
class ModelFamily:
    """An architecture with its named variants (hook `fla_models`)."""

    name: str = _name()
    description: str
    variants: Mapping[str, Any]
    """Variant name -> frozen config record of this family (cheap to build: no jax)."""

    spec: Callable[[Any], ModelSpec]
    """Config -> what the codec must know."""

    build: Callable[[Any, int], ActionModel]
    """`build(config, seed)` -> a freshly initialised NNX module. May run under `jax.eval_shape` or `jit`."""

    tokenizer: Callable[[Any], Tokenizer]
    """Config -> tokenizer; raises `ConfigError` saying how to get its file when it is missing."""

    group: Callable[[str], str]
    """`/`-joined parameter path -> one of `vision`, `language`, `action_expert`, `projections`, `lora`."""

    read_weights: Callable[[Path, Any], Mapping[str, Any] | None] | None = None
    """`read_weights(path, config)` -> parameters of a file or folder in somebody else's layout, by this family's paths;
    None when it is none that the family knows. Some may be missing: the load report says which. Raises
    `CheckpointError` when the file is damaged or of another model."""

    keep_files: Callable[[Any, Path], None] | None = None
    """`keep_files(config, folder)` copies into `folder`, which may not exist yet, the files on this machine that the
    config names, so that a checkpoint needs nothing beside it."""

    use_files: Callable[[Any, Path], Any] | None = None
    """`use_files(config, folder)` -> the config with the files that `keep_files` left in `folder`, if it left any."""

    for_serving: Callable[[Any, Mapping[str, Any]], tuple[Any, Mapping[str, Any]]] | None = None
    """`for_serving(config, parameters)` -> both of an equivalent model that answers faster: adapters merged."""

    recognise: Callable[[Mapping[str, tuple[int, ...]]], Any] | None = None
    """`recognise(shapes)`: path -> shape of every parameter, to the config they belong to as far as shapes tell; None
    when they are of another family."""

    complete: Callable[[Any, Path, Mapping[str, Any]], Any] | None = None
    """`complete(config, folder, changes)`: a recognised config with what the name of its checkpoint's folder says, and
    with fields that the user gave. Raises `ConfigError` naming fields that have to be given."""

    published: tuple[Published, ...] = ()

    exporters: Mapping[
        str, Callable[[Any, Mapping[str, Any], Sequence[tuple["Embodiment", NormStats]], Path], None]
    ] = attrs.field(factory=dict[str, Any])
    """Format -> `export(config, parameters, robots, out)`: `fla export --format`. `robots` are those to be driven, with
    their statistics, and may be none; `out` is the file or folder to make. Raises `ConfigError` for what the format
    cannot hold, such as adapters, or numbers relative to a state."""


@attrs.frozen(kw_only=True, eq=False)
class Beginning:
    """Where a run begins, as a regularizer sees it."""

    params: Mapping[str, Any]
    """Trainable parameters, path -> array. They are donated to the first step: copy what is to stay."""

    options: Mapping[str, Any]
    """What the config says beside name and strength."""

    checkpoint: Path | None
    """The checkpoint that the run starts from, on this machine; None from scratch."""

    resumes: bool = False
    """A checkpoint of the run replaces what `prepare` returns: only its shapes matter, nothing has to be read."""


@attrs.frozen(kw_only=True)
class Regularizer:
    """A penalty that keeps a model close to what it knew (hook `fla_regularizers`)."""

    name: str = _name()
    description: str
    prepare: Callable[[Beginning], Any]
    """What the penalty carries: a pytree that goes through every step and is saved with checkpoints. Arrays under the
    paths of parameters are split over devices like these. Raises `ConfigError` for options that make no sense."""

    penalty: Callable[[Any, Any, Any], Any]
    """`penalty(params, carried, moment)` -> scalar, traced inside the step; multiplied by the configured strength.
    `moment` is a `fla_sdk.training.step.Moment`: the model, the batch and the step's key."""

    update: Callable[[Any, Any, Any, Any], Any] | None = None
    """`update(carried, gradient, before, after)` -> carried, traced inside the step: the gradient of the loss without
    penalties, and parameters around the optimizer's update."""

    importance: Callable[[Any, Any], Mapping[str, Any]] | None = None
    """`importance(carried, params)` -> path -> array: what matters about the parameters after a run, for the next one;
    saved with its checkpoints."""


@attrs.frozen(kw_only=True)
class Recipe:
    """A named training config with its story (hook `fla_recipes`)."""

    name: str = _name()
    description: str
    config: Callable[[], "TrainConfig"]
    notes: str = ""
    """What else to know: memory, where it differs from what it is named after."""


class Expert(Protocol):
    """Scripted demonstrator of one environment."""

    def __call__(self) -> NDArray[np.floating]:
        """The next action `[A]`, from the environment's true state."""
        ...


@attrs.frozen(kw_only=True)
class Benchmark:
    """Tasks that a policy is judged on, and an expert that can demonstrate them (hook `fla_benchmarks`)."""

    name: str = _name()
    description: str
    embodiments: tuple[str, ...]
    """Names of the embodiments it can be run with; the first is the default. Empty when its environments have a robot
    of their own, as `environment.embodiment`: such a benchmark is for `fla data collect`."""

    make: Callable[..., Environment]
    """`make(embodiment_name, **options)` -> environment. Options are the benchmark's own, all keyword-only."""

    max_steps: int
    """An episode is a failure after this many control steps."""

    expert: Callable[[Environment, int], Expert] | None = None
    """`expert(environment, seed)` after `reset`; None when the task has no scripted demonstrator."""

    replan: int = 8
    """Actions executed from each predicted chunk, unless the caller says otherwise."""


class TrackerRun(Protocol):
    """An open run of a tracker. What it raises is told once, and training goes on."""

    def log(self, step: int, metrics: Mapping[str, float]) -> None: ...

    def close(self) -> None: ...


@runtime_checkable
class PictureRun(TrackerRun, Protocol):
    """An open run that takes pictures too."""

    def image(self, step: int, name: str, image: NDArray[np.uint8]) -> None:
        """`image` is `[H, W, 3]`, RGB; names have parts between slashes, such as `held_out/aloha`."""
        ...


@attrs.frozen(kw_only=True)
class Tracker:
    """Where metrics go (hook `fla_trackers`)."""

    name: str = _name()
    description: str
    open: Callable[[Path, Mapping[str, Any]], TrackerRun]
    """`open(run_dir, config)`; called again with the same folder when a run resumes. A `PictureRun` gets pictures."""

    check: Callable[[], None] = lambda: None
    """Raises what would keep `open` from working, such as a missing library or login; called before a run begins."""


@attrs.frozen(kw_only=True)
class Command:
    """A subcommand of `fla` (hook `fla_commands`)."""

    name: str = _name()
    help: str
    configure: Callable[[argparse.ArgumentParser], None]
    run: Callable[..., int | None]
    """`run(arguments, registry)` -> exit status (None is 0)."""


def drain(result: Any) -> Iterator[Any]:
    """The records in one hook result, which may be a record, None, or an iterable of records."""
    if result is None:
        return
    if hasattr(result, "__attrs_attrs__"):
        yield result
        return
    yield from result
