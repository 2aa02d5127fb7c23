"""Tokenizers of text and of actions. `open_tokenizer` gives the one that a model's config names."""

from fla_models.tokenizers.bins import BinTokenizer as BinTokenizer
from fla_models.tokenizers.fast import FastTokenizer as FastTokenizer
from fla_models.tokenizers.joint import JointTokenizer as JointTokenizer
from fla_models.tokenizers.opening import open_tokenizer as open_tokenizer
from fla_models.tokenizers.sentence_pieces import GEMMA3 as GEMMA3
from fla_models.tokenizers.sentence_pieces import PALIGEMMA as PALIGEMMA
from fla_models.tokenizers.sentence_pieces import SentencePieceTokenizer as SentencePieceTokenizer
from fla_models.tokenizers.words import WordTokenizer as WordTokenizer

__all__ = [
    "GEMMA3",
    "PALIGEMMA",
    "BinTokenizer",
    "FastTokenizer",
    "JointTokenizer",
    "SentencePieceTokenizer",
    "WordTokenizer",
    "open_tokenizer",
]
