"""What penalties carry is saved: a run that ends half way ends the same as one that does not."""

import shutil
from pathlib import Path
from typing import Any

import attrs
import jax
import numpy as np

import fla_sdk as fla
from fla_sdk.policy import checkpoint
from fla_sdk.training.config import Penalty


def _state(folder: Path) -> Any:
    return checkpoint.restore(folder / "train_state", kind=np.ndarray)


def test_bit_for_bit(small: fla.TrainConfig, trained: Path, registry: fla.Registry, tmp_path: Path) -> None:
    params = checkpoint.read_params(trained)
    file = tmp_path / "importance.safetensors"
    checkpoint.write_importance(file, {path: np.ones_like(leaf) for path, leaf in params.items()})
    penalties = [
        Penalty(name="ewc", strength=0.3, options={"importance": str(file)}),
        Penalty(name="si", strength=0.1, options={"importance": "none"}),
        Penalty(name="distillation", strength=0.2),
    ]
    config = attrs.evolve(small, out=tmp_path / "whole", init=str(trained), regularizers=penalties)
    whole = fla.Trainer(config, plugins=registry).fit().checkpoint
    half = attrs.evolve(config, out=tmp_path / "half")
    shutil.copytree(tmp_path / "whole", half.out)
    shutil.rmtree(half.out / "checkpoints" / "6")
    file.unlink()  # what is carried is in the checkpoint
    resumed = fla.Trainer(half, plugins=registry).fit(resume=True).checkpoint
    jax.tree.map(np.testing.assert_array_equal, _state(resumed), _state(whole))
    found = checkpoint.read_importance(resumed / "importance" / "si.safetensors")
    expected = checkpoint.read_importance(whole / "importance" / "si.safetensors")
    assert found.keys() == params.keys()
    assert all(np.array_equal(found[path], expected[path]) for path in found)
    assert max(float(leaf.max()) for leaf in found.values()) > 0
    anchor = _state(whole)["penalties"][0]["anchor"]
    assert all(np.array_equal(anchor[path], leaf) for path, leaf in params.items())
