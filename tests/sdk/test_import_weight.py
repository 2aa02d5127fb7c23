"""What an import loads, in a fresh interpreter."""

import subprocess
import sys

import pytest

HEAVY = {
    *(
        "jax",
        "jaxlib",
        "flax",
        "optax",
        "orbax",
        "grain",
        "pyarrow",
        "av",
        "mujoco",
        "dm_control",
        "gym_aloha",
        "torch",
    ),
    *("gymnasium", "lerobot", "matplotlib", "rich", "sentencepiece", "safetensors", "scipy", "yaml"),
    *("h5py", "huggingface_hub", "tokenizers", "wandb"),
}
RECORDS = {"attr", "attrs", "cattrs", "pluggy"}


def _loaded(code: str) -> set[str]:
    """Top-level packages in memory after `code`."""
    code += "\nimport sys\nprint(*sorted({name.partition('.')[0] for name in sys.modules}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    return set(done.stdout.split())


def test_the_package_itself_loads_nothing() -> None:
    assert not _loaded("import fla_sdk") & (HEAVY | RECORDS | {"numpy", "websockets", "msgpack"})


def test_the_client_loads_neither_jax_nor_records_nor_plugins() -> None:
    loaded = _loaded("from fla_sdk.client import PolicyClient")
    assert {"numpy", "websockets", "msgpack"} <= loaded
    assert not loaded & (HEAVY | RECORDS | {"PIL"})


@pytest.mark.parametrize("code", ["import fla_sdk as fla; fla.Embodiment", "import fla_sdk as fla; fla.Codec"])
def test_describing_a_robot_loads_no_framework(code: str) -> None:
    assert not _loaded(code) & HEAVY


def test_loading_every_first_party_plugin_loads_no_framework() -> None:
    code = "from fla_sdk.plugins import load_plugins\nassert not load_plugins().broken, load_plugins().broken"
    assert not _loaded(code) & HEAVY
