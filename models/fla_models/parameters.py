"""Parameters by their `/`-joined paths, which are those of openpi's checkpoints: groups, freezing, in and out."""

from collections.abc import Mapping
from typing import Any

import jax
from flax import nnx

from fla_models.configs import BackboneConfig
from fla_sdk.policy.parameters import check

GROUPS = ("vision", "language", "action_expert", "projections", "lora")


def group(path: str) -> str:
    """The group of `GROUPS` that the parameter at `path` belongs to."""
    parts = path.split("/")
    if "lora" in parts[-1]:
        return "lora"
    if parts[:2] == ["PaliGemma", "img"]:
        return "vision"
    if parts[:2] == ["PaliGemma", "llm"]:
        return "action_expert" if any(part.endswith("_1") for part in parts) else "language"
    return "projections"


def frozen_by_lora(config: BackboneConfig) -> frozenset[str]:
    """Groups that openpi's LoRA configs freeze: each expert with adapters, its adaptive norms included.

    The vision tower and the projections stay trainable.
    """
    names = ("language", "action_expert")
    return frozenset(name for name, expert in zip(names, config.experts, strict=False) if expert.has_lora)


def flatten(model: nnx.Module) -> dict[str, jax.Array]:
    """Path -> array of every parameter, in the order of the paths. Shapes when the model is abstract."""
    flat = nnx.to_flat_state(nnx.state(model, nnx.Param))
    return {"/".join(map(str, path)): variable.get_value() for path, variable in sorted(flat)}


def assign(model: nnx.Module, values: Mapping[str, Any]) -> None:
    """Replace every parameter of `model`, in place. Dtypes become those of `values`.

    Raises `CheckpointError` when a path is missing or unexpected, or a shape differs; then nothing is changed.
    """
    variables = {"/".join(map(str, path)): v for path, v in nnx.to_flat_state(nnx.state(model, nnx.Param))}
    check(values, {path: variable.get_value() for path, variable in variables.items()}, where="this set of parameters")
    flat = [(tuple(path.split("/")), variable.replace(values[path])) for path, variable in variables.items()]
    nnx.update(model, nnx.from_flat_state(flat))
