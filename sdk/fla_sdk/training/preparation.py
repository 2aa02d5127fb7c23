"""Everything a run needs, resolved and checked before the first second of training is spent."""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import attrs
import numpy as np
from numpy.typing import NDArray

from fla_sdk.codec import Codec
from fla_sdk.config import override
from fla_sdk.data import statistics
from fla_sdk.data.dataset import Dataset
from fla_sdk.data.demonstrations import Demonstrations
from fla_sdk.data.mixture import Part
from fla_sdk.data.partial_stats import PartialStats, hardly_moving
from fla_sdk.data.quarantine import Quarantine
from fla_sdk.data.splits import held_out, parse_episodes
from fla_sdk.embodiment import Embodiment
from fla_sdk.errors import ConfigError, DataError, UnknownNameError, nearest
from fla_sdk.model import ModelSpec
from fla_sdk.normalization import NormStats
from fla_sdk.plugins import Registry
from fla_sdk.policy import checkpoint, weights
from fla_sdk.policy.fetch import fetch, is_remote
from fla_sdk.policy.loading import LoadReport
from fla_sdk.records import ModelFamily
from fla_sdk.training import given_statistics
from fla_sdk.training.config import Source, TrainConfig


@attrs.frozen(kw_only=True, eq=False)
class Preparation:
    """A config whose names have become things."""

    family: ModelFamily
    model_config: Any
    spec: ModelSpec
    parts: tuple[Part, ...]
    """One per source, in the order of the config."""

    held_out: tuple[Part, ...]
    """What sources hold out, to measure on."""

    stats: Mapping[str, NormStats]
    """Embodiment -> statistics over all of its sources."""

    codecs: Mapping[str, Codec]

    remarks: tuple[str, ...]
    """What is unusual about the data, and no reason to stop; a line each."""

    report: LoadReport | None = None
    """What becomes of the weights to start from, where that is known without fetching or reading them."""


def resolve_model(name: str, options: Mapping[str, Any], registry: Registry) -> tuple[ModelFamily, Any]:
    """`family/variant` and changed fields -> the family and its config. Raises with the nearest name."""
    family_name, variant = name.split("/", 1)
    family = registry.model(family_name)
    if variant not in family.variants:
        raise UnknownNameError(f"variant of model {family_name!r}", variant, family.variants)
    config = family.variants[variant]
    return family, override(config, options, where="model_options") if options else config


def open_dataset(uri: str, registry: Registry) -> Dataset:
    """The dataset at a path or URI, in whatever format a plugin recognises. Raises `DataError`."""
    if (dataset := registry.open_dataset(uri)) is not None:
        return dataset
    path = Path(uri).expanduser()
    if not path.exists():
        siblings = [str(p) for p in path.parent.iterdir() if p.is_dir()] if path.parent.is_dir() else []
        name = re.sub(r"^hf:/+", "", uri)  # one slash is what pathlib leaves of two
        on_hub = name.count("/") == 1 and not name.startswith((".", "/", "~"))
        hint = f"; a dataset of the Hugging Face Hub is written hf://datasets/{name}" if on_hub else ""
        if close := nearest(str(path), siblings):
            hint = f"; did you mean {close!r}?"
        raise DataError(f"there is no dataset at {uri}: the path does not exist{hint}")
    formats = "; ".join(f"{f.name}: {f.description}" for f in registry.datasets.values()) or "none installed"
    raise DataError(f"{path} is in no known dataset format ({formats})")


def bind(
    source: Source, dataset: Dataset, embodiment: Embodiment, *, horizon: int, quarantine: Quarantine
) -> tuple[Demonstrations, Demonstrations | None]:
    """The part of a dataset that a source trains on, and the part that it holds out, if any."""
    bounds = dataset.episode_bounds
    chosen = parse_episodes(source.episodes, len(bounds)) if source.episodes else np.arange(len(bounds))

    def some(episodes: NDArray[np.int64]) -> Demonstrations:
        return Demonstrations(
            dataset,
            embodiment,
            horizon=horizon,
            episodes=episodes,
            prompt=source.prompt,
            skip_idle=source.skip_idle,
            quarantine=quarantine,
        )

    if not source.hold_out:
        return some(chosen), None
    by_task = source.hold_out_by == "task"
    tasks = [dataset.task(int(first)) if first < end else "" for first, end in bounds] if by_task else []
    held = held_out(bounds, tasks, source.hold_out, source.hold_out_by)[chosen]
    return some(chosen[~held]), some(chosen[held]) if held.any() else None


