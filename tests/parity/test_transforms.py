"""Normalization, relative actions, padding and the first robots against the reference.

float64 results agree to 1e-12, float32 ones to 1e-6, as the notes of the golden files ask; dtypes are equal. Ours does
not thin out actions (`subsample_*`) or rename the keys of trees.
"""

import itertools
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
import pytest

from fla_embodiments import aloha, droid, libero
from fla_sdk import transforms
from fla_sdk.client.chunk import ChunkExecutor
from fla_sdk.codec import Codec
from fla_sdk.embodiment import Camera, Embodiment
from fla_sdk.model import ModelSpec
from fla_sdk.normalization import NormStats, Stats, normalize, unnormalize
from fla_sdk.space import Field, Space, joints
from fla_sdk.testing import CharacterTokenizer

SLOTS = ("base_0_rgb", "left_wrist_0_rgb", "right_wrist_0_rgb")
KEYS = ("state", "actions")


class Case(NamedTuple):
    """One case of `transforms.npz`; keys are what follows `<case>/`."""

    name: str
    arrays: dict[str, Any]

    def stats(self, key: str) -> Stats:
        return Stats(**{k: self.arrays[f"stats/{key}/{k}"] for k in ("mean", "std", "q01", "q99")})

    @property
    def observation(self) -> dict[str, Any]:
        inputs = {k.removeprefix("in/"): v for k, v in self.arrays.items() if k.startswith("in/")}
        return {**inputs, "task": "do it"}


@pytest.fixture(scope="module")
def arrays(golden: Any) -> Any:
    return golden.npz("transforms")


def cases(arrays: Any, prefix: str) -> Iterator[Case]:
    for name in sorted({key.split("/")[0] for key in arrays if key.startswith(prefix)}) or arrays.lacks(prefix):
        yield Case(name, {k.removeprefix(name + "/"): v for k, v in arrays.items() if k.startswith(name + "/")})


def same(actual: Any, expected: Any, what: str) -> None:
    """Equal dtype and shape, and values as close as rounding in that dtype allows."""
    assert actual.dtype == expected.dtype, f"{what}: {actual.dtype}, golden {expected.dtype}"
    close(actual, expected, 1e-12 if expected.dtype == np.float64 else 1e-6, what)


def close(actual: Any, expected: Any, within: float, what: str) -> None:
    assert actual.shape == expected.shape, f"{what}: {actual.shape}, golden {expected.shape}"
    np.testing.assert_allclose(actual, expected, rtol=within, atol=within, err_msg=what)


def same_images(embodiment: Embodiment, case: Case, outputs: str) -> None:
    """Images reach the reference's slots unchanged; where the reference masks zeros, ours are absent."""
    sample = embodiment.observe(case.observation)
    masks = {s: bool(case.arrays[f"{outputs}/image_mask/{s}"]) for s in SLOTS}
    size = case.arrays[f"{outputs}/image/{SLOTS[0]}"].shape[:2]
    inputs = codec(embodiment, image_size=size).encode(sample)
    assert set(inputs.images) == {s for s, present in masks.items() if present}, case.name
    for slot, image in inputs.images.items():
        np.testing.assert_array_equal(image, case.arrays[f"{outputs}/image/{slot}"], err_msg=f"{case.name} {slot}")


def unit_stats(width: int) -> Stats:
    """Statistics that change nothing: 0.999999 and the epsilon of the z-score are 1."""
    return Stats(mean=np.zeros(width), std=np.full(width, 1 - 1e-6))


def codec(embodiment: Embodiment, *, stats: NormStats | None = None, **changes: Any) -> Codec:
    spec = ModelSpec(**{"image_slots": SLOTS, "normalization": "zscore", "max_tokens": 400, **changes})
    unit = NormStats(state=unit_stats(embodiment.state.width), actions=unit_stats(embodiment.action.width))
    return Codec(embodiment=embodiment, spec=spec, stats=stats or unit, tokenizer=CharacterTokenizer())


@pytest.mark.parametrize("function", [normalize, unnormalize])
def test_normalization(arrays: Any, function: Any) -> None:
    for case in cases(arrays, f"{function.__name__}_"):
        kind = "zscore" if "zscore" in case.name else "quantile"
        for key in KEYS:
            if f"stats/{key}/mean" in case.arrays:
                result = function(case.arrays[f"in/{key}"], case.stats(key), kind)
            else:  # a key without statistics passes through
                result = case.arrays[f"in/{key}"]
            same(result, case.arrays[f"out/{key}"], f"{case.name} {key}")


@pytest.mark.parametrize(("prefix", "function"), [("delta_", transforms.relative), ("absolute_", transforms.absolute)])
def test_relative_actions(arrays: Any, prefix: str, function: Any) -> None:
    for case in cases(arrays, prefix):
        actions, state, mask = case.arrays["in/actions"], case.arrays["in/state"], case.arrays["mask"]
        index = np.full(actions.shape[-1], -1)
        index[: len(mask)] = np.where(mask, np.arange(len(mask)), -1)
        same(function(actions, state, index), case.arrays["out/actions"], case.name)


def test_padding(arrays: Any) -> None:
    for case in cases(arrays, "pad_"):
        if "to_dim" in case.name:  # another axis and another value: nothing of ours needs them
            continue
        width = int(case.name.split("_")[1])
        for key in KEYS:
            same(transforms.pad(case.arrays[f"in/{key}"], width), case.arrays[f"out/{key}"], f"{case.name} {key}")


