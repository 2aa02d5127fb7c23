"""`LeRobotPolicy`: a policy that the lerobot library trained, loaded and run by the library itself."""

import contextlib
import dataclasses
import json
import time
from collections.abc import Generator, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from fla_plugins.lerobot_policies.inputs import Features, Inputs
from fla_sdk.embodiment import Embodiment
from fla_sdk.errors import CheckpointError, ConfigError, ObservationError, UnknownNameError

WORDLESS = ("act", "diffusion", "tdmpc", "vqbet")
"""Types of policies that never read the task."""

_HISTORY = "history"


class LeRobotPolicy:
    """Answers with whole chunks, from the library's processors and `predict_action_chunk`.

    Nothing is kept from one request to the next. What a policy wants to see of the past travels with the request, as
    `history`: earlier observations, one control step apart, the oldest first. What is not told of the past is taken to
    have been as the oldest that is, which is what lerobot does at the beginning of an episode.
    """

    def __init__(
        self, folder: Path, *, robot: Embodiment | None = None, changes: Mapping[str, Any] | None = None, seed: int = 0
    ) -> None:
        """`changes` are fields of the policy's config, such as `device`. Fresh policies of one seed answer alike.

        Raises `CheckpointError` when the files are damaged, made for another robot, or of a policy without chunks.
        """
        torch = _torch(folder)
        from lerobot.policies import get_policy_class, make_pre_post_processors

        config = _config(folder, changes or {})
        with _explained(folder):
            policy: Any = get_policy_class(config.type).from_pretrained(folder, config=config, strict=True)
            self._before, self._after = make_pre_post_processors(
                config,
                pretrained_path=str(folder),
                preprocessor_overrides={"device_processor": {"device": config.device}},
            )
        self._policy, self._torch, self._device = policy, torch, torch.device(config.device)
        self._robot_type = "" if robot is None else robot.name
        self._past: int = config.n_obs_steps - 1
        self._seed, self._answered = seed, 0
        features = _features(config, where=folder)
        self._inputs = Inputs(features, robot, needs_task=config.type not in WORDLESS, where=str(folder))
        self.embodiments = {} if robot is None else {robot.name: robot}
        self.default_embodiment = None if robot is None else robot.name
        self.horizon = self._try(features, where=folder)
        self.metadata: dict[str, Any] = {
            "policy": f"lerobot/{config.type}",
            "inputs": {key: list(array.shape) for key, array in features.example().items()},
            _HISTORY: self._past,
        }

    def infer(self, observation: Mapping[str, Any]) -> dict[str, Any]:
        """`actions` `[T, A]` in the units that the policy was trained on, and `policy_timing`.

        Raises `ObservationError` with both sides.
        """
        begun = time.perf_counter()
        now, task = self._inputs.read(observation)
        earlier = [self._inputs.read({"task": task, **moment})[0] for moment in self._history(observation)]
        actions = self._chunk([*earlier, now], task)[0]
        self._answered += 1
        return {"actions": actions, "policy_timing": {"infer_ms": (time.perf_counter() - begun) * 1000}}

    def _history(self, observation: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
        told: Any = observation.get(_HISTORY, ())
        if not isinstance(told, (list, tuple)) or not all(isinstance(one, Mapping) for one in cast("list[Any]", told)):
            raise ObservationError(f"{_HISTORY!r} must be a list of earlier observations, got a {type(told).__name__}")
        history = cast("Sequence[Mapping[str, Any]]", told)
        if len(history) > self._past:
            raise ObservationError(
                f"{_HISTORY!r} has {len(history)} observations, this policy looks at {self._past} besides the present"
            )
        return history

    def _chunk(self, moments: Sequence[Mapping[str, NDArray[Any]]], task: str) -> NDArray[np.float32]:
        """`[1, T, A]`, seen from the last of `moments`."""
        from lerobot.policies.utils import prepare_observation_for_inference

        torch, policy = self._torch, self._policy
        devices = [self._device] if self._device.type == "cuda" else []
        with (
            torch.inference_mode(),
            torch.random.fork_rng(devices),
            torch.autocast(self._device.type, enabled=policy.config.use_amp),
        ):
            torch.manual_seed(self._seed + self._answered)
            for part in (policy, self._before, self._after):
                part.reset()
            batch: Any = {}
            for moment in moments:
                own = {key: array.copy() for key, array in moment.items()}  # those of a message are read-only
                seen = prepare_observation_for_inference(own, self._device, task, self._robot_type)
                batch = self._remember(self._before(seen))
            chunk = self._after(policy.predict_action_chunk(batch))
        return chunk.float().cpu().numpy()

    def _remember(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Put an observation where the policy looks for the past: `select_action` would, but gives no chunk."""
        from lerobot.policies.utils import populate_queues
        from lerobot.utils.constants import ACTION, OBS_IMAGES

        batch = {key: value for key, value in batch.items() if key != ACTION}  # the processors leave an empty one
        queues: dict[str, Any] = getattr(self._policy, "_queues", None) or {}
        if OBS_IMAGES in queues:
            images = [batch[key] for key in self._policy.config.image_features]
            batch[OBS_IMAGES] = self._torch.stack(images, dim=-4)
        populate_queues(queues, batch)
        return batch

    def _try(self, features: Features, *, where: Path) -> int:
        """Actions per answer, by asking once. Not every policy of lerobot's can answer with a chunk."""
        try:
            shape = self._chunk([features.example()], "do something").shape
        except Exception as error:
            raise CheckpointError(
                f"{where}: a {self._policy.config.type} policy of lerobot's that gives no chunks of actions: "
                f"{type(error).__name__}: {error}"
            ) from error
        if len(shape) != 3 or shape[0] != 1 or shape[2] != features.action:
            raise CheckpointError(
                f"{where}: a {self._policy.config.type} policy of lerobot's gives arrays of shape {list(shape)}, "
                f"expected a chunk [1, T, {features.action}]"
            )
        return shape[1]


def _torch(folder: Path) -> Any:
    try:
        import lerobot.policies  # noqa: F401  # registers the types of policies
        import torch
        from lerobot.utils.import_utils import register_third_party_plugins
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"{folder} is a policy of lerobot's, which its library runs (no module {error.name}): "
            'pip install "fla-sdk[lerobot]"'
        ) from error
    register_third_party_plugins()
    return torch


def _config(folder: Path, changes: Mapping[str, Any]) -> Any:
    from lerobot.configs import PreTrainedConfig

    kind, known = json.loads((folder / "config.json").read_text())["type"], PreTrainedConfig.get_known_choices()
    if kind not in known:
        raise UnknownNameError("type of lerobot policy", str(kind), known)
    fields = [field.name for field in dataclasses.fields(known[kind])]
    for name in changes:
        if name not in fields:
            raise UnknownNameError(f"--model-option for a {kind} policy of lerobot's", name, fields)
    told = [f"--{name}={value if isinstance(value, str) else json.dumps(value)}" for name, value in changes.items()]
    with _explained(folder):
        config: Any = PreTrainedConfig.from_pretrained(folder, cli_overrides=told)
    if config.use_peft or (folder / "adapter_config.json").exists():
        raise CheckpointError(f"{folder} holds adapters without their model: merge them with lerobot, and serve that")
    if not (folder / "policy_preprocessor.json").exists():
        raise CheckpointError(
            f"{folder} has no policy_preprocessor.json, as versions of lerobot before its processors wrote it. Convert "
            f"it: python -m lerobot.processor.migrate_policy_normalization --pretrained-path {folder}"
        )
    if hasattr(config, "pretrained_backbone_weights"):
        config.pretrained_backbone_weights = None  # the checkpoint has its own: lerobot would fetch them for nothing
    return config


def _features(config: Any, *, where: Path) -> Features:
    inputs: Mapping[str, Any] = {key: one for key, one in config.input_features.items() if one.type.name != "ACTION"}
    images = {key: tuple(one.shape) for key, one in inputs.items() if one.type.name == "VISUAL"}
    vectors = {key: tuple(one.shape) for key, one in inputs.items() if one.type.name in ("STATE", "ENV")}
    strange = [f"{key} {list(shape)}" for key, shape in images.items() if len(shape) != 3 or shape[0] != 3]
    strange += [f"{key} {list(shape)}" for key, shape in vectors.items() if len(shape) != 1]
    if strange or config.action_feature is None:
        raise CheckpointError(
            f"{where}: a policy of lerobot's is served when it looks at pictures [3, height, width] and vectors, and "
            f"answers with 'action'; this one has {', '.join(strange) or 'no action'}"
        )
    return Features(
        images={key: (shape[1], shape[2]) for key, shape in images.items()},
        vectors={key: shape[0] for key, shape in vectors.items()},
        action=config.action_feature.shape[0],
    )


@contextlib.contextmanager
def _explained(folder: Path) -> Generator[None, None, None]:
    """What lerobot raises, or how it ends the process, as an error with the place."""
    try:
        yield
    except (Exception, SystemExit) as error:
        raise CheckpointError(f"{folder}: lerobot cannot open this policy: {type(error).__name__}: {error}") from error
