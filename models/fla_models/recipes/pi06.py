"""Recipes of the Pi0.6 kind: Pi0.5 behind a frozen backbone, on one robot or several; and Gemma 3 as the backbone.

Steps and batches are starting points, not the result of a search.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import attrs

import fla_sdk as fla
from fla_models.recipes.families import FROZEN_MEMORY, LORA, LORA_MEMORY, frozen_by_lora, recipe
from fla_models.recipes.places import CUBE, DROID, GEMMA3, LIBERO, PALIGEMMA, PEN, base, hub, rlds
from fla_sdk.training.config import Optimizer

ALOHA_SIM = tuple(
    hub(f"lerobot/aloha_sim_{task}_{by}", "aloha_sim")
    for task in ("transfer_cube", "insertion")
    for by in ("human", "scripted")
)
"""Two tasks of simulated ALOHA, shown by people and by a program, 50 episodes each."""

OPEN_X = (
    attrs.evolve(DROID, weight=0.06),
    rlds("fractal20220817_data 0.1.0", "fractal", weight=0.54),
    rlds("bridge_orig 1.0.0", "bridge", weight=1.0),
    rlds("taco_play 0.1.0", "taco_play", weight=2.0),
    rlds("jaco_play 0.1.0", "jaco_play", weight=1.0),
    rlds("berkeley_autolab_ur5 0.1.0", "berkeley_autolab_ur5", weight=2.0),
    rlds("viola 0.1.0", "viola", weight=2.0),
)
"""Weights, which multiply sizes, are those of OpenVLA's mixture (arXiv:2406.09246)."""

PRETRAINED = {"aloha": f"{base('pi05')}#trossen"}
FROZEN: Mapping[str, Any] = {"model": "pi05/base", "init": base("pi05"), "freeze": ("vision", "language")}
ADAPTERS: Mapping[str, Any] = {**FROZEN, **LORA, "model": "pi05/base_lora", "freeze": frozen_by_lora("pi05")}
SIZE_AND_WEIGHT = "The smaller robots are drawn from more often than their share (temperature 2)."

_ROWS: Mapping[str, tuple[str, tuple[str, ...], Mapping[str, Any]]] = {
    "pi06_aloha_sim": ("simulated ALOHA hands over a cube", (), {"sources": (CUBE,), "steps": 30_000}),
    "pi06_aloha_real": (
        "ALOHA uncaps a pen, with the statistics of pre-training",
        ("Your own: --data DIR.",),
        {"sources": (PEN,), "stats": PRETRAINED, "steps": 20_000},
    ),
    "pi06_base": ("your own robot, long", (), {"steps": 50_000, "batch_size": 64}),
    "pi06_multi": (
        "simulated ALOHA, two tasks, four datasets",
        (),
        {"sources": ALOHA_SIM, "steps": 30_000, "batch_size": 64},
    ),
    "pi06_libero": ("LIBERO", (), {"sources": (LIBERO,), "steps": 20_000, "batch_size": 64}),
    "pi06_cross_embodiment": (
        "ALOHA, simulated ALOHA and LIBERO in one policy",
        (SIZE_AND_WEIGHT,),
        {
            "sources": (PEN, *ALOHA_SIM, LIBERO),
            "sampling": "temperature",
            "stats": PRETRAINED,
            "steps": 30_000,
            "batch_size": 64,
        },
    ),
    "pi06_cross_embodiment_aloha": (
        "ALOHA and simulated ALOHA in one policy",
        (SIZE_AND_WEIGHT,),
        {
            "sources": (PEN, *ALOHA_SIM),
            "sampling": "temperature",
            "stats": PRETRAINED,
            "steps": 30_000,
            "batch_size": 64,
        },
    ),
    "pi06_comprehensive": (
        "seven robots of Open X-Embodiment, by weight and size",
        (
            "Chunks of 16, because most of these robots are slow. Where a dataset does not say a unit, its numbers",
            "stay its own. For several GPUs: fsdp_devices.",
        ),
        {
            "sources": OPEN_X,
            "sampling": "size",
            "model_options": {"horizon": 16},
            "steps": 200_000,
            "batch_size": 256,
            "optimizer": Optimizer(peak_lr=1e-4, end_lr=1e-5, warmup_steps=5000, decay_steps=200_000),
            "save_every": 5000,
            "keep_period": 50_000,
        },
    ),
}

