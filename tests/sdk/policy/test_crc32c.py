"""CRC-32C by strips against its definition, bit by bit."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fla_sdk.policy import crc32c as module
from fla_sdk.policy.crc32c import crc32c


def _defined(data: bytes) -> int:
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = (crc >> 1) ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


@pytest.mark.parametrize(
    ("data", "expected"),
    [  # RFC 3720, B.4
        (b"", 0),
        (b"123456789", 0xE3069283),
        (bytes(32), 0x8A9136AA),
        (b"\xff" * 32, 0x62A8AB43),
        (bytes(range(32)), 0x46DD794E),
    ],
)
def test_published_values(tmp_path: Path, data: bytes, expected: int) -> None:
    file = tmp_path / "data"
    file.write_bytes(data)
    assert crc32c(file) == expected


@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(0, 5000), st.integers(0, 2**32 - 1))
def test_any_length(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, length: int, seed: int) -> None:
    monkeypatch.setattr(module, "_STRIPS", 16)
    monkeypatch.setattr(module, "_BLOCK", 1024)
    data = np.random.default_rng(seed).bytes(length)
    file = tmp_path / "data"
    file.write_bytes(data)
    assert crc32c(file) == _defined(data)