def test_aloha_inputs(arrays: Any) -> None:
    for case in cases(arrays, "aloha_inputs_adapt"):
        robot = aloha.ALOHA if "adapt1" in case.name else aloha.ALOHA_NATIVE
        same_images(robot, case, "out")
        state, actions = robot.observe(case.observation).state, case.arrays.get("in/actions")
        if robot.conversion is not None:
            state = robot.conversion.state_to_model(state)
            actions = None if actions is None else robot.conversion.actions_to_model(actions)
        same(state, case.arrays["out/state"], f"{case.name} state")
        if actions is not None:
            same(actions, case.arrays["out/actions"], f"{case.name} actions")


def test_aloha_outputs(arrays: Any) -> None:
    for case in cases(arrays, "aloha_outputs_adapt"):
        robot = aloha.ALOHA if "adapt1" in case.name else aloha.ALOHA_NATIVE
        actions = case.arrays["in/actions"][..., : robot.action.width]
        if robot.conversion is not None:
            actions = robot.conversion.actions_from_model(actions)
        same(actions, case.arrays["out/actions"], case.name)


def test_aloha_gripper_geometry(arrays: Any) -> None:
    (case,) = cases(arrays, "aloha_gripper")
    x = case.arrays["x"]
    same(aloha.opening_to_angle(x), case.arrays["to_angular"], "state")
    same(aloha.angle_to_command(x), case.arrays["from_angular"], "model output")
    same(aloha.command_to_angle(x), case.arrays["from_angular_inv"], "actions")
    np.testing.assert_array_equal(aloha.SIGNS, arrays["aloha_joint_flip_mask"])


@pytest.mark.parametrize("robot", [droid.DROID, libero.LIBERO], ids=lambda robot: robot.name)
@pytest.mark.parametrize("model", ["pi0", "pi05"])
def test_franka_inputs(arrays: Any, robot: Embodiment, model: str) -> None:
    for layout in ("hwc_uint8", "chw_float"):
        (case,) = cases(arrays, f"{robot.name}_inputs_{model}_{layout}")
        same_images(robot, case, "out")
        same(robot.observe(case.observation).state, case.arrays["out/state"], f"{case.name} state")
        assert robot.conversion is None
        np.testing.assert_array_equal(case.arrays["in/actions"], case.arrays["out/actions"], err_msg=case.name)


@pytest.mark.parametrize("robot", [droid.DROID, libero.LIBERO], ids=lambda robot: robot.name)
def test_franka_outputs(arrays: Any, robot: Embodiment) -> None:
    (case,) = cases(arrays, f"{robot.name}_outputs")
    actions = case.arrays["in/actions"]
    decoded = codec(robot, action_dim=actions.shape[-1]).decode(actions, np.zeros(robot.state.width))
    close(decoded, case.arrays["out/actions"], 1e-6, case.name)


@pytest.mark.parametrize("kind", ["zscore", "quantile"])
def test_aloha_through_the_codec(arrays: Any, kind: str) -> None:
    """Conversion, relative actions, normalization and padding in one go, and back.

    The codec rounds to float32 at its end, where the reference is still in float64: 1e-6 on what it encodes. What it
    decodes stays in float64; the reference takes its state through normalization and back: 1e-9.
    """
    (case,) = cases(arrays, f"aloha_chain_{kind}")
    same_images(aloha.ALOHA, case, "model_inputs")
    state, actions = case.arrays["model_inputs/state"], case.arrays["model_inputs/actions"]
    chain = codec(
        aloha.ALOHA,
        stats=NormStats(state=case.stats("state"), actions=case.stats("actions")),
        normalization=kind,
        action_dim=state.shape[-1],
        horizon=len(actions),
    )
    sample = aloha.ALOHA.observe(case.observation)
    close(chain.encode(sample).state, state, 1e-6, "state")
    close(chain.encode_actions(case.arrays["in/actions"], sample.state), actions, 1e-6, "actions")
    close(chain.decode(actions, sample.state), case.arrays["back/actions"], 1e-9, "back to actions")


def test_masks_of_relative_actions(golden: Any) -> None:
    """The reference's `[6, -1, 6, -1]` is what ALOHA's fields say: six relative joints and a gripper, twice."""
    known = {(6, -1, 6, -1): aloha.ALOHA, (7, -1): droid.DROID_JOINTPOS}
    for dims, mask in golden.json("transforms_misc")["make_bool_mask"]:
        robots = [known[tuple(dims)]] if tuple(dims) in known else []
        if dims != [0]:  # nothing at all is no robot
            robots.append(_robot(dims))
        for robot in robots:
            assert [i >= 0 for i in robot.relative_to()] == mask, f"{robot.name}: {dims}"


def _robot(dims: list[int]) -> Embodiment:
    """A robot of so many relative joints (positive) and of so many absolute ones (negative), in turns."""
    fields: dict[str, list[Field]] = {"state": [], "action": []}
    for i, n in enumerate(dims):
        if n:
            names = [f"joint_{i}_{k}" for k in range(abs(n))]
            fields["state"].append(joints(*names))
            fields["action"].append(joints(*names, predict="relative" if n > 0 else "as_is"))
    state, action = (Space(*some) for some in fields.values())
    camera = Camera("front", slot=SLOTS[0])
    return Embodiment(name="joints", state=state, action=action, cameras=(camera,), control_hz=10)


def test_chunks_are_executed(golden: Any) -> None:
    """By a policy whose k-th chunk is three steps of two numbers, from 100 k on."""
    recorded = golden.json("transforms_misc")["action_chunk_broker"]
    assert recorded["inner"] == "k-th call returns actions = arange(6).reshape(3,2)+100*k"
    calls = itertools.count(1)
    policy = SimpleNamespace(infer=lambda _: {"actions": np.arange(6).reshape(3, 2) + 100 * next(calls)})
    executor = ChunkExecutor(policy, replan=recorded["action_horizon"])  # pyright: ignore[reportArgumentType]
    outputs = recorded["outputs"]
    assert [executor.act(dict).tolist() for _ in outputs] == outputs
