"""`Policy`: what it answers, and what is wrong with a checkpoint that it cannot load."""

import itertools
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fla_sdk.errors import CheckpointError, ObservationError, StatsError, UnknownNameError
from fla_sdk.policy import checkpoint
from fla_sdk.policy.batching import bucket, buckets
from fla_sdk.policy.interface import Request
from fla_sdk.policy.policy import Policy


@pytest.fixture
def copy(trained: Path, tmp_path: Path) -> Path:
    """A copy of the newest checkpoint, to be damaged."""
    return shutil.copytree(checkpoint.find(trained), tmp_path / "40")


@pytest.fixture(scope="module")
def policy(trained: Path, registry: Any) -> Policy:
    return Policy.load(trained, plugins=registry)


def _edit(folder: Path, change: Callable[[dict[str, Any]], None]) -> None:
    tree = json.loads((folder / "fla.json").read_text())
    change(tree)
    (folder / "fla.json").write_text(json.dumps(tree))


def _observation(policy: Policy, name: str = "planar2") -> dict[str, Any]:
    return {**policy.codecs[name].embodiment.example_observation(), "embodiment": name}


# --- Answers ----------------------------------------------------------------------------------------------------------


def test_every_embodiment_of_the_checkpoint_is_answered(policy: Policy) -> None:
    assert policy.metadata == {"default_embodiment": "planar2"}
    for name, width in (("planar2", 2), ("planar3", 3)):
        actions = policy.infer(_observation(policy, name))["actions"]
        assert (actions.shape, actions.dtype) == ((8, width), np.float32)
        assert np.isfinite(actions).all()


def test_answers_depend_on_the_seed_alone(trained: Path, registry: Any, policy: Policy) -> None:
    first, second, other = (Policy.load(trained, plugins=registry, seed=seed) for seed in (3, 3, 4))
    second.warm_up()  # must not shift the stream of random numbers
    observation = _observation(policy)
    answers = [first.infer(observation)["actions"] for _ in range(2)]
    np.testing.assert_array_equal(second.infer(observation)["actions"], answers[0])
    np.testing.assert_array_equal(second.infer(observation)["actions"], answers[1])
    assert not np.array_equal(answers[0], answers[1])
    assert not np.array_equal(answers[0], other.infer(observation)["actions"])


def test_given_noise_replaces_the_random_start(policy: Policy) -> None:
    noise = np.random.default_rng(0).standard_normal((8, 8)).astype(np.float32)
    observation = _observation(policy)
    one, two = (policy.infer(observation, noise=noise)["actions"] for _ in range(2))
    np.testing.assert_array_equal(one, two)
    assert not np.array_equal(one, policy.infer(observation, noise=-noise)["actions"])


def test_a_chunk_continues_what_is_left_of_the_last_one(policy: Policy) -> None:
    observation, noise = _observation(policy), np.random.default_rng(0).standard_normal((2, 8, 8)).astype(np.float32)
    rest = policy.infer(observation, noise=noise[0])["actions"][3:]
    free = policy.infer(observation, noise=noise[1])["actions"]
    bound = policy.infer(observation, noise=noise[1], rest=rest, delay=2)["actions"]
    assert np.abs(bound[:2] - rest[:2]).mean() < 0.5 * np.abs(free[:2] - rest[:2]).mean()
    with pytest.raises(ObservationError, match="a delay of 4 steps does not fit a chunk of 8 of which 5 are left"):
        policy.infer(observation, rest=rest, delay=4)


def test_guidance_asks_for_a_good_advantage(trained: Path, registry: Any, policy: Policy) -> None:
    observation, noise = _observation(policy), np.ones((8, 8), np.float32)
    answers = [policy.infer(observation, noise=noise)["actions"]]
    for guidance in (1.0, 2.0):
        guided = Policy.load(trained, plugins=registry, guidance=guidance)
        answers.append(guided.infer(observation, noise=noise)["actions"])
    assert all(np.abs(a - b).max() > 1e-6 for a, b in itertools.pairwise(answers))


# --- Several robots at once ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def pair(trained: Path, registry: Any) -> Policy:
    """Answers two robots at once."""
    policy = Policy.load(trained, plugins=registry)
    policy.max_batch = 2
    return policy


def _noise(count: int) -> Any:
    return np.random.default_rng(1).standard_normal((count, 8, 8)).astype(np.float32)


