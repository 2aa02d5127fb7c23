"""`TrainConfig`: everything a run depends on, as one record that survives YAML."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import attrs

from fla_sdk.errors import ConfigError


@attrs.frozen(kw_only=True)
class Source:
    """One dataset of a mixture and the robot that made it."""

    data: str
    """Folder or URI; in a recipe also a blank, `<droid 1.0.1>`, for a dataset that only the user has."""

    embodiment: str
    weight: float = 1.0
    """How often it is drawn from, relative to the other sources; see `sampling`."""

    prompt: str = "{task}"
    """What the robot is told; in braces `task`, or a text column of the dataset: `{task}. Now: {language.subtask}`."""

    episodes: str = ""
    """Numbers and ranges such as `0:40,45`; all when empty."""

    hold_out: float = 0.0
    """Share of the episodes, or of the tasks, that is not trained on. `fla data split` makes the same choice."""

    hold_out_by: Literal["episode", "task"] = "episode"
    skip_idle: bool = False
    """Leave out moments after which nothing moves for a whole chunk."""

    window: int | None = None
    """Shuffle the rows of so many episodes together, for storage that is slow at jumping; null shuffles all rows."""

    def __attrs_post_init__(self) -> None:
        if self.weight <= 0:
            raise ConfigError(f"source {self.data}: weight is {self.weight}, must be above 0; leave it out instead")
        if not 0 <= self.hold_out < 1:
            raise ConfigError(f"source {self.data}: hold_out is {self.hold_out}, must be at least 0 and below 1")
        if self.window is not None and self.window < 1:
            raise ConfigError(f"source {self.data}: window is {self.window}, must be at least 1 episode, or null")

    @property
    def blank(self) -> str:
        """`data` without how to read it, where it is to be filled in by the user; else empty."""
        return self.data.partition("?")[0] if self.data.startswith("<") else ""


@attrs.frozen(kw_only=True)
class Optimizer:
    """An optimizer and its learning-rate schedule. The defaults, AdamW with a cosine, are openpi's."""

    kind: Literal["adamw", "sgd"] = "adamw"
    schedule: Literal["cosine", "rsqrt", "constant"] = "cosine"
    """What follows the warm-up."""

    peak_lr: float = 2.5e-5
    warmup_steps: int = 1000
    """Steps from `peak_lr / (warmup_steps + 1)` up to `peak_lr`."""

    end_lr: float = 2.5e-6
    """Cosine: the learning rate from `decay_steps` on."""

    decay_steps: int = 30_000
    """Cosine: step at which `end_lr` is reached, the warm-up included."""

    timescale: int = 10_000
    """Rsqrt: `n` steps after the warm-up the learning rate is `peak_lr / sqrt(1 + n / timescale)`."""

    b1: float = 0.9
    b2: float = 0.95
    eps: float = 1e-8
    weight_decay: float = 1e-10
    undecayed: tuple[str, ...] = attrs.field(default=(), converter=tuple)
    """AdamW: patterns of whole parameter paths that weight decay leaves alone, such as `.*/(bias|scale)`."""

    momentum: float = 0.9
    nesterov: bool = False
    """SGD: take the momentum of the next step."""

    clip_norm: float | None = 1.0
    """Largest global norm of the gradient; null does not clip."""

    def __attrs_post_init__(self) -> None:
        if self.warmup_steps < 0 or self.timescale < 1:
            raise ConfigError(
                f"optimizer: warmup_steps ({self.warmup_steps}) must be at least 0, timescale ({self.timescale}) 1"
            )
        if self.clip_norm is not None and self.clip_norm <= 0:
            raise ConfigError(f"optimizer: clip_norm is {self.clip_norm}, must be above 0, or null for no clip")
        for pattern in self.undecayed:
            try:
                re.compile(pattern)
            except re.error as error:
                raise ConfigError(f"optimizer: undecayed: {pattern!r} is no regular expression: {error}") from error
        if self.schedule == "cosine" and not self.warmup_steps < self.decay_steps:
            raise ConfigError(
                f"optimizer: warmup_steps ({self.warmup_steps}) must be below decay_steps ({self.decay_steps}), "
                "which includes the warm-up"
            )


