"""openpi's checkpoints as policies, from Python and at the command line: what is inferred, asked for and refused."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import pytest

from fla_models.configs import GemmaConfig, LoraConfig, Pi0Config, SiglipConfig
from fla_models.plugin import fla_models
from fla_sdk.cli import main
from fla_sdk.client import PolicyClient
from fla_sdk.errors import CheckpointError, ConfigError, StatsError, UnknownNameError
from fla_sdk.evaluation.server_process import server_process
from fla_sdk.normalization import NormStats, Stats
from fla_sdk.plugins import Registry, load_plugins
from fla_sdk.policy import checkpoint, parameters
from fla_sdk.policy.opening import open_policy
from fla_sdk.policy.policy import Policy

from ..sdk.policy.storage_server import serve

FAMILIES = {family.name: family for family in fla_models()}
EXPERT = GemmaConfig(width=16, depth=1, heads=2, kv_heads=1, head_dim=8, mlp_dim=32)
CONFIG = Pi0Config(
    pi05=True,
    vision=SiglipConfig(width=16, depth=1, heads=2, mlp_dim=32, patch=112),
    language=EXPERT,
    expert=EXPERT,
    vocab_size=300,
    action_dim=8,
)
WORDS = {"tokenizer": "words", "max_tokens": 32}
TOLD = {**WORDS, "horizon": 4, "state_in_prompt": True}


@pytest.fixture(scope="module")
def registry() -> Registry:
    return load_plugins()


def _params(config: Pi0Config) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    shapes = parameters.shapes(FAMILIES["pi05" if config.pi05 else "pi0"], config)
    return {path: 0.1 * rng.standard_normal(shape, np.float32) for path, shape in shapes.items()}


def _write(folder: Path, *, assets: tuple[str, ...], config: Pi0Config = CONFIG, width: int = 8) -> Path:
    """A folder as openpi publishes it."""
    stats = Stats(mean=np.zeros(width), std=np.ones(width), q01=-np.ones(width), q99=np.ones(width))
    both = NormStats(state=stats, actions=stats)
    manifest = checkpoint.Manifest(family="-", variant="-", model={}, embodiments={}, step=0)
    made = checkpoint.write(folder.parent, manifest=manifest, params=_params(config), stats=dict.fromkeys(assets, both))
    (made / "fla.json").unlink()
    made.rename(folder)
    return folder


@pytest.fixture(scope="module")
def droid(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _write(tmp_path_factory.mktemp("openpi") / "pi05_droid", assets=("droid",))


# --- Answers ----------------------------------------------------------------------------------------------------------


def test_a_known_name_needs_nothing_else(droid: Path, registry: Registry) -> None:
    policy = open_policy(droid, registry, model_options=WORDS)
    assert isinstance(policy, Policy)
    assert policy.default == "droid"
    assert (policy.spec.horizon, policy.spec.prompt_style, policy.spec.serving_dtype) == (15, "pi05", "bfloat16")
    answer = policy.infer(registry.embodiment("droid").example_observation())
    assert answer["actions"].shape == (15, 8)
    # The folder of the parameters alone stands for the checkpoint around it.
    again = registry.open_checkpoint(droid / "params", options={"model": {**WORDS, "horizon": 3}})
    assert isinstance(again, Policy)
    assert (again.default, again.spec.horizon) == ("droid", 3)


def test_an_unknown_name_has_to_be_explained(droid: Path, registry: Registry, tmp_path: Path) -> None:
    folder = shutil.copytree(droid, tmp_path / "pi05_droit")
    with pytest.raises(ConfigError, match=r"show horizon and state_in_prompt: give --model-option horizon=\.\.\.") as e:
        open_policy(folder, registry, embodiment="droid")
    assert "(or is it 'pi05_droid'?)" in str(e.value)
    told = {**TOLD, "state_in_prompt": False}
    policy = registry.open_checkpoint(folder, embodiment="droid", options={"model": told})
    assert isinstance(policy, Policy)
    assert (policy.spec.horizon, policy.spec.prompt_style) == (4, "pi0")


def test_served_from_a_bucket_to_a_client(
    droid: Path, registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = ["--embodiment", "droid", *(f"--model-option={name}={value}" for name, value in WORDS.items())]
    with serve() as storage:
        storage.objects = {
            f"checkpoints/pi05_droid/{file.relative_to(droid)}": file.read_bytes()
            for file in droid.rglob("*")
            if file.is_file()
        }
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", storage.url)
        monkeypatch.setenv("FLA_DATA_HOME", str(tmp_path))
        uri = "gs://models/checkpoints/pi05_droid"
        with server_process(uri, arguments=arguments) as url, PolicyClient(url) as client:
            assert client.metadata["default_embodiment"] == "droid"
            actions = client.infer(registry.embodiment("droid").example_observation())["actions"]
    assert actions.shape == (15, 8)
    assert (tmp_path / "models" / "checkpoints" / "pi05_droid" / "params").is_dir()


def test_adapters_are_kept_apart_as_openpi_does_and_merged_when_exact(registry: Registry, tmp_path: Path) -> None:
    lora = LoraConfig(rank=2, alpha=2.0)
    expert = attrs.evolve(EXPERT, lora_attention=lora, lora_mlp=lora)
    config = attrs.evolve(CONFIG, language=expert, expert=expert)
    folder = _write(tmp_path / "mine", assets=("droid",), config=config)
    observation = registry.embodiment("droid").example_observation()
    noise = np.random.default_rng(0).standard_normal((4, 8)).astype(np.float32)
    held, answers = {}, {}
    for compat in ("openpi", "fixed"):
        told = {**TOLD, "dtype": "float32", "compat": compat}
        policy = registry.open_checkpoint(folder, embodiment="droid", options={"model": told})
        assert isinstance(policy, Policy)
        held[compat] = {path for path in policy._params if "lora" in path}
        answers[compat] = policy.infer(observation, noise=noise)["actions"]
    assert held["openpi"]
    assert not held["fixed"]
    # They differ by the rounding of openpi's parameters to bfloat16 alone.
    np.testing.assert_allclose(answers["openpi"], answers["fixed"], atol=0.05)
    assert not np.array_equal(answers["openpi"], answers["fixed"])


# --- Whose statistics -------------------------------------------------------------------------------------------------


def test_statistics_are_found_by_the_robots_name(registry: Registry, tmp_path: Path) -> None:
    folder = _write(tmp_path / "pi05_base", assets=("trossen", "droid", "ur5e"), width=14)
    choose = _chooser(folder, registry)
    assert choose("aloha", None) == ("aloha", "trossen")
    assert choose("droid", None) == ("droid", "droid")
    assert choose("libero", "ur5e") == ("libero", "ur5e")
    with pytest.raises(ConfigError, match=r"those of libero\? give --assets .*droid, trossen, ur5e"):
        choose("libero", None)
    with pytest.raises(ConfigError, match=r"which robot is .* to drive\? give --embodiment"):
        choose(None, None)
    with pytest.raises(UnknownNameError, match="'ur5'; did you mean 'ur5e'"):
        choose("aloha", "ur5")
    with pytest.raises(UnknownNameError, match="unknown embodiment 'alhoa'; did you mean 'aloha'"):
        choose("alhoa", None)


def test_the_only_statistics_are_taken_unless_they_are_another_robots(registry: Registry, tmp_path: Path) -> None:
    mine = _chooser(_write(tmp_path / "mine", assets=("me/kitchen",)), registry)
    assert mine("libero", None) == ("libero", "me/kitchen")
    theirs = _chooser(_write(tmp_path / "theirs", assets=("physical-intelligence/libero",)), registry)
    assert theirs(None, None) == ("libero", "physical-intelligence/libero")
    with pytest.raises(ConfigError, match="those of droid"):
        theirs("droid", None)
    none = _chooser(_write(tmp_path / "none", assets=()), registry)
    with pytest.raises(CheckpointError, match="has no statistics"):
        none("droid", None)


def _chooser(folder: Path, registry: Registry) -> Callable[[str | None, str | None], tuple[str, str]]:
    from fla_models.openpi import choose_robot

    for file in (folder / "assets").rglob("norm_stats.json"):
        tree = json.loads(file.read_text())
        file.write_text(json.dumps({**tree, "fingerprint": str(file.parent.relative_to(folder / "assets"))}))

    def choose(embodiment: str | None, assets: str | None) -> tuple[str, str]:
        robot, stats = choose_robot(folder, registry, embodiment=embodiment, assets=assets)
        return robot, stats.fingerprint

    return choose


# --- Refused ----------------------------------------------------------------------------------------------------------


def test_statistics_of_a_smaller_robot(registry: Registry, tmp_path: Path) -> None:
    folder = _write(tmp_path / "small", assets=("kitchen",), width=3)
    with pytest.raises(StatsError, match="statistics of state have 3 dimensions, the embodiment has 8"):
        open_policy(folder, registry, embodiment="droid", model_options=TOLD)


def test_names_that_promise_something_else(droid: Path, registry: Registry, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="called pi0_droid, which is a pi0, but holds a pi05"):
        open_policy(shutil.copytree(droid, tmp_path / "pi0_droid"), registry, embodiment="droid")
    config = attrs.evolve(CONFIG, pi05=False)
    folder = _write(tmp_path / "pi0_libero", assets=("physical-intelligence/libero",), config=config)
    with pytest.raises(CheckpointError, match="no policy can be made of pi0_libero: it learned LIBERO's steps with"):
        open_policy(folder, registry)


def test_a_checkpoint_that_is_cut_short(droid: Path, registry: Registry, tmp_path: Path) -> None:
    folder = shutil.copytree(droid, tmp_path / "pi05_droid")
    (folder / "params" / "_METADATA").write_text('{"tree_metadata": ')
    with pytest.raises(CheckpointError, match=r"pi05_droid/params cannot be read"):
        open_policy(folder, registry)


def test_options_that_the_model_does_not_have(droid: Path, registry: Registry) -> None:
    with pytest.raises(ConfigError, match=r"--model-option .*no field 'horzon'; did you mean 'horizon'"):
        open_policy(droid, registry, model_options={"horzon": 3})
    with pytest.raises(CheckpointError, match=r"action_in_proj/kernel: \(8, 16\) in the checkpoint, \(9, 16\)"):
        open_policy(droid, registry, model_options={**WORDS, "action_dim": 9})


# --- Export -----------------------------------------------------------------------------------------------------------


def test_export_and_start_from_it(droid: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "droid.safetensors"
    assert main(["export", str(droid), "--format", "safetensors", "--out", str(out)]) == 0
    assert f"parameters of pi05 to {out}" in capsys.readouterr().out
    found = FAMILIES["pi05"].read_weights
    assert found is not None
    arrays = found(out, CONFIG)
    assert arrays is not None
    for path, value in _params(CONFIG).items():
        np.testing.assert_array_equal(arrays[path], value, err_msg=path)
    assert main(["export", str(droid), "--format", "onnx", "--out", str(out)]) == 1
    assert "unknown export format of 'pi05' 'onnx' (known: lerobot, safetensors)" in capsys.readouterr().err
