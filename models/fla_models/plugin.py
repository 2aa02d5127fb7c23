"""The model families of this package, as the registry sees them."""

from collections.abc import Iterator
from typing import Any

from fla_models.configs import (
    Pi0Config,
    Pi0FastConfig,
    fast_spec,
    fast_variants,
    pi06_variants,
    spec,
    variants,
)
from fla_models.tokenizers.command import COMMAND
from fla_sdk import hookimpl
from fla_sdk.model import ActionModel, Tokenizer
from fla_sdk.records import Command, ModelFamily


def _build(config: Pi0Config, seed: int) -> ActionModel:
    from flax import nnx

    from fla_models.pi0 import Pi0

    return Pi0(config, rngs=nnx.Rngs(seed))


def _build_fast(config: Pi0FastConfig, seed: int) -> ActionModel:
    from flax import nnx

    from fla_models.pi0_fast import Pi0Fast

    return Pi0Fast(config, rngs=nnx.Rngs(seed))


def _tokenizer(config: Pi0Config | Pi0FastConfig) -> Tokenizer:
    from fla_models.tokenizers import open_tokenizer

    return open_tokenizer(config, with_actions=isinstance(config, Pi0FastConfig) or config.insulate)


def _group(path: str) -> str:
    from fla_models.parameters import group

    return group(path)


def _family(name: str, description: str, configs: dict[str, Any], **functions: Any) -> ModelFamily:
    return ModelFamily(
        name=name,
        description=description,
        variants=configs,
        tokenizer=_tokenizer,
        group=_group,
        **{"spec": spec, "build": _build, **functions},
    )


@hookimpl
def fla_models() -> Iterator[ModelFamily]:
    yield _family("pi0", "Vision-language-action flow model with a state token", variants(pi05=False))
    yield _family("pi05", "Pi0 with time in adaptive norms and the state in the prompt", variants(pi05=True))
    yield _family("pi06", "Pi0.5 around Gemma 3, with knowledge insulation", pi06_variants())
    yield _family(
        "pi0_fast",
        "Vision-language model that writes actions as tokens",
        fast_variants(),
        spec=fast_spec,
        build=_build_fast,
    )


@hookimpl
def fla_commands() -> Iterator[Command]:
    yield COMMAND
