"""What lies beside the weights in a lerobot policy's folder: its config, and the processors that keep our units."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from fla_models.configs import Pi0Config, spec
from fla_sdk.embodiment import Embodiment
from fla_sdk.errors import ConfigError
from fla_sdk.normalization import EPSILON, NormStats, Stats

Robot = tuple[Embodiment, NormStats]
Arrays = Mapping[str, np.ndarray[Any, Any]]

TOKENIZER = "google/paligemma-3b-pt-224"
_PREPROCESSOR, _POSTPROCESSOR = "policy_preprocessor", "policy_postprocessor"
_STATE_IN_PROMPT = "pi05_prepare_state_tokenizer_processor_step"
_STATE, _ACTION = "observation.state", "action"
_EPSILON = 1e-8
"""lerobot's own, which matters only where a spread is 0; ours never is."""


def files(config: Pi0Config, robot: Robot | None, *, experts: tuple[str, str]) -> dict[str, str | Arrays]:
    """File name -> text, or arrays for a safetensors file. `experts` are lerobot's names of language model and expert.

    Raises `ConfigError` when the robot's actions need more than lerobot's processors can do.
    """
    features, relative = _features(config, robot), _relative(robot)
    mode = "QUANTILES" if spec(config).normalization == "quantile" else "MEAN_STD"
    policy: dict[str, Any] = {
        "type": "pi05" if config.pi05 else "pi0",
        "input_features": {name: feature for name, feature in features.items() if name != _ACTION},
        "output_features": {_ACTION: features[_ACTION]},
        "normalization_mapping": {"VISUAL": "IDENTITY", "STATE": mode, "ACTION": mode},
        "paligemma_variant": experts[0],
        "action_expert_variant": experts[1],
        "dtype": config.dtype,
        "chunk_size": config.horizon,
        "n_action_steps": config.horizon,
        "max_state_dim": config.action_dim,
        "max_action_dim": config.action_dim,
        "image_resolution": list(config.image_size),
        "tokenizer_max_length": config.max_tokens,
        "time_sampling_beta_alpha": config.time_alpha,
        "use_relative_actions": relative["enabled"],
        "relative_exclude_joints": relative["exclude_joints"],
        "action_feature_names": relative["action_names"],
    }
    statistics = None if robot is None else _statistics(robot, mode)
    out: dict[str, str | Arrays] = {}
    for name, steps in (
        (_PREPROCESSOR, _before(policy, features, relative, state_in_prompt=spec(config).prompt_style == "pi05")),
        (_POSTPROCESSOR, _after(policy, relative)),
    ):
        for place, step in enumerate(steps):
            if statistics is not None and "norm_map" in step["config"]:
                step["state_file"] = f"{name}_step_{place}_{step['registry_name']}.safetensors"
                out[step["state_file"]] = statistics
        out[f"{name}.json"] = json.dumps({"name": name, "steps": steps}, indent=2)
    return out | {"config.json": json.dumps(policy, indent=2), "README.md": _card(policy, robot)}


def _before(
    policy: Mapping[str, Any], features: Mapping[str, Any], relative: Mapping[str, Any], *, state_in_prompt: bool
) -> list[dict[str, Any]]:
    """From a robot's observation to the model's input."""
    # lerobot registers this step with its Pi0, which whoever loads a Pi0.5 need not have imported.
    new_line: dict[str, Any] = {"class": "lerobot.policies.pi0.processor_pi0.Pi0NewLineProcessor", "config": {}}
    return [
        _step("rename_observations_processor", rename_map={}),
        _step("to_batch_processor"),
        _step("relative_actions_processor", **relative),
        _step("normalizer_processor", eps=_EPSILON, features=features, norm_map=policy["normalization_mapping"]),
        _step(_STATE_IN_PROMPT) if state_in_prompt else new_line,
        _step(
            "tokenizer_processor",
            tokenizer_name=TOKENIZER,
            max_length=policy["tokenizer_max_length"],
            task_key="task",
            padding_side="right",
            padding="max_length",
            truncation=True,
        ),
        _step("device_processor", device="cpu", float_dtype=None),
    ]


def _after(policy: Mapping[str, Any], relative: Mapping[str, Any]) -> list[dict[str, Any]]:
    """From the model's output to a robot's actions."""
    features, modes = policy["output_features"], policy["normalization_mapping"]
    return [
        _step("unnormalizer_processor", eps=_EPSILON, features=features, norm_map=modes),
        _step("absolute_actions_processor", enabled=relative["enabled"]),
        _step("device_processor", device="cpu", float_dtype=None),
    ]


def has_state_in_prompt(folder: Path) -> bool:
    """Whether the folder's processors write the state into the prompt; True when it has none."""
    file = folder / f"{_PREPROCESSOR}.json"
    if not file.is_file():
        return True
    return any(step.get("registry_name") == _STATE_IN_PROMPT for step in json.loads(file.read_text())["steps"])


