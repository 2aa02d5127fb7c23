import subprocess
import sys

from fla_plugins.aloha_sim import plugin
from fla_sdk.records import Benchmark


def test_the_hook_yields_the_benchmark():
    (benchmark,) = plugin.fla_benchmarks()
    assert isinstance(benchmark, Benchmark)
    assert (benchmark.name, benchmark.embodiments, benchmark.max_steps) == ("aloha_sim", ("aloha_sim",), 400)


def test_importing_the_plugin_loads_no_simulator_and_making_without_one_says_what_to_install():
    program = """
import sys
for name in ("mujoco", "dm_control", "gymnasium", "gym_aloha"):
    sys.modules[name] = None
from fla_plugins.aloha_sim import plugin
from fla_sdk.errors import FlaError
list(plugin.fla_benchmarks())
try:
    plugin.make("aloha_sim")
except FlaError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=300)
    assert done.stderr == ""
    assert 'pip install "fla-sdk[sim]"' in done.stdout
    heavy = "import sys; import fla_plugins.aloha_sim.plugin; print(sorted({'OpenGL', 'jax'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", heavy], capture_output=True, text=True, timeout=300)
    assert done.stdout.strip() == "[]"
