"""What all tests share."""

import os
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

# Most programs of a test run a few times: their compilation is what takes time. Read when JAX is imported, here and by
# the processes that tests start.
os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")

# A busy machine is no reason to fail.
settings.register_profile("fla", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("fla")


@pytest.fixture(scope="session")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Programs compiled by one test, or by a process that it starts, are used again by the next."""
    import jax
    from jax.experimental.compilation_cache import compilation_cache

    folder = str(tmp_path_factory.mktemp("compiled"))
    changes: dict[str, Any] = {
        "jax_compilation_cache_dir": folder,
        "jax_persistent_cache_min_compile_time_secs": 0.0,
        "jax_persistent_cache_min_entry_size_bytes": -1,
    }
    before = {name: getattr(jax.config, name) for name in changes}
    with pytest.MonkeyPatch.context() as patch:
        for name, value in changes.items():
            patch.setenv(name.upper(), str(value))
            jax.config.update(name, value)
        compilation_cache.reset_cache()
        yield
    for name, value in before.items():
        jax.config.update(name, value)
    compilation_cache.reset_cache()
