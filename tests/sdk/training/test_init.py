"""Runs that start from weights: of another run, of a file, of a bucket; with adapters, another width, another model."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import pytest

from fla_sdk.cli import main
from fla_sdk.errors import CheckpointError, ConfigError
from fla_sdk.policy import checkpoint
from fla_sdk.training.config import TrainConfig
from fla_sdk.training.trainer import Trainer

from ..policy.storage_server import serve

LORA = {name: {"rank": 2, "alpha": 4.0} for name in ("lora_attention", "lora_mlp")}
Make = Callable[..., Any]


@pytest.fixture
def start(trained: Path, small_run: Make, registry: Any, tmp_path: Path) -> Make:
    """`start(options={}, **changes)`: parameters of a run that only starts, from `trained` unless told otherwise."""

    def run(*, options: dict[str, Any] | None = None, **changes: Any) -> dict[str, Any]:
        config: TrainConfig = small_run(tmp_path / "run", **{"init": str(trained), "steps": 0, **changes})
        changed = attrs.evolve(config, model_options={**config.model_options, **(options or {})})
        return checkpoint.read_params(Trainer(changed, plugins=registry).fit(overwrite=True).checkpoint)

    return run


@pytest.fixture
def weights(trained: Path) -> dict[str, Any]:
    return checkpoint.read_params(checkpoint.find(trained))


def _adapters(small_run: Make, tmp_path: Path) -> dict[str, Any]:
    plain = small_run(tmp_path / "unused").model_options
    return {name: {**plain[name], **LORA} for name in ("language", "expert")}


def test_adapters_begin_anew_on_published_weights(
    start: Make, small_run: Make, weights: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = _adapters(small_run, tmp_path)
    # Before anything is trained, and before the parameters are read.
    with pytest.raises(CheckpointError, match=r"\(pi05/tiny\) does not fit pi05/tiny:\n  lora: 20 of 20 are missing"):
        start(options=options)
    params = start(options=options, init_fresh=["lora"])
    for path, leaf in weights.items():
        np.testing.assert_array_equal(params[path], leaf, err_msg=path)
    adapters = [path for path in params if "lora" in path]
    assert len(adapters) == 20
    assert all(np.asarray(params[path]).any() for path in adapters)
    said = capsys.readouterr().out
    assert "parameters of pi05/tiny from " in said
    assert said.count("  initialised  ") == 20


def test_adapters_are_merged_in_a_policy_and_in_exports(
    small_run: Make, registry: Any, trained: Path, tmp_path: Path
) -> None:
    from fla_sdk.policy.policy import Policy

    config = small_run(tmp_path / "run", init=str(trained), init_fresh=["lora"], steps=0)
    options = {**config.model_options, **_adapters(small_run, tmp_path)}
    run = Trainer(attrs.evolve(config, model_options=options), plugins=registry).fit().checkpoint
    apart, merged = (Policy.load(run, plugins=registry, merge_lora=merge) for merge in (False, None))
    assert any("lora" in path for path in apart._params)
    assert not any("lora" in path for path in merged._params)
    observation = apart.codecs["planar2"].embodiment.example_observation()
    noise = np.random.default_rng(0).standard_normal((8, 8)).astype(np.float32)
    answers = [policy.infer(observation, noise=noise)["actions"] for policy in (apart, merged)]
    np.testing.assert_allclose(answers[0], answers[1], atol=1e-5)
    out = tmp_path / "merged.safetensors"
    assert main(["export", str(run), "--format", "safetensors", "--merge-lora", "--out", str(out)]) == 0
    plain = small_run(tmp_path / "second", init=str(out), steps=0)
    again = checkpoint.read_params(Trainer(plain, plugins=registry).fit().checkpoint)
    assert again.keys() == merged._params.keys()
    for path, leaf in again.items():
        np.testing.assert_array_equal(leaf, merged._params[path], err_msg=path)


def test_another_action_width(start: Make, weights: dict[str, Any]) -> None:
    with pytest.raises(CheckpointError, match=r"action_in_proj/kernel is \(8, 16\), pi05/tiny has \(6, 16\)") as caught:
        start(options={"action_dim": 6})
    assert "--init-resize" in str(caught.value)
    params = start(options={"action_dim": 10}, init_resize=True)
    np.testing.assert_array_equal(params["action_out_proj/kernel"][:, :8], weights["action_out_proj/kernel"])
    assert not params["action_out_proj/kernel"][:, 8:].any()


def test_a_checkpoint_of_another_family_names_both(start: Make) -> None:
    with pytest.raises(CheckpointError, match=r"\(pi05/tiny\) does not fit pi0/tiny:") as caught:
        start(model="pi0/tiny")
    assert "action_expert: 3 of" in str(caught.value)
    assert "projections: " in str(caught.value)


def test_from_a_bucket(
    start: Make, trained: Path, weights: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = checkpoint.find(trained)
    monkeypatch.setenv("FLA_DATA_HOME", str(tmp_path / "home"))
    with serve() as storage:
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", storage.url)
        storage.objects = {
            f"arm/{file.relative_to(folder)}": file.read_bytes() for file in folder.rglob("*") if file.is_file()
        }
        params = start(init="gs://models/arm/params")
        with pytest.raises(CheckpointError, match=r"there is nothing at gs://models/arn/params"):
            start(init="gs://models/arn/params")
    for path, leaf in weights.items():
        np.testing.assert_array_equal(params[path], leaf, err_msg=path)


def test_what_is_not_there(small_run: Make, registry: Any, trained: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"the path does not exist; did you mean .*run\?"):
        Trainer(small_run(tmp_path / "out", init=str(trained.with_name("ruin"))), plugins=registry)
    trainer = Trainer(small_run(tmp_path / "out", init=str(tmp_path)), plugins=registry)
    with pytest.raises(CheckpointError, match="holds no weights that pi05 can read"):
        trainer.fit()


def test_options_of_weights_that_are_not_given() -> None:
    with pytest.raises(ConfigError, match="about weights to start from, but init is 'scratch'"):
        TrainConfig(model="pi05/tiny", init_fresh=("lora",))
