"""Policies that lerobot trained, behind our server: the actions are those that lerobot computes itself."""

import asyncio
import json
import queue
import shutil
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import pytest

import fla_sdk as fla
from fla_embodiments.planar import PLANAR2
from fla_plugins.lerobot_policies.plugin import find
from fla_plugins.lerobot_policies.policy import LeRobotPolicy
from fla_sdk.client import PolicyClient
from fla_sdk.errors import CheckpointError, ConfigError, FlaError, ObservationError, ServerError
from fla_sdk.evaluation.server_process import server_process
from fla_sdk.policy.interface import PolicyLike
from fla_sdk.policy.opening import open_policy
from fla_sdk.serving.server import PolicyServer

pytestmark = pytest.mark.slow  # importing lerobot alone takes 10 s

REGISTRY = fla.load_plugins()
RNG = np.random.default_rng(1)
MOMENTS: list[dict[str, Any]] = [
    {
        "images/front": RNG.integers(0, 256, (64, 64, 3), np.uint8),
        "state": np.array([0.3, -0.2 - i / 10], np.float32),
        "task": "reach",
    }
    for i in range(3)
]


def _theirs(folder: Path, moments: list[dict[str, Any]]) -> np.ndarray:
    """The chunk `[T, A]` that lerobot executes after `moments`, one by one from the beginning of an episode."""
    import torch
    from lerobot.configs import PreTrainedConfig
    from lerobot.policies import get_policy_class, make_pre_post_processors

    config: Any = PreTrainedConfig.from_pretrained(folder)
    policy: Any = get_policy_class(config.type).from_pretrained(folder, config=config)
    before, after = make_pre_post_processors(config, pretrained_path=str(folder))
    policy.reset()
    executed: list[np.ndarray] = []
    chunk = config.n_action_steps
    for moment in [*moments, *[moments[-1]] * (chunk - 1)]:
        image = torch.tensor(moment["images/front"]).permute(2, 0, 1).float() / 255
        batch = before({"observation.images.front": image, "observation.state": torch.tensor(moment["state"])})
        batch = {key: value for key, value in batch.items() if key.startswith("observation")}
        if len(executed) == 0 and moment is not moments[-1]:
            # Only looked at: an action would begin a chunk too soon.
            policy._queues = _seen(policy, batch)
            continue
        if not executed:
            torch.manual_seed(0)
        executed.append(after(policy.select_action(batch))[0].numpy())
    return np.array(executed)


def _seen(policy: Any, batch: dict[str, Any]) -> Any:
    import torch
    from lerobot.policies.utils import populate_queues

    images = torch.stack([batch[key] for key in policy.config.image_features], dim=-4)
    return populate_queues(policy._queues, {**batch, "observation.images": images})


@contextmanager
def _served(policy: PolicyLike) -> Generator[str, None, None]:
    """The URL of a server in this process: starting another one takes as long as importing lerobot."""
    url: queue.Queue[str] = queue.Queue()
    stop, loop = asyncio.Event(), asyncio.new_event_loop()
    server = PolicyServer(policy, port=0)
    thread = threading.Thread(target=loop.run_until_complete, args=(server.serve_until(stop, ready=url.put),))
    thread.start()
    try:
        yield url.get(timeout=300)
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(60)
        loop.close()


@pytest.mark.parametrize("kind", ["act", "diffusion"])
def test_a_client_gets_the_actions_of_lerobot(policies: Path, kind: str) -> None:
    policy: Any = open_policy(policies / kind, REGISTRY, embodiment="planar2")
    theirs = _theirs(policies / kind, MOMENTS[:1])
    with _served(policy) as url, PolicyClient(url, embodiment="planar2") as client:
        np.testing.assert_allclose(client.infer(MOMENTS[0])["actions"], theirs, rtol=1e-6)
        assert client.horizon == policy.horizon == len(theirs)
        assert client.metadata["policy"] == f"lerobot/{kind}"


def test_a_process_of_its_own_serves_it(policies: Path, tmp_path: Path) -> None:
    # As `lerobot-train` leaves it: checkpoints/last leads to the newest step.
    step = tmp_path / "checkpoints" / "000003"
    shutil.copytree(policies / "act", step / "pretrained_model")
    (tmp_path / "checkpoints" / "last").symlink_to("000003")
    theirs = _theirs(policies / "act", MOMENTS[:1])
    arguments = ("--embodiment", "planar2", "--model-option", "device=cpu")
    with (
        server_process(tmp_path, arguments=arguments) as url,
        PolicyClient(url, embodiment="planar2", infer_timeout_s=120) as client,
    ):
        np.testing.assert_allclose(client.infer(MOMENTS[0])["actions"], theirs, rtol=1e-6)
        with pytest.raises(ServerError, match="planar2: the state must have shape"):
            client.infer({**MOMENTS[0], "state": np.zeros(3, np.float32)})
        np.testing.assert_allclose(client.infer(MOMENTS[0])["actions"], theirs, rtol=1e-6)


def test_the_past_comes_with_the_request(policies: Path) -> None:
    policy = LeRobotPolicy(policies / "diffusion")
    theirs = _theirs(policies / "diffusion", MOMENTS[:2])
    with _served(policy) as url, PolicyClient(url) as client:
        assert client.metadata["history"] == 1
        answer = client.infer({**MOMENTS[1], "history": [MOMENTS[0]]})["actions"]
    np.testing.assert_allclose(answer, theirs, rtol=1e-6)
    # It matters, and nothing of it is remembered.
    fresh = [LeRobotPolicy(policies / "diffusion", robot=PLANAR2) for _ in range(2)]
    alone = fresh[0].infer(MOMENTS[1])["actions"]
    assert np.abs(answer - alone).max() > 1e-4
    np.testing.assert_array_equal(fresh[1].infer({**MOMENTS[1], "history": [MOMENTS[1]]})["actions"], alone)
    with pytest.raises(ObservationError, match="has 2 observations, this policy looks at 1 besides the present"):
        policy.infer({**MOMENTS[2], "history": MOMENTS[:2]})
    with pytest.raises(ObservationError, match="'history' must be a list of earlier observations, got a dict"):
        policy.infer({**MOMENTS[2], "history": MOMENTS[0]})
    with pytest.raises(ObservationError, match="camera 'front' is missing"):
        fresh[0].infer({**MOMENTS[2], "history": [{"state": MOMENTS[0]["state"]}]})


