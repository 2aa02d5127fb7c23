"""Golden numbers: recorded outputs of the reference implementation, as data files.

`FLA_GOLDEN` names another folder of the same layout; every dimension is read from its `cases.json`.
"""

import json
import os
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest


class Golden:
    """A folder of golden files, and how close is close enough."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def npz(self, name: str) -> dict[str, Any]:
        with np.load(self.folder / f"{name}.npz", allow_pickle=False) as arrays:
            return dict(arrays)

    def json(self, name: str) -> Any:
        return json.loads((self.folder / f"{name}.json").read_text())

    @staticmethod
    def fill(path: str, shape: tuple[int, ...]) -> np.ndarray:
        """The value that the reference run gave to the parameter at `path`, float32."""
        noise = np.random.default_rng(zlib.crc32(path.encode())).standard_normal(shape, dtype=np.float32)
        value = np.float32(0.15) * noise
        return value + np.float32(1) if path.endswith("/scale") and "/img/" in path else value

    @staticmethod
    def close(actual: Any, expected: Any, *, within: float, where: Any = True, what: str = "") -> None:
        """Assert max|actual - expected| <= within * max|expected|, both maxima over entries at `where`."""
        a, b = np.asarray(actual, np.float64), np.asarray(expected, np.float64)
        assert a.shape == b.shape, f"{what}: shape {a.shape}, golden {b.shape}"
        chosen = np.broadcast_to(where, b.shape)
        assert chosen.any(), f"{what}: nothing to compare"
        assert np.isfinite(a[chosen]).all(), f"{what}: not finite"
        error, size = np.abs(a - b)[chosen].max(), np.abs(b)[chosen].max()
        assert error <= within * size, f"{what}: error {error:.3g} of {size:.3g}, {error / size:.2e} > {within:.0e}"


def _folder() -> Path:
    return Path(os.environ.get("FLA_GOLDEN") or Path(__file__).parent / "golden")


@pytest.fixture(scope="session")
def golden() -> Golden:
    return Golden(_folder())


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A test that asks for `flow_case` runs once for each flow model of `cases.json`."""
    if "flow_case" in metafunc.fixturenames:
        names = Golden(_folder()).json("cases")["flow_cases"]
        metafunc.parametrize("flow_case", names, indirect=True, scope="session")