BRIDGED = (
    "Weights: Gemma 3 4B and PaliGemma's vision tower; the projection between them, the action expert and the",
    "projections of actions begin anew. Gemma's terms bind what comes out. Nobody has measured where this ends.",
)
GEMMA3_MODEL: Mapping[str, Any] = {
    "model": "pi06/gemma3_4b",
    "init": GEMMA3,
    "init_also": (PALIGEMMA,),
    "init_fresh": ("action_expert", "projections", "PaliGemma/img/head/*"),
}
_ADAPTER = {"rank": 16, "alpha": 16.0}

_GEMMA3: Mapping[str, tuple[str, tuple[str, ...], Mapping[str, Any]]] = {
    "pi06_gemma3_aloha_sim": (
        "simulated ALOHA, all parameters, knowledge insulation",
        (),
        {"sources": (CUBE,), "steps": 100_000},
    ),
    "pi06_gemma3_libero": (
        "LIBERO, all parameters, knowledge insulation",
        (),
        {"sources": (LIBERO,), "steps": 100_000},
    ),
    "pi06_gemma3_frozen": (
        "your own robot, language frozen",
        (
            "The vision tower is trained, because its projection is new; so the action expert's gradient may pass",
            "through the language model, without insulation.",
        ),
        {"freeze": ("language",), "model_options": {"insulate": False}, "steps": 30_000},
    ),
    "pi06_gemma3_lora": (
        "your own robot, adapters in the language model",
        ("Vision tower, projection and action expert are trained as a whole.",),
        {
            "freeze": ("language",),
            "model_options": {"language.lora_attention": _ADAPTER, "language.lora_mlp": _ADAPTER},
            "init_fresh": (*GEMMA3_MODEL["init_fresh"], "lora"),
            "ema_decay": None,
            "steps": 20_000,
        },
    ),
}


def _decay(fields: Mapping[str, Any]) -> dict[str, Any]:
    """A cosine that ends with the run, where the row has none of its own."""
    return {"optimizer": Optimizer(decay_steps=fields["steps"]), **fields}


def recipes() -> Iterator[fla.Recipe]:
    for name, (description, notes, fields) in _ROWS.items():
        yield recipe(
            name, f"pi05, frozen backbone: {description}", *notes, FROZEN_MEMORY, **{**FROZEN, **_decay(fields)}
        )
    yield recipe(
        "pi06_base_lora",
        "pi05, adapters: your own robot",
        LORA_MEMORY,
        **{**ADAPTERS, **_decay({"steps": 30_000})},
    )
    yield recipe(
        "pi05_custom",
        "pi05, adapters: a small robot of your own, such as one camera and 5 dimensions, in chunks of 10",
        "Fewer dimensions than the model's 32 and absent cameras need no setting: they cost nothing.",
        LORA_MEMORY,
        **{
            **ADAPTERS,
            "model_options": {"horizon": 10},
            "steps": 10_000,
            "optimizer": Optimizer(
                peak_lr=3e-4, end_lr=1e-5, warmup_steps=500, decay_steps=10_000, weight_decay=0.01, clip_norm=1.0
            ),
        },
    )
    for name, (description, notes, fields) in _GEMMA3.items():
        optimizer = Optimizer(peak_lr=5e-5, end_lr=5e-6, decay_steps=fields["steps"])
        yield recipe(
            name,
            f"Gemma 3 4B: {description}",
            *BRIDGED,
            *notes,
            **{**GEMMA3_MODEL, "optimizer": optimizer, "batch_size": 16, **fields},
        )
