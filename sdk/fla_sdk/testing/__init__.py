"""The conformance kit for plugin authors: `check_embodiment(MY_ROBOT)` in a test is all it takes."""

from fla_sdk.testing.conformance import check_embodiment as check_embodiment
from fla_sdk.testing.dataset import MemoryDataset as MemoryDataset
from fla_sdk.testing.motion import random_vectors as random_vectors
from fla_sdk.testing.tokenizer import CharacterTokenizer as CharacterTokenizer

__all__ = ["CharacterTokenizer", "MemoryDataset", "check_embodiment", "random_vectors"]