def _step(name: str, **config: Any) -> dict[str, Any]:
    return {"registry_name": name, "config": config}


def _features(config: Pi0Config, robot: Robot | None) -> dict[str, Any]:
    """lerobot's name -> kind and shape of everything that goes in and out. Cameras come in the order of their slots."""
    if robot is None:
        state = action = config.action_dim
        cameras = list(config.image_slots)
    else:
        embodiment = robot[0]
        state, action = embodiment.state.width, embodiment.action.width
        by_slot = {camera.slot: camera.name for camera in embodiment.cameras}
        cameras = [by_slot[slot] for slot in config.image_slots if slot in by_slot]
    return {
        **{f"observation.images.{c}": {"type": "VISUAL", "shape": [3, *config.image_size]} for c in cameras},
        _STATE: {"type": "STATE", "shape": [state]},
        _ACTION: {"type": "ACTION", "shape": [action]},
    }


def _relative(robot: Robot | None) -> dict[str, Any]:
    """Which actions are predicted relative to the state, in lerobot's terms."""
    if robot is None:
        return {"enabled": False, "exclude_joints": [], "action_names": None}
    embodiment = robot[0]
    if embodiment.conversion is not None:
        raise ConfigError(
            f"embodiment {embodiment.name!r} converts its numbers by functions of its own, for which lerobot's "
            "processors have no place: export without a robot, then convert and normalize around the policy"
        )
    places = embodiment.relative_to()
    enabled = bool((places >= 0).any())
    moved = [name for i, (name, j) in enumerate(zip(embodiment.action.names, places, strict=True)) if j not in (-1, i)]
    if moved or (enabled and embodiment.state.width < embodiment.action.width):
        raise ConfigError(
            f"embodiment {embodiment.name!r} predicts {', '.join(moved) or 'actions'} relative to its state; lerobot "
            "can add the state only where both have the same places: state "
            f"({', '.join(embodiment.state.names)}), action ({', '.join(embodiment.action.names)})"
        )
    # lerobot leaves out the names that contain one of the excluded words; a mark of our own cannot hit a wrong one.
    marks = ["relative" if j >= 0 else "as_is" for j in places]
    names = [f"{name}:{mark}" for name, mark in zip(embodiment.action.names, marks, strict=True)]
    return {"enabled": enabled, "exclude_joints": [":as_is"] if enabled else [], "action_names": names}


def _statistics(robot: Robot, mode: str) -> Arrays:
    """Statistics with which lerobot's formulas give our numbers: ours add a small number to every spread."""
    embodiment, stats = robot
    out: dict[str, np.ndarray[Any, Any]] = {}
    for key, space, one in (
        (_STATE, embodiment.state, stats.state),
        (_ACTION, embodiment.action, stats.actions),
    ):
        for name, value in _spread(one, mode, where=f"{embodiment.name}: {key}").items():
            out[f"{key}.{name}"] = value[: space.width].astype(np.float32)
    return out


def _spread(stats: Stats, mode: str, *, where: str) -> Arrays:
    if mode == "MEAN_STD":
        return {"mean": stats.mean, "std": stats.std + EPSILON}
    if stats.q01 is None or stats.q99 is None:
        raise ConfigError(f"{where}: this model needs the 1st and 99th percentile, but the statistics have none")
    return {"q01": stats.q01, "q99": stats.q99 + EPSILON}


_CARD = """\
# {kind} for lerobot

```python
from lerobot.policies import make_pre_post_processors
from lerobot.policies.{kind}.modeling_{kind} import {policy}

policy = {policy}.from_pretrained("<this folder>")
device = {{"device_processor": {{"device": str(policy.config.device)}}}}
before, after = make_pre_post_processors(
    policy.config, pretrained_path="<this folder>", preprocessor_overrides=device
)
actions = after(policy.predict_action_chunk(before({{..., "task": "pick up the cup"}})))
```

{about}

A task is one line of text without underscores. lerobot resizes images a little differently than training did: give
them in the size of the model where that matters.

The weights derive from PaliGemma and are subject to the Gemma Terms of Use, ai.google.dev/gemma/terms.
"""


def _card(policy: Mapping[str, Any], robot: Robot | None) -> str:
    kind = str(policy["type"])
    about = "Without a robot: states and actions are the model's own, normalized."
    if robot is not None:
        embodiment = robot[0]
        about = (
            f"Robot: {embodiment.name}, {embodiment.control_hz:g} actions per second. State: "
            f"{', '.join(embodiment.state.names)}. Action: {', '.join(embodiment.action.names)}. It was trained with "
            f"prompts of the form `{embodiment.prompt}`: give the whole of that text as `task`."
        )
    return _CARD.format(kind=kind, policy=f"{kind.upper()}Policy", about=about)
