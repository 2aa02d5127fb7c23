"""Training recipes of the Pi0 family."""

from collections.abc import Iterator

import attrs

import fla_sdk as fla
from fla_sdk.training.config import Optimizer, TrainConfig


def _tiny() -> TrainConfig:
    return TrainConfig(
        model="pi05/tiny",
        steps=2000,
        batch_size=64,
        optimizer=Optimizer(peak_lr=2e-3, end_lr=2e-5, warmup_steps=50, decay_steps=2000, weight_decay=1e-4),
        save_every=500,
    )


def _tiny_aloha_sim() -> TrainConfig:
    return attrs.evolve(_tiny(), model_options={"action_dim": 14, "horizon": 50, "max_tokens": 64}, batch_size=32)


def _full(family: str) -> TrainConfig:
    return TrainConfig(model=f"{family}/base", init=_published(family))


def _published(family: str) -> str:
    return f"gs://openpi-assets/checkpoints/{family}_base"


def _frozen_backbone(family: str) -> TrainConfig:
    return attrs.evolve(_full(family), freeze=("vision", "language"))


def _gemma3() -> TrainConfig:
    return TrainConfig(
        model="pi06/gemma3_4b",
        init="hf://google/gemma-3-4b-pt",
        init_also=("gs://vertex-model-garden-paligemma-us/paligemma/pt_224.npz",),
        init_fresh=("action_expert", "projections", "PaliGemma/img/head/*"),
    )


def _lora(family: str) -> TrainConfig:
    """openpi's: the adapters, the vision tower and the projections are trained, without a moving average."""
    frozen = ("language",) if family == "pi0_fast" else ("language", "action_expert")
    return attrs.evolve(_full(family), model=f"{family}/base_lora", freeze=frozen, init_fresh=("lora",), ema_decay=None)


@fla.hookimpl
def fla_recipes() -> Iterator[fla.Recipe]:
    yield fla.Recipe(
        name="pi05_tiny",
        description="half a million parameters from scratch on 64x64 images: minutes on two cores, for simple robots",
        config=_tiny,
    )
    yield fla.Recipe(
        name="pi05_tiny_aloha_sim",
        description="pi05_tiny with the 14 joints and long chunks of ALOHA: shows the way, not the state of the art",
        config=_tiny_aloha_sim,
    )
    for family in ("pi0", "pi05", "pi0_fast"):
        yield fla.Recipe(
            name=f"{family}_lora",
            description=f"{family} from its published weights, with low-rank adapters in the transformer",
            config=lambda family=family: _lora(family),
        )
        yield fla.Recipe(
            name=f"{family}_full_finetune",
            description=f"all parameters of {family}, from its published weights",
            config=lambda family=family: _full(family),
        )
    yield fla.Recipe(
        name="pi06_gemma3",
        description="Gemma 3 4B with PaliGemma's vision tower and a new action expert, with knowledge insulation",
        config=_gemma3,
    )
    for family in ("pi0", "pi05"):
        yield fla.Recipe(
            name=f"{family}_frozen_backbone",
            description=f"{family} from its published weights, with vision and language frozen",
            config=lambda family=family: _frozen_backbone(family),
        )
