"""What the tests of recordings share."""

from pathlib import Path

import pytest

import fla_sdk as fla

from .layouts import LAYOUTS


@pytest.fixture(scope="session")
def registry() -> fla.Registry:
    return fla.load_plugins()


@pytest.fixture(params=LAYOUTS, ids=lambda layout: layout.__name__)
def layout(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """Address of the three episodes, in one of the layouts."""
    folder = tmp_path / "source"
    folder.mkdir()
    return request.param(folder)
