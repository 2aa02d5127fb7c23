"""A model that compiles in seconds, and episodes of both planar arms."""

from pathlib import Path
from typing import Any

import pytest

import fla_sdk as fla
from fla_sdk.evaluation.recording import record
from fla_sdk.training.config import Optimizer

_EXPERT = {"width": 16, "depth": 1, "heads": 2, "kv_heads": 1, "head_dim": 8, "mlp_dim": 32}


@pytest.fixture(scope="session")
def registry() -> fla.Registry:
    return fla.load_plugins()


@pytest.fixture(scope="session")
def arms(registry: fla.Registry, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Embodiment -> dataset of four episodes."""
    folder = tmp_path_factory.mktemp("arms")
    for name in ("planar2", "planar3"):
        record(registry, benchmark="planar", embodiment=name, episodes=4, out=folder / name)
    return {name: folder / name for name in ("planar2", "planar3")}


@pytest.fixture(scope="session")
def small(arms: dict[str, Path], compiled: None) -> fla.TrainConfig:
    """A run of six steps on the first arm, with checkpoints at 3 and 6."""
    vision = {"width": 16, "depth": 1, "heads": 2, "mlp_dim": 32, "patch": 32}
    options: dict[str, Any] = {"vision": vision, "language": _EXPERT, "expert": _EXPERT}
    return fla.TrainConfig(
        model="pi05/tiny",
        model_options={**options, "vocab_size": 300, "unroll": False, "horizon": 4},
        sources=[fla.Source(data=str(arms["planar2"]), embodiment="planar2")],
        steps=6,
        batch_size=4,
        optimizer=Optimizer(peak_lr=1e-2, end_lr=1e-3, warmup_steps=2, decay_steps=6),
        ema_decay=None,
        save_every=3,
        log_every=1,
        validate_batches=1,
        loader_threads=1,
        frame_cache="never",
    )


@pytest.fixture(scope="session")
def trained(small: fla.TrainConfig, registry: fla.Registry, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The last checkpoint of `small`."""
    import attrs

    out = tmp_path_factory.mktemp("trained") / "run"
    return fla.Trainer(attrs.evolve(small, out=out), plugins=registry).fit().checkpoint
