"""Plans against the real thing: arrays of a run, its compiled step, and the rule by which arrays are split."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
import jax
import pytest
from jax.sharding import AbstractMesh

from fla_sdk.errors import ConfigError, UnknownNameError
from fla_sdk.model import Batch
from fla_sdk.training import devices, mesh
from fla_sdk.training.config import Penalty, TrainConfig
from fla_sdk.training.plan import plan
from fla_sdk.training.step import TrainState, train_step
from fla_sdk.training.trainer import Trainer
from fla_sdk.training.workload import Workload

GB = 1e9


@pytest.fixture(scope="module")
def full(registry: Any) -> TrainConfig:
    return registry.recipe("pi05_full_finetune").config()


class CompiledStep(Exception):
    """What `Run` was about to take its first step with."""

    def __init__(self, step: Any, state: TrainState, batch: Batch) -> None:
        super().__init__()
        self.step, self.state, self.batch = step, state, batch


def compiled_step(config: TrainConfig, registry: Any, monkeypatch: pytest.MonkeyPatch) -> CompiledStep:
    """Begin to train, up to the first step."""
    real = jax.jit

    def jit(function: Any, **options: Any) -> Any:
        jitted = real(function, **options)
        if getattr(function, "func", None) is not train_step:
            return jitted

        def step(state: TrainState, batch: Batch, rng: Any) -> Any:
            raise CompiledStep(jitted.lower(state, batch, rng).compile(), state, batch)

        return step

    trainer = Trainer(config, plugins=registry)
    with monkeypatch.context() as patch:
        patch.setattr(jax, "jit", jit)
        with pytest.raises(CompiledStep) as caught:
            trainer.fit()
    return caught.value


@pytest.mark.slow
def test_state_is_that_of_a_run_and_temporaries_are_near_those_of_its_step(
    small_run: Callable[..., Any], registry: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Exact and, where activations are most of them, within a fifth."""
    deep = {**small_run(tmp_path).model_options, "remat": "all", "max_tokens": 24}
    for part in ("language", "expert"):
        deep[part] = {**deep[part], "depth": 3}
    changes = {"freeze": ["vision"], "frozen_dtype": "bfloat16", "regularizers": [Penalty(name="l2sp")]}
    config = small_run(tmp_path / "run", batch_size=64, model_options=deep, **changes)
    found = compiled_step(config, registry, monkeypatch)
    work = Workload(config, registry, devices=1)
    assert work.memory().state == sum(leaf.nbytes for leaf in jax.tree.leaves(found.state))
    shapes = jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), found.batch._replace(returns=None))
    assert shapes == jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), work.batch(64)._replace(returns=None))
    temporaries = found.step.memory_analysis().temp_size_in_bytes
    assert work.cost(64).memory == pytest.approx(temporaries, rel=0.2)


def test_a_device_holds_what_its_shardings_say(full: TrainConfig, registry: Any) -> None:
    work = Workload(attrs.evolve(full, fsdp_devices=8), registry, devices=16)
    devices: Any = AbstractMesh((2, 8), ("batch", "fsdp"))
    shardings = mesh.state_shardings(devices, work.state)
    local = jax.tree.map(
        lambda leaf, sharding: leaf.dtype.itemsize * _count(sharding.shard_shape(leaf.shape)), work.state, shardings
    )
    assert work.memory().state == sum(jax.tree.leaves(local))


def _count(shape: tuple[int, ...]) -> int:
    total = 1
    for length in shape:
        total *= length
    return total


def test_the_published_model_on_published_gpus(full: TrainConfig, registry: Any) -> None:
    """openpi: full fine-tuning takes more than 70 GB, and fits a GPU of 80."""
    found = plan(attrs.evolve(full, batch_size=8), registry, device=devices.known("h100"))
    assert found.memory.state == pytest.approx(4 * 4 * 3_353_433_872, rel=1e-6)
    assert found.fits
    assert found.memory.total > 65 * GB
    assert found.changes == ()
    assert found.floor is not None
    # 6 operations per parameter and token and 2 for what is recomputed; the words that are only looked up have none.
    tokens, looked_up = 3 * 256 + 200, 257_152 * 2048
    assert found.floor.products == pytest.approx(8 * 8 * tokens * (2.9e9 - looked_up) / 989e12, rel=0.2)
    text = found.describe()
    assert "trained parameters     13.4 GB" in text
    assert f"at most {8 / found.floor.total:.3g} samples/s" in text
    assert found.faster == ()


