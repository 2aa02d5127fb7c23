"""Recipes for one's own robot: what is trained of Pi0, Pi0.5 and Pi0-FAST, and a small model from scratch."""

from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

import fla_sdk as fla
from fla_models.recipes.places import base
from fla_sdk.training.config import Optimizer, TrainConfig

FULL_MEMORY = "Memory: openpi's documents say more than 70 GB on one GPU."
LORA_MEMORY = "Memory: openpi's documents say more than 22.5 GB on one GPU."
FROZEN_MEMORY = "Memory: between adapters and all parameters; frozen ones have no gradient and no optimizer."

LORA: Mapping[str, Any] = {"init_fresh": ("lora",), "ema_decay": None}
"""What training adapters sets besides the variant and what is frozen, as openpi does."""

_TINY: Mapping[str, Any] = {
    "model": "pi05/tiny",
    "steps": 2000,
    "batch_size": 64,
    "optimizer": Optimizer(peak_lr=2e-3, end_lr=2e-5, warmup_steps=50, decay_steps=2000, weight_decay=1e-4),
    "save_every": 500,
}


def recipe(name: str, description: str, *notes: str, **fields: Any) -> fla.Recipe:
    """A row of a table: `fields` are those of `TrainConfig`."""
    return fla.Recipe(name=name, description=description, notes=" ".join(notes), config=partial(TrainConfig, **fields))


def frozen_by_lora(family: str) -> tuple[str, ...]:
    """openpi's: the adapters, the vision tower and the projections are trained."""
    return ("language",) if family == "pi0_fast" else ("language", "action_expert")


def recipes() -> Iterator[fla.Recipe]:
    yield recipe(
        "pi05_tiny",
        "half a million parameters from scratch on 64x64 images: minutes on two cores, for simple robots",
        **_TINY,
    )
    yield recipe(
        "pi05_tiny_aloha_sim",
        "pi05_tiny with the 14 joints and long chunks of ALOHA: shows the way, not the state of the art",
        **{
            **_TINY,
            "model_options": {"action_dim": 14, "horizon": 50, "max_tokens": 64},
            "batch_size": 32,
        },
    )
    for family in ("pi0", "pi05", "pi0_fast"):
        weights: dict[str, Any] = {"model": f"{family}/base", "init": base(family)}
        if family == "pi0_fast":
            yield recipe(
                "pi0_fast_frozen_backbone",
                "pi0_fast from its published weights, with the vision tower frozen",
                "The language model is what acts, so it is trained. Its moving average and optimizer are most of the",
                "memory: as much as for all parameters.",
                freeze=("vision",),
                **weights,
            )
        else:
            yield recipe(
                f"{family}_frozen_backbone",
                f"{family} from its published weights, with vision and language frozen",
                FROZEN_MEMORY,
                freeze=("vision", "language"),
                **weights,
            )
        yield recipe(
            f"{family}_lora",
            f"{family} from its published weights, with low-rank adapters in the transformer",
            LORA_MEMORY,
            freeze=frozen_by_lora(family),
            **{**weights, **LORA, "model": f"{family}/base_lora"},
        )
        yield recipe(
            f"{family}_full_finetune", f"all parameters of {family}, from its published weights", FULL_MEMORY, **weights
        )