def _check_initial(
    config: TrainConfig, family: ModelFamily, model_config: Any, registry: Registry
) -> LoadReport | None:
    """What will become of the weights to start from; raises `CheckpointError` when they are not there or do not fit.

    What has to be fetched is checked when the run starts; a run that is there already starts from its own checkpoints.
    """
    places = (config.init, *config.init_also)
    if config.init == "scratch" or any(map(is_remote, places)) or checkpoint.steps(config.out / "checkpoints"):
        return None
    return weights.check(
        [fetch(place) for place in places],
        family,
        model_config,
        model=config.model,
        registry=registry,
        fresh=config.init_fresh,
        resize=config.init_resize,
    )


def _given_statistics(
    places: Mapping[str, str], embodiments: Mapping[str, Embodiment], spec: ModelSpec
) -> dict[str, NormStats]:
    for name in places:
        if name not in embodiments:
            raise UnknownNameError("embodiment of the sources, whose statistics are given", name, embodiments)
    return {
        name: given_statistics.load(place, embodiments[name], normalization=spec.normalization)
        for name, place in places.items()
    }


def _remarks(found: Mapping[str, PartialStats], given: Mapping[str, NormStats]) -> Iterator[str]:
    for name, one in found.items():
        if name not in given:
            if still := hardly_moving(one.rows()):
                yield f"embodiment {name!r}: some dimensions hardly move: {still}"
        elif far := given_statistics.disagreements(given[name], one):
            yield (
                f"embodiment {name!r}: the data reach more than {given_statistics.FAR:g} times as far as the "
                f"statistics {given[name].method}: {'; '.join(far)}. Are units (degrees, radians) and control mode "
                "the same?"
            )


def prepare(config: TrainConfig, registry: Registry) -> Preparation:
    """Look up every name, open every dataset, compute statistics, build codecs. Reads no image."""
    if not config.sources:
        raise ConfigError("no data to train on: give at least one source (--data DIR --embodiment NAME)")
    if blanks := [source.blank for source in config.sources if source.blank]:
        raise ConfigError(
            f"{len(blanks)} of {len(config.sources)} datasets are yours to name: {', '.join(blanks)}. Give --data DIR "
            "once for each, in this order, or name them in the config's YAML"
        )
    family, model_config = resolve_model(config.model, config.model_options, registry)
    spec = family.spec(model_config)
    for penalty in config.regularizers:
        registry.regularizer(penalty.name)
    for tracker in config.trackers:
        registry.tracker(tracker).check()
    embodiments = {source.embodiment: registry.embodiment(source.embodiment) for source in config.sources}
    given = _given_statistics(config.stats, embodiments, spec)
    quarantine = Quarantine(config.skip_episodes, file=config.out / "quarantine.jsonl")
    bound = [
        bind(
            source,
            open_dataset(source.data, registry),
            embodiments[source.embodiment],
            horizon=spec.horizon,
            quarantine=quarantine,
        )
        for source in config.sources
    ]
    demonstrations = [training for training, _ in bound]
    report = _check_initial(config, family, model_config, registry)
    tokenizer = family.tokenizer(model_config)
    found = {name: statistics.collect([d for d in demonstrations if d.embodiment.name == name]) for name in embodiments}
    stats = {
        name: given_statistics.bound(given[name], one) if name in given else one.norm_stats()
        for name, one in found.items()
    }
    codecs = {
        name: Codec(embodiment=embodiment, spec=spec, stats=stats[name], tokenizer=tokenizer)
        for name, embodiment in embodiments.items()
    }

    def part(source: Source, chosen: Demonstrations) -> Part:
        codec = codecs[chosen.embodiment.name]
        return Part(demonstrations=chosen, codec=codec, weight=source.weight, window=source.window)

    return Preparation(
        family=family,
        model_config=model_config,
        spec=spec,
        parts=tuple(part(source, one) for source, (one, _) in zip(config.sources, bound, strict=True)),
        held_out=tuple(part(source, one) for source, (_, one) in zip(config.sources, bound, strict=True) if one),
        stats=stats,
        codecs=codecs,
        remarks=tuple(_remarks(found, given)),
        report=report,
    )
