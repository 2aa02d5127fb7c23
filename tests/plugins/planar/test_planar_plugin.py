"""The benchmark record, and what importing its plugin costs."""

import subprocess
import sys

import numpy as np
import pytest

from fla_plugins.planar import plugin
from fla_sdk.errors import ConfigError


def test_the_benchmark_runs_from_its_record() -> None:
    (benchmark,) = plugin.fla_benchmarks()
    assert benchmark.name == "planar" and benchmark.expert is not None
    for name in benchmark.embodiments:
        environment = benchmark.make(name)
        environment.reset(11)
        act = benchmark.expert(environment, 11)
        steps = 1
        while not environment.step(act()):
            steps += 1
        assert environment.success and steps < benchmark.max_steps
        environment.close()


@pytest.mark.parametrize("name", ["planar2", "planar3"])
def test_max_steps_of_record_and_rules_agree(name: str) -> None:
    (benchmark,) = plugin.fla_benchmarks()
    environment = benchmark.make(name)
    environment.reset(0)
    still = np.asarray(environment.observe()["state"])
    assert next(n for n in range(1, 1000) if environment.step(still)) == benchmark.max_steps


def test_the_expert_refuses_a_stranger_to_demonstrate_on() -> None:
    (benchmark,) = plugin.fla_benchmarks()
    assert benchmark.expert is not None
    with pytest.raises(ConfigError, match="not of object"):
        benchmark.expert(object(), 0)  # type: ignore[arg-type]


def test_importing_the_plugin_brings_in_nothing_of_the_simulator() -> None:
    code = (
        "import sys, fla_plugins.planar.plugin\n"
        "heavy = {'jax', 'flax', 'torch', 'PIL', 'matplotlib', 'pyarrow', 'fla_plugins.planar.environment'}\n"
        "sys.exit(', '.join(sorted(heavy & set(sys.modules))) or None)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