def test_what_would_be_faster_fits_too(full: TrainConfig, registry: Any) -> None:
    """Adapters leave room: what is kept need not be computed once more."""
    found = plan(registry.recipe("pi05_lora").config(), registry, device=devices.known("b200"))
    assert found.fits
    assert [change.setting for change in found.faster] == ["--set model_options.remat=cheap"]
    assert found.memory.total < found.faster[0].total <= found.usable
    assert f"what would be faster, per device:\n  {found.faster[0].what} " in found.describe()


def test_what_to_change_fits_when_it_says_so(full: TrainConfig, registry: Any) -> None:
    card = devices.known("4090")
    found = plan(full, registry, device=card)
    assert not found.fits
    assert found.largest_batch == 0
    settings = {change.setting: change for change in found.changes}
    assert {"--set accumulate=32", "--set ema_decay=null", "recipe pi05_lora", "recipe pi05_frozen_backbone"} <= set(
        settings
    )
    assert not settings["--set ema_decay=null"].fits
    frozen = registry.recipe("pi05_frozen_backbone").config()
    total = Workload(frozen, registry, devices=1).memory().total
    assert settings["recipe pi05_frozen_backbone"].total == total
    assert settings["recipe pi05_frozen_backbone"].fits


def test_the_largest_batch_fits_and_a_tenth_more_does_not(
    small_run: Callable[..., Any], registry: Any, tmp_path: Path
) -> None:
    def total(work: Workload, batch: int) -> float:
        return work.memory(batch // work.devices).total

    work = Workload(small_run(tmp_path, batch_size=64, accumulate=2), registry, devices=2)
    room = 20 * total(work, 4)
    largest = work.largest_batch(room)
    assert largest % 4 == 0
    assert total(work, largest) <= room < total(work, round(1.1 * largest))
    assert work.largest_batch(total(work, 4) - 1) == 0


def test_a_batch_in_parts_needs_less_and_computes_the_same(
    small_run: Callable[..., Any], registry: Any, tmp_path: Path
) -> None:
    whole = Workload(small_run(tmp_path, batch_size=32), registry, devices=1)
    parts = Workload(small_run(tmp_path, batch_size=32, accumulate=8), registry, devices=1)
    assert parts.memory().state == whole.memory().state
    assert parts.memory().activations < 0.5 * whole.memory().activations
    assert parts.cost(32).operations == pytest.approx(dict(whole.cost(32).operations), rel=0.01)


def test_a_robot_without_a_camera_has_no_images_of_it(
    small_run: Callable[..., Any], registry: Any, tmp_path: Path
) -> None:
    config = small_run(tmp_path)
    assert set(Workload(config, registry, devices=1).batch(1).inputs.images) == {"base_0_rgb"}
    nobody = attrs.evolve(config, sources=())
    assert len(Workload(nobody, registry, devices=1).batch(1).inputs.images) == 3


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"fsdp_devices": 3}, "does not divide the 8 devices"),
        ({"batch_size": 12}, "cannot be divided evenly over 8 devices; take 8"),
        ({"freeze": ["visoin"]}, "did you mean 'vision'"),
    ],
)
def test_what_makes_no_sense(
    small_run: Callable[..., Any], registry: Any, tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises((ConfigError, UnknownNameError), match=message):
        plan(small_run(tmp_path, **{"batch_size": 8, **changes}), registry, device=devices.known("l4"), devices=8)


def test_devices_by_name_and_by_memory() -> None:
    assert devices.known("RTX 4090") is devices.known("4090")
    with pytest.raises(UnknownNameError, match="did you mean 'h100'"):
        devices.known("h10")
    assert devices.of_memory("24GB").memory == devices.of_memory("24").memory == 24e9
    assert devices.of_memory("1.5 GiB").memory == 1.5 * 2**30
    for wrong in ("much", "GB", "-3GB", "0"):
        with pytest.raises(ConfigError):
            devices.of_memory(wrong)
