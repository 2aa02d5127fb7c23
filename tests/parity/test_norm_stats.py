"""`norm_stats.json` against the reference: the same text, read and written."""

import json
import re
from typing import Any

import numpy as np

from fla_sdk.normalization import NormStats


def test_text_both_ways(golden: Any) -> None:
    """To the character, but for exponents: the reference writes 1e-7 where Python's json writes 1e-07."""
    text = golden.json("norm_stats_json")["text"]
    written = NormStats.from_json(text).to_json()
    assert re.sub(r"(e[+-]?)0+(?=\d)", r"\1", written) == text
    assert json.loads(written) == json.loads(text)


def test_read_values_and_dtypes(golden: Any) -> None:
    stored = golden.json("norm_stats_json")
    stats = NormStats.from_json(stored["text"])
    for kind, dtypes in stored["roundtrip_dtypes"].items():
        for name, dtype in dtypes.items():
            value: Any = getattr(getattr(stats, kind), name)
            assert (value is None) if dtype is None else (value.dtype == np.dtype(dtype)), f"{kind} {name}"
