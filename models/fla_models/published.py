"""Weights that Physical Intelligence published, and the configs of openpi that checkpoints are named after.

Their shapes show neither the horizon nor what is in the prompt; their names do.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs

from fla_sdk.records import Published

_OPENPI = "gs://openpi-assets/checkpoints/"
_PALIGEMMA = Published(
    uri="gs://vertex-model-garden-paligemma-us/paligemma/pt_224.npz",
    variant="base",
    groups=("vision", "language"),
    unfit="it has never seen actions",
)
NOTICE = (
    "Contains weights derived from Gemma and PaliGemma. Gemma is provided under and subject to the Gemma Terms of Use "
    "found at ai.google.dev/gemma/terms."
)

_STEPS_LESS_STATE = (
    "it learned LIBERO's steps with the state subtracted (openpi's extra_delta_transform), which no embodiment "
    "describes; pi05_libero has no such quirk"
)
_ABSOLUTE_AND_FLIPPED = (
    "it predicts ALOHA's joints as positions, in the convention of the base models; embodiment aloha predicts them "
    "relative to the state, aloha_sim in ALOHA's own convention"
)

# openpi shows Pi0-FAST a black image for the camera that the robot has not, unmasked.
_DROID: Mapping[str, Any] = {"black_slots": ("base_1_rgb",)}
_LIBERO: Mapping[str, Any] = {"black_slots": ("right_wrist_0_rgb",)}


@attrs.frozen
class Named:
    """What a name of openpi stands for."""

    family: str
    options: Mapping[str, Any] = attrs.field(factory=dict[str, Any])
    unfit: str = ""
    public: bool = False
    """openpi publishes weights of this name."""


NAMES: Mapping[str, Named] = {
    "pi0_base": Named("pi0", public=True),
    "pi0_aloha": Named("pi0"),
    "pi0_aloha_towel": Named("pi0", public=True),
    "pi0_aloha_tupperware": Named("pi0", public=True),
    "pi0_aloha_pen_uncap": Named("pi0", public=True),
    "pi0_aloha_sim": Named("pi0", unfit=_ABSOLUTE_AND_FLIPPED, public=True),
    "pi0_droid": Named("pi0", {"horizon": 10}, public=True),
    "pi0_droid_jointpos_polaris": Named("pi0", {"horizon": 10, "max_tokens": 100}),
    "pi0_droid_jointpos_100k_polaris": Named("pi0", {"horizon": 10, "max_tokens": 100}),
    "pi0_libero": Named("pi0", unfit=_STEPS_LESS_STATE, public=True),
    "pi0_libero_low_mem_finetune": Named("pi0", unfit=_STEPS_LESS_STATE),
    "pi05_base": Named("pi05", public=True),
    "pi05_aloha": Named("pi05"),
    "pi05_aloha_pen_uncap": Named("pi05"),
    "pi05_droid": Named("pi05", {"horizon": 15}, public=True),
    "pi05_droid_finetune": Named("pi05", {"horizon": 16}),
    "pi05_full_droid_finetune": Named("pi05", {"horizon": 16}),
    "pi05_droid_jointpos_polaris": Named("pi05", {"horizon": 15}),
    "pi05_libero": Named("pi05", {"horizon": 10, "state_in_prompt": False}, public=True),
    "pi0_fast_base": Named("pi0_fast", public=True),
    "pi0_fast_droid": Named("pi0_fast", {"action_dim": 8, "horizon": 10, **_DROID}, public=True),
    "pi0_fast_droid_jointpos_polaris": Named("pi0_fast", {"action_dim": 8, "horizon": 10, "max_tokens": 180, **_DROID}),
    "pi0_fast_full_droid_finetune": Named("pi0_fast", {"action_dim": 8, "horizon": 16, "max_tokens": 180, **_DROID}),
    "pi0_fast_libero": Named(
        "pi0_fast", {"action_dim": 7, "horizon": 10, "max_tokens": 180, **_LIBERO}, unfit=_STEPS_LESS_STATE, public=True
    ),
    "pi0_fast_libero_low_mem_finetune": Named(
        "pi0_fast", {"action_dim": 7, "horizon": 10, "max_tokens": 180, **_LIBERO}, unfit=_STEPS_LESS_STATE
    ),
}
"""Name -> family, and what differs from its variant `base`."""


def published(family: str) -> tuple[Published, ...]:
    """The weights that anyone can fetch for one family; none when nobody published any for it."""
    named = [(name, one) for name, one in NAMES.items() if one.family == family and one.public]
    own = [Published(uri=f"{_OPENPI}{n}", variant="base", options=one.options, unfit=one.unfit) for n, one in named]
    return (*own, _PALIGEMMA) if own else ()


def named_after(folder: Path) -> tuple[str, Named] | None:
    """The name that a checkpoint's folder, or one of those around it, has: `<config>/<experiment>/<step>`."""
    for part in (folder, *folder.parents)[:4]:
        if (named := NAMES.get(part.name)) is not None:
            return part.name, named
    return None
