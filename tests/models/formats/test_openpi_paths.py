"""PaliGemma's `.npz` and our `.safetensors`: read back as they were, in bfloat16 too; damaged ones are named."""

import json
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from safetensors import safe_open

from fla_embodiments.planar import PLANAR2
from fla_models.configs import variants
from fla_models.formats import read_weights
from fla_models.plugin import fla_models
from fla_sdk.config import structure
from fla_sdk.errors import CheckpointError, ConfigError
from fla_sdk.normalization import NormStats, Stats
from fla_sdk.policy import weights

FAMILY = {family.name: family for family in fla_models()}["pi05"]
CONFIG = variants(pi05=True)["tiny"]
RNG = np.random.default_rng(0)
ARRAYS = {
    "PaliGemma/img/embedding/kernel": RNG.standard_normal((3, 4), np.float32),
    "PaliGemma/llm/layers/attn/q_einsum/w": RNG.standard_normal((2, 4, 3), np.float32).astype(ml_dtypes.bfloat16),
    "PaliGemma/llm/final_norm/scale": RNG.standard_normal(5, np.float32).astype(np.float16),
    "action_in_proj/bias": np.zeros(0, np.float32),
}


def _same(found: Any, expected: dict[str, np.ndarray] = ARRAYS) -> None:
    assert found is not None
    assert found.keys() == expected.keys()
    for path, array in expected.items():
        assert (found[path].dtype, found[path].shape) == (array.dtype, array.shape)
        assert found[path].tobytes() == array.tobytes()


def _npz(path: Path, arrays: dict[str, np.ndarray]) -> Path:
    with path.open("wb") as out:
        np.savez(out, **arrays)  # pyright: ignore[reportArgumentType]
    return path


def test_paligemma_as_it_is_published(tmp_path: Path) -> None:
    """Names begin at `params/` and do not name the model; numpy's files forget what bfloat16 is."""
    named = {path.replace("PaliGemma/", "params/"): array for path, array in ARRAYS.items() if "PaliGemma" in path}
    found = read_weights(_npz(tmp_path / "pt_224.npz", named), CONFIG)
    _same(found, {path: array for path, array in ARRAYS.items() if "PaliGemma" in path})
    _same(read_weights(_npz(tmp_path / "ours.npz", ARRAYS), CONFIG))


def test_what_is_exported_is_read_again(tmp_path: Path) -> None:
    stats = Stats(mean=np.zeros(2), std=np.ones(2), q01=-np.ones(2), q99=np.ones(2))
    out = tmp_path / "model.safetensors"
    FAMILY.exporters["safetensors"](CONFIG, ARRAYS, [(PLANAR2, NormStats(state=stats, actions=stats, count=3))], out)
    _same(read_weights(out, CONFIG))
    with safe_open(out, "numpy") as file:
        metadata = file.metadata()
    assert metadata["family"] == "pi05"
    assert structure(json.loads(metadata["config"]), type(CONFIG)) == CONFIG
    assert NormStats.from_json(metadata[f"norm_stats/{PLANAR2.name}"]).count == 3
    assert "notice" not in metadata  # nothing of Gemma is in a model that was trained from scratch
    FAMILY.exporters["safetensors"](FAMILY.variants["base"], ARRAYS, [], tmp_path / "gemma.safetensors")
    with safe_open(tmp_path / "gemma.safetensors", "numpy") as file:
        assert "Gemma Terms of Use" in file.metadata()["notice"]
    with pytest.raises(ConfigError, match="exists: give another place"):
        FAMILY.exporters["safetensors"](CONFIG, ARRAYS, [], out)


@pytest.mark.parametrize("name", ["cut.npz", "cut.safetensors", "junk.npz", "junk.safetensors", "empty.npz"])
def test_damaged_files_are_named(tmp_path: Path, name: str) -> None:
    whole = tmp_path / f"whole.{name.split('.')[1]}"
    if whole.suffix == ".npz":
        _npz(whole, ARRAYS)
    else:
        FAMILY.exporters["safetensors"](CONFIG, ARRAYS, [], whole)
    content = whole.read_bytes()
    damaged = tmp_path / name
    damaged.write_bytes({"cut": content[: len(content) * 2 // 3], "junk": b"x" * 100, "empty": b""}[name.split(".")[0]])
    with pytest.raises(CheckpointError, match=rf"{name} cannot be read.*damaged or cut short at") as caught:
        read_weights(damaged, CONFIG)
    assert "fetch it again" in str(caught.value)


def test_a_flipped_bit_in_an_npz_is_noticed(tmp_path: Path) -> None:
    file = _npz(tmp_path / "flipped.npz", ARRAYS)
    content = bytearray(file.read_bytes())
    content[content.index(ARRAYS["PaliGemma/img/embedding/kernel"].tobytes())] ^= 1
    file.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"flipped\.npz cannot be read: BadZipFile"):
        read_weights(file, CONFIG)


def test_files_that_hold_no_weights(tmp_path: Path) -> None:
    (tmp_path / "holiday.txt").write_text("sun")
    assert read_weights(tmp_path / "holiday.txt", CONFIG) is None
    with pytest.raises(CheckpointError, match="holds no weights that pi05 can read"):
        weights.read(tmp_path / "holiday.txt", FAMILY, CONFIG)
