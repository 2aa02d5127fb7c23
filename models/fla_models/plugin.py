"""The model families of this package, as the registry sees them."""

from collections.abc import Iterator
from typing import Any

from fla_models.configs import Pi0Config, spec, variants
from fla_sdk import hookimpl
from fla_sdk.model import ActionModel, Tokenizer
from fla_sdk.records import ModelFamily


def _build(config: Pi0Config, seed: int) -> ActionModel:
    from flax import nnx

    from fla_models.pi0 import Pi0

    return Pi0(config, rngs=nnx.Rngs(seed))


def _tokenizer(config: Pi0Config) -> Tokenizer:
    from fla_models.tokenizers import PaligemmaTokenizer, WordTokenizer

    if config.tokenizer == "words":
        return WordTokenizer(vocab_size=config.vocab_size)
    return PaligemmaTokenizer.open()


def _group(path: str) -> str:
    from fla_models.parameters import group

    return group(path)


def _family(name: str, description: str, configs: dict[str, Any]) -> ModelFamily:
    return ModelFamily(
        name=name,
        description=description,
        variants=configs,
        spec=spec,
        build=_build,
        tokenizer=_tokenizer,
        group=_group,
    )


@hookimpl
def fla_models() -> Iterator[ModelFamily]:
    yield _family("pi0", "Vision-language-action flow model with a state token", variants(pi05=False))
    yield _family("pi05", "Pi0 with time in adaptive norms and the state in the prompt", variants(pi05=True))
