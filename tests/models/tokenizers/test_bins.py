"""Equal bins: how far values move, and what cannot be decoded."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from fla_models.tokenizers import BinTokenizer
from fla_sdk.errors import ActionTokenError

CODE = BinTokenizer()


@given(arrays(np.float32, array_shapes(min_dims=2, max_dims=2), elements=st.floats(-3, 3, width=32)))
def test_values_move_by_half_a_bin_and_to_the_border(chunk: np.ndarray) -> None:
    codes = CODE.encode(chunk)
    assert all(0 <= code < CODE.vocab_size for code in codes)
    back = CODE.decode(codes, horizon=chunk.shape[0], width=chunk.shape[1])
    assert (np.abs(back - np.clip(chunk, -1, 1)) <= 1 / CODE.vocab_size + 1e-12).all()
    assert CODE.encode(back) == codes


def test_another_number_of_codes_is_refused() -> None:
    with pytest.raises(ActionTokenError, match="5 action codes, a chunk of 3 steps of 2 values has 6"):
        CODE.decode([0] * 5, horizon=3, width=2)