def test_robots_of_any_embodiment_are_answered_together(pair: Policy) -> None:
    names, noise = ["planar2", "planar3", "planar3"], _noise(3)
    observations = [
        {**pair.codecs[name].embodiment.example_observation(seed), "embodiment": name}
        for seed, name in enumerate(names)
    ]
    together = pair.infer_many([Request(observation=one) for one in observations], noise=noise)
    for one, drawn, answer in zip(observations, noise, together, strict=True):
        assert isinstance(answer, dict)
        np.testing.assert_allclose(answer["actions"], pair.infer(one, noise=drawn)["actions"], atol=1e-4)


def test_requests_of_all_kinds_and_wrong_ones_do_not_disturb_each_other(pair: Policy) -> None:
    good, noise = _observation(pair), _noise(4)
    rest = pair.infer(good, noise=noise[0])["actions"][3:]
    asked: list[dict[str, Any]] = [{}, {"rest": rest, "delay": 2}, {"rest": rest, "delay": 9}]
    requests = [*(Request(observation=good, **one) for one in asked), Request(observation={"embodiment": "planar4"})]
    answers = pair.infer_many([requests[0], pair.prepare(requests[1]), *requests[2:]], noise=noise)
    for one, drawn, answer in zip(asked[:2], noise, answers, strict=False):
        assert isinstance(answer, dict)
        np.testing.assert_allclose(answer["actions"], pair.infer(good, noise=drawn, **one)["actions"], atol=1e-4)
    assert [str(one)[:20] for one in answers[2:]] == ["a delay of 9 steps d", "unknown embodiment f"]


def test_nothing_is_compiled_after_warming_up(trained: Path, registry: Any) -> None:
    policy, told = Policy.load(trained, plugins=registry), list[str]()
    policy.warm_up(max_batch=2, progress=told.append)
    assert told[0].startswith(f"compiling 1 of {len(told)}: one robot, 1 cameras, prompts of ")
    assert "2 robots at once" in told[-1] and told[-1].endswith("continuing chunks")
    programs = policy._sample._cache_size()  # type: ignore[attr-defined]
    for count in (1, 2, 3):
        for rest in (None, np.zeros((2, 2), np.float32)):
            answers = policy.infer_many([Request(observation=_observation(policy), rest=rest)] * count)
            assert all(isinstance(one, dict) for one in answers)
    mixed = policy.infer_many([Request(observation=_observation(policy, name)) for name in ("planar2", "planar3")])
    assert [one["actions"].shape for one in mixed if isinstance(one, dict)] == [(8, 2), (8, 3)]
    assert policy._sample._cache_size() == programs == len(told)  # type: ignore[attr-defined]


def test_guidance_of_a_request_is_that_of_a_policy(trained: Path, registry: Any) -> None:
    with_one, with_two = (Policy.load(trained, plugins=registry, guidance=weight) for weight in (1.0, 2.0))
    observation, noise = _observation(with_one), np.ones((8, 8), np.float32)
    asked = with_one.infer(observation, noise=noise, guidance=2.0)["actions"]
    np.testing.assert_array_equal(asked, with_two.infer(observation, noise=noise)["actions"])
    assert np.abs(asked - with_one.infer(observation, noise=noise)["actions"]).max() > 1e-6


def test_a_weight_needs_a_policy_with_guidance(policy: Policy) -> None:
    with pytest.raises(ObservationError, match="this policy has no guidance: serve a model that was trained with adv"):
        policy.infer(_observation(policy), guidance=2.0)


@given(st.integers(1, 40), st.integers(1, 40))
def test_batches_are_padded_to_few_sizes(most: int, count: int) -> None:
    sizes = buckets(most)
    assert sizes[0] == 1 and sizes[-1] == most and len(sizes) <= most.bit_length() + 1
    if count <= most:
        assert count <= bucket(count, most) < 2 * count


# --- Wrong observations ----------------------------------------------------------------------------------------------


def test_a_wrong_observation_is_refused_and_the_policy_goes_on(policy: Policy) -> None:
    good = _observation(policy)
    for change, reason in (
        ({"state": np.zeros(3, np.float32)}, r"state must have shape \(2,\) for joint1, joint2; got shape \(3,\)"),
        ({"state": np.array(["a", "b"])}, "state must be numbers"),
        ({"state": np.array([0, np.nan])}, "not finite in joint2"),
        ({"images/front": np.zeros((4, 4), np.uint8)}, "camera 'front'"),
        ({"embodiment": "planar4"}, "unknown embodiment for this checkpoint 'planar4'; did you mean 'planar"),
    ):
        with pytest.raises(ObservationError, match=reason):
            policy.infer(good | change)
    without_image = {key: value for key, value in good.items() if key != "images/front"}
    with pytest.raises(ObservationError, match="camera 'front' is missing"):
        policy.infer(without_image)
    assert policy.infer(good)["actions"].shape == (8, 2)


