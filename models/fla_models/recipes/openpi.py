"""openpi's own names, with its hyperparameters. Models come from the table that its checkpoints are read by."""

from collections.abc import Iterator, Mapping
from typing import Any

import attrs

import fla_sdk as fla
from fla_models.published import NAMES
from fla_models.recipes.families import FULL_MEMORY, LORA, LORA_MEMORY, frozen_by_lora, recipe
from fla_models.recipes.places import CHECKPOINTS, CUBE, DROID, LIBERO, PEN, POLARIS, base
from fla_sdk.training.config import Optimizer

SHARED: Mapping[str, Any] = {"keep_period": 5000, "loss_dims": "all"}
"""Of all of them: what openpi does, where our default is another."""

EVEN = Optimizer(peak_lr=5e-5, end_lr=5e-5, warmup_steps=1000, decay_steps=1_000_000)

STEPS = "openpi subtracts the state from LIBERO's steps (extra_delta_transform); here steps stay steps."
SIM = "openpi turns joints and grippers of simulated ALOHA into the base model's; here they are its own."
CAMERA = "openpi draws one of DROID's two exterior cameras; here it is exterior_image_1_left."
YOURS = "Data: recordings of DROID's form, or DROID itself."

_ROWS: Mapping[str, tuple[str, tuple[str, ...], Mapping[str, Any]]] = {
    "pi0_libero": ("LIBERO, all parameters", (FULL_MEMORY, STEPS), {"sources": (LIBERO,)}),
    "pi0_libero_low_mem_finetune": ("LIBERO, adapters", (LORA_MEMORY, STEPS), {"sources": (LIBERO,)}),
    "pi0_fast_libero": ("LIBERO, all parameters", (FULL_MEMORY, STEPS), {"sources": (LIBERO,)}),
    "pi0_fast_libero_low_mem_finetune": ("LIBERO, adapters", (LORA_MEMORY, STEPS), {"sources": (LIBERO,)}),
    "pi05_libero": (
        "LIBERO, all parameters, without the state",
        (FULL_MEMORY,),
        {
            "sources": (LIBERO,),
            "batch_size": 256,
            "optimizer": attrs.evolve(EVEN, warmup_steps=10_000),
            "ema_decay": 0.999,
        },
    ),
    "pi0_aloha_pen_uncap": (
        "ALOHA uncaps a pen",
        (FULL_MEMORY,),
        {"sources": (PEN,), "stats": {"aloha": f"{base('pi0')}#trossen"}, "steps": 20_000},
    ),
    "pi05_aloha_pen_uncap": (
        "ALOHA uncaps a pen",
        (FULL_MEMORY,),
        {"sources": (PEN,), "stats": {"aloha": f"{base('pi05')}#trossen"}, "steps": 20_000, "batch_size": 64},
    ),
    "pi0_aloha_sim": ("simulated ALOHA hands over a cube", (FULL_MEMORY, SIM), {"sources": (CUBE,), "steps": 20_000}),
    "pi0_fast_full_droid_finetune": (
        "all of DROID, joint positions",
        (CAMERA, "About two days on eight H100 (openpi)."),
        {
            "sources": (DROID,),
            "batch_size": 256,
            "steps": 100_000,
            "optimizer": EVEN,
            "save_every": 5000,
            "keep_period": 20_000,
        },
    ),
    "pi05_full_droid_finetune": (
        "all of DROID, joint positions",
        (CAMERA, "About two days on eight H100 (openpi)."),
        {
            "sources": (DROID,),
            "stats": {"droid_jointpos": f"{base('pi05')}#droid"},
            "batch_size": 256,
            "steps": 100_000,
            "optimizer": EVEN,
            "save_every": 5000,
            "keep_period": 10_000,
        },
    ),
    "pi05_droid_finetune": (
        "the published policy of DROID, on your own recordings",
        (YOURS, FULL_MEMORY),
        {
            "init": f"{CHECKPOINTS}/pi05_droid",
            "sources": (fla.Source(data="<your dataset of DROID's form>", embodiment="droid"),),
            "stats": {"droid": f"{CHECKPOINTS}/pi05_droid#droid"},
            "steps": 20_000,
        },
    ),
    "pi05_droid": (
        "the published policy of DROID with its own chunks of 15, on your own recordings",
        (YOURS, "openpi serves a config of this name and does not train it.", FULL_MEMORY),
        {
            "init": f"{CHECKPOINTS}/pi05_droid",
            "sources": (fla.Source(data="<your dataset of DROID's form>", embodiment="droid"),),
            "stats": {"droid": f"{CHECKPOINTS}/pi05_droid#droid"},
        },
    ),
}

_POLARIS = (
    "pi05_droid_jointpos_polaris",
    "pi0_fast_droid_jointpos_polaris",
    "pi0_droid_jointpos_polaris",
    "pi0_droid_jointpos_100k_polaris",
)
"""Policies of PolaRiS: a thousand steps on DROID with a tenth of simulated episodes, on top of policies for DROID."""


def _options(name: str) -> dict[str, Any]:
    """As YAML has them: lists."""
    options = {f: list(value) if isinstance(value, tuple) else value for f, value in NAMES[name].options.items()}
    if name.startswith("pi0_fast_libero"):
        options["action_dim"] = 8  # the state is one wider than openpi's 7; Pi0-FAST pads neither, so nothing changes
    return options


def _polaris(name: str) -> fla.Recipe:
    named, weights = NAMES[name], f"{CHECKPOINTS}/polaris/{name}"
    return recipe(
        name,
        f"{named.family}: DROID and a tenth of PolaRiS, joint positions",
        CAMERA,
        model=f"{named.family}/base",
        model_options=_options(name),
        init=weights,
        sources=(attrs.evolve(DROID, weight=0.9), attrs.evolve(POLARIS, weight=0.1)),
        stats={"droid_jointpos": f"{weights}#droid"},
        batch_size=128,
        steps=1000,
        optimizer=EVEN,
        **{**SHARED, "keep_period": 1000},
    )


def _debug(name: str, family: str, *, save_every: int) -> fla.Recipe:
    return recipe(
        name,
        f"{family}: ten steps of a small transformer behind the full vision tower, to see whether training runs",
        "Nothing is downloaded: weights begin anew, and words are hashed. openpi makes up its data; here any will do,",
        "such as that of `fla record planar`.",
        model=f"{family}/dummy",
        model_options={"tokenizer": "words"},
        batch_size=2,
        steps=10,
        save_every=save_every,
        **SHARED,
    )


def recipes() -> Iterator[fla.Recipe]:
    for name, (description, notes, fields) in _ROWS.items():
        named = NAMES[name]
        adapters: Mapping[str, Any] = {}
        if name.endswith("_low_mem_finetune"):
            adapters = {**LORA, "model": f"{named.family}/base_lora", "freeze": frozen_by_lora(named.family)}
        model = {"model": f"{named.family}/base", "model_options": _options(name), "init": base(named.family)}
        yield recipe(name, f"{named.family}: {description}", *notes, **{**SHARED, **model, **adapters, **fields})
    yield from map(_polaris, _POLARIS)
    yield _debug("debug", "pi0", save_every=100)
    yield _debug("debug_pi05", "pi05", save_every=1000)
