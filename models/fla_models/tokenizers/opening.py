"""`open_tokenizer`: the tokenizer that a model's config names."""

from pathlib import Path

from fla_models.configs import BackboneConfig
from fla_models.tokenizers.bins import BinTokenizer
from fla_models.tokenizers.fast import FastTokenizer
from fla_models.tokenizers.joint import ActionCode, JointTokenizer
from fla_models.tokenizers.sentence_pieces import GEMMA3, PALIGEMMA, SentencePieceTokenizer
from fla_models.tokenizers.words import WordTokenizer
from fla_sdk.errors import ConfigError, FlaError
from fla_sdk.model import Tokenizer

_VOCABULARIES = {"paligemma": PALIGEMMA, "gemma3": GEMMA3}


def open_tokenizer(config: BackboneConfig, *, with_actions: bool) -> Tokenizer:
    """What `config.tokenizer` names; `with_actions`, it spells chunks by `config.action_tokenizer` too.

    Raises `ConfigError` when a file cannot be had, or the tokenizer has more ids than the model has embeddings.
    """
    actions = open_action_code(config.action_tokenizer) if with_actions else None
    if config.tokenizer == "words":
        text = WordTokenizer(vocab_size=config.vocab_size, reserved=0 if actions is None else actions.vocab_size)
        return text if actions is None else JointTokenizer(text, actions)
    vocabulary = _VOCABULARIES[config.tokenizer]
    text = SentencePieceTokenizer.open(vocabulary)
    if text.vocab_size > config.vocab_size:
        raise ConfigError(
            f"a vocabulary that does not match: {vocabulary.title}'s tokenizer has {text.vocab_size} ids, the model "
            f"has {config.vocab_size} embeddings; set vocab_size or tokenizer in the model config"
        )
    return text if actions is None else JointTokenizer(text, actions, spared=vocabulary.spared)


def open_action_code(name: str) -> ActionCode:
    """`bins`, a folder that holds a FAST tokenizer, or a repository of the Hub that does. Raises `ConfigError`."""
    if name == "bins":
        return BinTokenizer()
    folder = Path(name).expanduser()
    if folder.is_dir():
        return FastTokenizer.load(folder)
    from fla_sdk.policy.fetch import fetch

    try:
        folder = fetch(name if "://" in name else f"hf://{name}")
    except FlaError as error:
        raise ConfigError(
            f"action_tokenizer {name!r} is neither 'bins' nor a folder, and fetching it failed: {error}\n"
            "Give the folder of one of your own: fla tokenizer fit --data DIR --embodiment NAME --out FOLDER"
        ) from error
    return FastTokenizer.load(folder)