# --- Checkpoints that cannot be loaded --------------------------------------------------------------------------------


def test_a_path_that_does_not_exist(registry: Any, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="the path does not exist"):
        Policy.load(tmp_path / "nowhere", plugins=registry)


def test_a_folder_that_is_no_checkpoint(registry: Any, tmp_path: Path) -> None:
    (tmp_path / "holiday.txt").write_text("sun")
    with pytest.raises(CheckpointError, match=r"expected a folder with params/.*it has holiday\.txt"):
        Policy.load(tmp_path, plugins=registry)


def test_parameters_without_a_manifest(registry: Any, copy: Path) -> None:
    (copy / "fla.json").unlink()
    with pytest.raises(CheckpointError, match=r"has no fla\.json"):
        Policy.load(copy, plugins=registry)


def _largest(folder: Path) -> Path:
    return max((file for file in folder.rglob("*") if file.is_file()), key=lambda file: file.stat().st_size)


def test_a_parameter_file_that_was_cut_short_or_lost(registry: Any, copy: Path) -> None:
    largest = _largest(copy / "params")
    content = largest.read_bytes()
    largest.write_bytes(content[: len(content) // 2])
    with pytest.raises(
        CheckpointError,
        match=rf"{largest} has {len(content) // 2:,} bytes, {len(content):,} were written: copy the checkpoint again",
    ):
        Policy.load(copy, plugins=registry)
    largest.unlink()
    with pytest.raises(CheckpointError, match=rf"{largest} is missing, of {len(content):,} bytes"):
        Policy.load(copy, plugins=registry)


def test_a_damaged_parameter_file(copy: Path) -> None:
    """In a process of its own: Orbax leaves reads behind that fail later."""
    largest = _largest(copy / "params")
    largest.write_bytes(bytes(largest.stat().st_size))
    command = [sys.executable, "-m", "fla_sdk.cli", "serve", str(copy), "--port", "0"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 1
    assert f"fla: error: {copy / 'params'} cannot be read: " in done.stderr


@pytest.mark.parametrize("content", [b'{"family": "pi05", ', b"[]", b"\xff\xfe\x00", b""])
def test_a_damaged_manifest(registry: Any, copy: Path, content: bytes) -> None:
    (copy / "fla.json").write_bytes(content)
    with pytest.raises(CheckpointError, match=r"fla\.json is damaged"):
        Policy.load(copy, plugins=registry)


def test_a_manifest_of_a_newer_version(registry: Any, copy: Path) -> None:
    _edit(copy, lambda tree: tree.update(format=99))
    with pytest.raises(CheckpointError, match="has format 99, this version of fla-sdk reads 1"):
        Policy.load(copy, plugins=registry)


def test_a_checkpoint_made_for_another_model(registry: Any, copy: Path) -> None:
    _edit(copy, lambda tree: tree["model"].update(action_dim=9))
    with pytest.raises(CheckpointError, match="was made for another model") as caught:
        Policy.load(copy, plugins=registry)
    assert "action_in_proj/kernel: (8, 16) in the checkpoint, (9, 16) in the model" in str(caught.value)


def test_an_embodiment_that_changed_since_training(registry: Any, copy: Path) -> None:
    _edit(copy, lambda tree: tree["embodiments"]["planar3"].update(control_hz=25))
    with pytest.raises(CheckpointError, match="control_hz: trained 25, installed 10"):
        Policy.load(copy, plugins=registry)


def test_an_embodiment_that_is_not_installed(registry: Any, copy: Path) -> None:
    _edit(copy, lambda tree: tree["embodiments"].update(planer3=tree["embodiments"].pop("planar3")))
    with pytest.raises(UnknownNameError, match="unknown embodiment 'planer3'; did you mean 'planar3'"):
        Policy.load(copy, plugins=registry)


def test_missing_and_damaged_statistics(registry: Any, copy: Path) -> None:
    file = copy / "assets" / "planar3" / "norm_stats.json"
    file.write_text("{}")
    with pytest.raises(StatsError, match=r"planar3/norm_stats\.json is not a statistics file"):
        Policy.load(copy, plugins=registry)
    file.unlink()
    with pytest.raises(StatsError, match=r"no statistics at .*planar3/norm_stats\.json"):
        Policy.load(copy, plugins=registry)


def test_a_default_embodiment_that_was_not_trained(registry: Any, trained: Path) -> None:
    with pytest.raises(UnknownNameError, match=r"embodiment of checkpoint .* 'aloha'.*known: planar2, planar3"):
        Policy.load(trained, plugins=registry, embodiment="aloha")
