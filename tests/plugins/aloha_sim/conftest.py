from collections.abc import Callable, Iterator
from typing import Any

import pytest

from fla_plugins.aloha_sim import plugin, rendering
from fla_plugins.aloha_sim.environment import AlohaSim

pytest.importorskip("gym_aloha", reason='needs the simulator: pip install "fla-sdk[sim]"')


@pytest.fixture
def make() -> Iterator[Callable[..., AlohaSim]]:
    """The benchmark's `make`, closing what it made."""
    made: list[AlohaSim] = []

    def build(**options: Any) -> AlohaSim:
        made.append(plugin.make("aloha_sim", **options))
        return made[-1]

    yield build
    for environment in made:
        environment.close()


@pytest.fixture
def renderer() -> None:
    """Skips a test that needs pictures where no renderer is installed."""
    if rendering.choose_backend() == rendering.NONE:
        pytest.skip(f"neither EGL nor OSMesa works here; install both with: {rendering.SYSTEM_PACKAGES}")