def test_without_a_robot_the_policys_own_names_are_asked_for(policies: Path) -> None:
    policy = LeRobotPolicy(policies / "act")
    image, state = MOMENTS[0]["images/front"], MOMENTS[0]["state"]
    assert (policy.embodiments, policy.default_embodiment) == ({}, None)
    assert policy.metadata["inputs"] == {"observation.images.front": [64, 64, 3], "observation.state": [2]}
    theirs = _theirs(policies / "act", MOMENTS[:1])
    for observation in (
        {"observation.images.front": image, "observation.state": state},
        {"images": {"front": image}, "state": state.tolist()},
        {"observation": {}, "images/front": image.transpose(2, 0, 1), "state": state},
    ):
        np.testing.assert_allclose(policy.infer(observation)["actions"], theirs, rtol=1e-6)
    larger = np.repeat(np.repeat(image, 2, axis=0), 2, axis=1)
    assert policy.infer({"images/front": larger, "state": state})["actions"].shape == (8, 2)
    for observation, reason in (
        ({"state": state}, "'observation.images.front' or 'images/front' is missing; got keys state"),
        ({"images/front": image}, "'observation.state' or 'state' is missing; got keys images/front"),
        ({"images/front": image, "state": state[:1]}, r"'state' must be 2 finite numbers, got shape \(1,\)"),
        ({"images/front": image, "state": state * np.nan}, "float32 with NaN or infinity"),
        ({"images/front": image[..., 0], "state": state}, r"'images/front' must have shape \[height, width, 3\]"),
    ):
        with pytest.raises(ObservationError, match=reason):
            policy.infer(observation)


def test_a_robot_that_it_was_not_trained_for(policies: Path) -> None:
    with pytest.raises(CheckpointError, match=r"does not fit embodiment 'so101_percent'") as caught:
        LeRobotPolicy(policies / "act", robot=REGISTRY.embodiment("so101_percent"))
    for part in (
        "state: 2 numbers in the policy, 6 in so101_percent (shoulder_pan.pos, ",
        "action: 2 numbers in the policy, 6 in so101_percent",
    ):
        assert part in str(caught.value)
    blind = attrs.evolve(PLANAR2, cameras=(fla.Camera("top", slot="base_0_rgb"),))
    with pytest.raises(CheckpointError, match=r"'observation.images.front' in the policy is no camera of planar2.*top"):
        LeRobotPolicy(policies / "act", robot=blind)
    known = attrs.evolve(
        PLANAR2, cameras=(fla.Camera("top", slot="base_0_rgb", aliases=("observation.images.front",)),)
    )
    image, state = MOMENTS[0]["images/front"], MOMENTS[0]["state"]
    actions = LeRobotPolicy(policies / "act", robot=known).infer({"images/top": image, "state": state})["actions"]
    np.testing.assert_allclose(actions, _theirs(policies / "act", MOMENTS[:1]), rtol=1e-6)


def _copy(policies: Path, out: Path, change: Callable[[Path], object]) -> Path:
    shutil.copytree(policies / "act", out)
    change(out)
    return out


def _configure(**fields: Any) -> Callable[[Path], object]:
    def change(folder: Path) -> None:
        file = folder / "config.json"
        file.write_text(json.dumps({**json.loads(file.read_text()), **fields}))

    return change


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (_configure(type="act2"), r"unknown type of lerobot policy 'act2'; did you mean 'act'\?"),
        (_configure(use_peft=True), "holds adapters without their model"),
        (_configure(n_encoder_layers=2), r"cannot open this policy: RuntimeError: .*Missing key"),
        (lambda folder: (folder / "policy_preprocessor.json").unlink(), "migrate_policy_normalization"),
        (lambda folder: (folder / "model.safetensors").write_bytes(b"0" * 20), "lerobot cannot open this policy"),
    ],
)
def test_folders_that_are_damaged(
    policies: Path, tmp_path: Path, change: Callable[[Path], object], reason: str
) -> None:
    with pytest.raises(FlaError, match=f"(?s){reason}"):
        open_policy(_copy(policies, tmp_path / "copy", change), REGISTRY)


def test_options(policies: Path) -> None:
    changed: Any = open_policy(policies / "diffusion", REGISTRY, model_options={"n_action_steps": 2})
    assert changed.horizon == 2
    with pytest.raises(
        FlaError, match="unknown --model-option for a act policy of lerobot's 'n_actions'; did you mean"
    ):
        open_policy(policies / "act", REGISTRY, model_options={"n_actions": 2})
    options: list[dict[str, Any]] = [{"guidance": 1.5}, {"assets": "droid"}]
    for option in options:
        with pytest.raises(ConfigError, match=f"has no use for --{next(iter(option))}"):
            open_policy(policies / "act", REGISTRY, **option)


def test_other_folders_are_left_alone(tmp_path: Path) -> None:
    assert find(tmp_path) is None
    for text in ('{"model_type": "gemma"}', "[1]", "{", '"type input_features output_features"'):
        (tmp_path / "config.json").write_text(text)
        assert find(tmp_path) is None