@attrs.frozen(kw_only=True)
class Penalty:
    """A regularizer and how strong it is."""

    name: str
    strength: float = 1.0
    options: Mapping[str, Any] = attrs.field(factory=dict[str, Any])
    """What the regularizer itself wants to know."""


@attrs.frozen(kw_only=True)
class TrainConfig:
    """A training run. Fields have the defaults of openpi where openpi has them."""

    model: str
    """`family/variant`, as `fla models` lists them."""

    model_options: Mapping[str, Any] = attrs.field(factory=dict[str, Any])
    """Fields of the variant's config to change, such as `{"horizon": 20}`."""

    sources: tuple[Source, ...] = attrs.field(default=(), converter=tuple)
    sampling: Literal["weight", "size", "temperature"] = "weight"
    """How often a source is drawn from: in proportion to its `weight`; to weight times rows; or to weight times rows to
    the power of 1 / `temperature`."""

    temperature: float = 2.0
    batches: Literal["mixed", "embodiment"] = "mixed"
    """Whether a batch may hold several robots, or is filled with one."""

    stats: Mapping[str, str] = attrs.field(factory=dict[str, str])
    """Embodiment -> `PLACE[#NAME]` of statistics to use instead of those of its data, such as
    `gs://openpi-assets/checkpoints/pi05_droid#droid`: those that the weights were trained with."""

    skip_episodes: int = 0
    """How many damaged episodes training may leave out; `quarantine.jsonl` in the run's folder lists them."""

    steps: int = 30_000
    batch_size: int = 32
    seed: int = 42
    accumulate: int = 1
    """Parts of a batch that go through the model one after another: less memory, the same gradient."""

    optimizer: Optimizer = Optimizer()
    ema_decay: float | None = 0.99
    """Decay of the moving average of the parameters that is served; None serves the last ones."""

    freeze: tuple[str, ...] = attrs.field(default=(), converter=tuple)
    """Parameter groups that are not trained: `vision`, `language`, `action_expert`, `projections`, `lora`."""

    frozen_dtype: Literal["bfloat16", "float32"] | None = None
    """What frozen parameters are kept in; null is what the model computes in. openpi rounds them to bfloat16."""

    init: str = "scratch"
    """`scratch`, or weights to start from: a checkpoint of ours or of openpi, a file in another layout that the model's
    family reads, or a `gs://` or `hf://` URI of either."""

    init_also: tuple[str, ...] = attrs.field(default=(), converter=tuple)
    """Further weights, for parameters that those of `init` lack: a vision tower from elsewhere."""

    init_fresh: tuple[str, ...] = attrs.field(default=(), converter=tuple)
    """Parameter groups that start anew where the weights lack them, such as `lora` in published ones; or patterns of
    paths, such as `PaliGemma/img/head/*`, that start anew in any case."""

    init_resize: bool = False
    """Cut the weights' projections to the model's action width, or pad them with zeros."""

    loss_dims: str = "own"
    """`own`: the loss covers the robot's own action dimensions and real steps. `all`: padding too, as openpi does."""

    regularizers: tuple[Penalty, ...] = attrs.field(default=(), converter=tuple)
    trackers: tuple[str, ...] = attrs.field(default=("jsonl",), converter=tuple)
    out: Path = Path("out/train")
    log_every: int = 50
    save_every: int = 1000
    keep_last: int = 2
    """Checkpoints that stay on disk, besides the one that validated best."""

    keep_period: int | None = None
    """Checkpoints at multiples of this stay too."""

    skip_steps: int = 10
    """How many steps of a run may be skipped because their loss or gradient is not finite."""

    validate_every: int | None = None
    """Steps between validations, where sources hold out something; null validates before each checkpoint."""

    validate_batches: int = 8
    """Batches of held-out samples, always the same ones."""

    evaluate: tuple[str, ...] = ()
    """Benchmarks that the policy is run on now and then, such as `planar`, or `planar/planar2` for one of several
    robots. Training waits meanwhile."""

    evaluate_every: int | None = None
    """Steps between these; null evaluates at each checkpoint."""

    evaluate_episodes: int = 20
    """Of each robot, always the same ones."""

    fsdp_devices: int = 1
    """Over how many devices parameters and optimizer state are split; each of them computes on samples of its own."""

    loader_threads: int = 2
    frame_cache: Literal["auto", "always", "never"] = "auto"
    """Whether camera frames are decoded once, before training, and kept at the model's size: `auto` when that shortens
    the run. A run that resumes keeps to the first choice."""

    frame_quality: int | None = 95
    """JPEG quality of the frame cache; null keeps plain bytes, which are exact and six times as large."""

    samples_per_second: float | None = None
    """What training takes when it never waits for data, which `frame_cache: auto` chooses by; null estimates it."""

    def __attrs_post_init__(self) -> None:
        for name in (
            "batch_size",
            "log_every",
            "save_every",
            "keep_last",
            "accumulate",
            "validate_batches",
            "fsdp_devices",
            "loader_threads",
        ):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} is {getattr(self, name)}, must be at least 1")
        if self.samples_per_second is not None and self.samples_per_second <= 0:
            raise ConfigError(f"samples_per_second is {self.samples_per_second}, must be above 0, or null")
        if self.temperature <= 0:
            raise ConfigError(f"temperature is {self.temperature}, must be above 0 (1 samples by size)")
        if self.skip_episodes < 0:
            raise ConfigError(f"skip_episodes is {self.skip_episodes}, must be 0 or more")
        if self.batch_size % self.accumulate:
            raise ConfigError(f"accumulate is {self.accumulate}, which does not divide batch_size {self.batch_size}")
        for name in ("keep_period", "validate_every", "evaluate_every"):
            if (value := getattr(self, name)) is not None and value < 1:
                raise ConfigError(f"{name} is {value}, must be at least 1, or null")
        if self.skip_steps < 0:
            raise ConfigError(f"skip_steps is {self.skip_steps}, must be 0 or more")
        if self.steps < 0:
            raise ConfigError(f"steps is {self.steps}, must be 0 or more")
        if self.loss_dims not in ("own", "all"):
            raise ConfigError(f"loss_dims is {self.loss_dims!r}, must be 'own' or 'all'")
        if self.init == "scratch" and (self.init_also or self.init_fresh or self.init_resize):
            raise ConfigError(
                "init_also, init_fresh and init_resize are about weights to start from, but init is 'scratch'"
            )
        if self.ema_decay is not None and not 0 <= self.ema_decay < 1:
            raise ConfigError(f"ema_decay is {self.ema_decay}, must be in [0, 1) or null")
        if self.model.count("/") != 1:
            raise ConfigError(f"model is {self.model!r}, must be FAMILY/VARIANT such as 'pi05/base'")


def to_yaml(config: TrainConfig) -> str:
    """The config as YAML that `from_yaml` reads back to the same record."""
    import yaml

    from fla_sdk.config import unstructure

    return yaml.safe_dump(unstructure(config), sort_keys=False)


def from_yaml(text: str, *, where: str = "config") -> TrainConfig:
    """Read a config; raises `ConfigError` with the path of what is wrong."""
    import yaml

    from fla_sdk.config import structure

    class Loader(yaml.SafeLoader):
        """YAML 1.1 takes `1e-4` for text; everybody means a number."""

    number = re.compile(r"[-+]?[0-9]+(\.[0-9]*)?[eE][-+]?[0-9]+$")
    loader: Any = Loader
    loader.add_implicit_resolver("tag:yaml.org,2002:float", number, list("-+0123456789"))
    try:
        tree = yaml.load(text, loader)
    except yaml.YAMLError as error:
        raise ConfigError(f"{where} is not YAML: {error}") from error
    return structure(tree, TrainConfig, where=where)
