"""The model families of this package, as the registry sees them."""

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs

from fla_models.configs import (
    BackboneConfig,
    Pi0Config,
    Pi0FastConfig,
    ValueConfig,
    fast_spec,
    fast_variants,
    pi06_variants,
    spec,
    value_spec,
    value_variants,
    variants,
    writes_actions,
)
from fla_models.published import published
from fla_models.recognition import recognise
from fla_models.tokenizers.command import COMMAND
from fla_sdk import hookimpl
from fla_sdk.embodiment import Embodiment
from fla_sdk.model import ActionModel, Tokenizer
from fla_sdk.normalization import NormStats
from fla_sdk.plugins import Registry
from fla_sdk.records import Command, ModelFamily

if TYPE_CHECKING:
    from fla_sdk.policy.policy import Policy


_ACTION_TOKENIZER = "action_tokenizer"


def _build(config: Pi0Config, seed: int) -> ActionModel:
    from flax import nnx

    from fla_models.pi0 import Pi0

    return Pi0(config, rngs=nnx.Rngs(seed))


def _build_fast(config: Pi0FastConfig, seed: int) -> ActionModel:
    from flax import nnx

    from fla_models.pi0_fast import Pi0Fast

    return Pi0Fast(config, rngs=nnx.Rngs(seed))


def _build_value(config: ValueConfig, seed: int) -> ActionModel:
    from flax import nnx

    from fla_models.value import Value

    return Value(config, rngs=nnx.Rngs(seed))


def _tokenizer(config: BackboneConfig) -> Tokenizer:
    from fla_models.tokenizers import open_tokenizer

    return open_tokenizer(config, with_actions=writes_actions(config))


def _keep_files(config: BackboneConfig, folder: Path) -> None:
    source = Path(config.action_tokenizer).expanduser()
    if writes_actions(config) and source.is_dir():
        from fla_models.tokenizers import FastTokenizer

        FastTokenizer.load(source).save(folder / _ACTION_TOKENIZER)


def _use_files(config: BackboneConfig, folder: Path) -> BackboneConfig:
    kept = folder / _ACTION_TOKENIZER
    return attrs.evolve(config, action_tokenizer=str(kept)) if kept.is_dir() else config


def _group(path: str) -> str:
    from fla_models.parameters import group

    return group(path)


def _read_weights(path: Path, config: BackboneConfig) -> Mapping[str, Any] | None:
    from fla_models.formats import read_weights

    return read_weights(path, config)


def _export_lerobot(
    config: Pi0Config, parameters: Mapping[str, Any], robots: Sequence[tuple[Embodiment, NormStats]], out: Path
) -> None:
    from fla_models.formats.lerobot import export

    export(config, parameters, robots, out)


def _export_safetensors(
    config: BackboneConfig,
    parameters: Mapping[str, Any],
    robots: Sequence[tuple[Embodiment, NormStats]],
    out: Path,
    *,
    family: str,
) -> None:
    from fla_models.formats.openpi_paths import export

    export(config, parameters, robots, out, family=family)


def _merge(config: BackboneConfig, parameters: Mapping[str, Any]) -> tuple[Any, Mapping[str, Any]]:
    from fla_models.merging import merge

    return merge(config, parameters)


def _complete(config: Any, folder: Path, changes: Mapping[str, Any], *, family: str) -> Any:
    from fla_models.openpi import complete

    return complete(config, folder, changes, family=family)


def _family(name: str, description: str, configs: dict[str, Any], **functions: Any) -> ModelFamily:
    weights = published(name)
    return ModelFamily(
        name=name,
        description=description,
        variants=configs,
        tokenizer=_tokenizer,
        keep_files=_keep_files,
        use_files=_use_files,
        group=_group,
        read_weights=_read_weights,
        for_serving=_merge,
        recognise=partial(recognise, base=configs["base"]) if weights else None,
        complete=partial(_complete, family=name) if weights else None,
        published=weights,
        exporters={"safetensors": partial(_export_safetensors, family=name), **functions.pop("formats", {})},
        **{"spec": spec, "build": _build, **functions},
    )


@hookimpl
def fla_models() -> Iterator[ModelFamily]:
    lerobot = {"lerobot": _export_lerobot}
    yield _family("pi0", "Vision-language-action flow model with a state token", variants(pi05=False), formats=lerobot)
    yield _family(
        "pi05",
        "Pi0 with time in adaptive norms and the state in the prompt",
        variants(pi05=True),
        formats=lerobot,
    )
    yield _family("pi06", "Pi0.5 around Gemma 3, with knowledge insulation", pi06_variants())
    yield _family(
        "pi0_fast",
        "Vision-language model that writes actions as tokens",
        fast_variants(),
        spec=fast_spec,
        build=_build_fast,
    )
    yield _family(
        "value",
        "Value model of RECAP: how far an observation is from success",
        value_variants(),
        spec=value_spec,
        build=_build_value,
    )


@hookimpl
def fla_open_checkpoint(
    path: Path, registry: Registry, embodiment: str | None, options: Mapping[str, Any]
) -> "Policy | None":
    from fla_models.openpi import open_checkpoint

    return open_checkpoint(path, registry, embodiment=embodiment, options=options)


@hookimpl
def fla_commands() -> Iterator[Command]:
    yield COMMAND
