"""The codec: actions there and back, nothing written to, padding and absent cameras without effect."""

from collections.abc import Mapping
from typing import Any

import attrs
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fla_sdk as fla
from fla_sdk.codec import Codec, collate, collate_inputs
from fla_sdk.embodiment import Embodiment
from fla_sdk.errors import ConfigError, DataError, StatsError
from fla_sdk.model import Batch, ModelInput, ModelSpec
from fla_sdk.normalization import NormStats, Stats
from fla_sdk.sample import PendingImage, Sample
from fla_sdk.testing import CharacterTokenizer, random_vectors

ROBOTS = fla.load_plugins(environment={}).embodiments
WIDEST = max(max(robot.state.width, robot.action.width) for robot in ROBOTS.values())
SLOTS = ("base_0_rgb", "left_wrist_0_rgb", "right_wrist_0_rgb")
SPEC = ModelSpec(image_slots=SLOTS, image_size=(16, 16), action_dim=32, horizon=5, max_tokens=1000)

robots = st.sampled_from([ROBOTS[name] for name in sorted(ROBOTS)])
kinds = st.sampled_from(["quantile", "zscore"])
seeds = st.integers(0, 2**31)


def codec(robot: Embodiment, *, seed: int = 0, stats: NormStats | None = None, **changes: Any) -> Codec:
    """With random statistics, in dimensions of very different size."""
    return Codec(
        embodiment=robot,
        spec=attrs.evolve(SPEC, **changes),
        stats=stats or NormStats(state=_stats(robot.state.width, seed), actions=_stats(robot.action.width, seed + 1)),
        tokenizer=CharacterTokenizer(),
    )


def _stats(width: int, seed: int) -> Stats:
    rng = np.random.default_rng(seed)
    middle, half = rng.normal(size=width), 10 ** rng.uniform(-2, 1, width)
    return Stats(mean=middle, std=half, q01=middle - half, q99=middle + half)


def sample(robot: Embodiment, *, seed: int = 0, horizon: int = SPEC.horizon) -> Sample:
    """Read-only, so that a write to it is an error."""
    observed = robot.observe(robot.example_observation(seed))
    one = attrs.evolve(observed, actions=random_vectors(robot.action, horizon, seed=seed))
    for array in (*one.images.values(), one.state, one.actions):
        assert isinstance(array, np.ndarray)
        array.flags.writeable = False
    return one


@given(robot=robots, kind=kinds, seed=seeds)
def test_decode_inverts_encode(robot: Embodiment, kind: str, seed: int) -> None:
    """To 1e-5: rounding to float32 costs 6e-8 of what lies up to some hundred deviations from the mean."""
    path = codec(robot, seed=seed, normalization=kind)
    states = random_vectors(robot.state, 1, seed=seed)
    actions = random_vectors(robot.action, SPEC.horizon, seed=seed + 1)
    for array in (states, actions):
        array.flags.writeable = False
    encoded = path.encode_actions(actions, states[0])
    assert encoded.dtype == np.float32
    assert encoded.shape == (SPEC.horizon, SPEC.action_dim)
    np.testing.assert_array_equal(encoded[:, robot.action.width :], 0)
    encoded.flags.writeable = False
    scale = np.maximum(path.stats.actions.std + np.abs(path.stats.actions.mean), 1)
    scale = np.maximum(scale, np.abs(actions).max())  # per cent and degrees
    assert (np.abs(path.decode(encoded, states[0]) - actions) <= 1e-5 * scale).all()


@given(robot=robots, seed=seeds)
@settings(max_examples=20)
def test_encoding_twice_gives_the_same_and_writes_to_nothing(robot: Embodiment, seed: int) -> None:
    path, one = codec(robot, seed=seed), sample(robot, seed=seed)
    assert_equal(path.encode_example(one), path.encode_example(one))


@given(robot=robots, seed=seeds, kind=kinds, width=st.integers(WIDEST, 80))
@settings(max_examples=30)
def test_padding_changes_nothing_for_the_robots_own_dimensions(
    robot: Embodiment, seed: int, kind: str, width: int
) -> None:
    """Neither the state's, nor the actions', nor the prompt; nor does junk in the padding reach the robot."""
    one = sample(robot, seed=seed)
    tight = codec(robot, seed=seed, normalization=kind, action_dim=WIDEST)
    wide = codec(robot, seed=seed, normalization=kind, action_dim=width)
    a, b = tight.encode_example(one), wide.encode_example(one)
    np.testing.assert_array_equal(a.inputs.state, b.inputs.state[:WIDEST])
    np.testing.assert_array_equal(a.inputs.tokens, b.inputs.tokens)
    np.testing.assert_array_equal(a.actions, b.actions[:, :WIDEST])
    assert b.action_dims.tolist() == [i < robot.action.width for i in range(width)]
    junk = b.actions.copy()
    junk[:, robot.action.width :] = 1e6
    np.testing.assert_array_equal(wide.decode(junk, one.state), tight.decode(a.actions, one.state))


def test_absent_cameras_are_absent_and_change_nothing_else() -> None:
    robot = ROBOTS["aloha"]
    one = sample(robot)
    full = codec(robot).encode(one)
    fewer = codec(robot).encode(attrs.evolve(one, images={"cam_high": one.images["cam_high"]}))
    assert set(full.images) == set(full.image_masks) == set(SLOTS)
    assert set(fewer.images) == set(fewer.image_masks) == {"base_0_rgb"}
    np.testing.assert_array_equal(full.images["base_0_rgb"], fewer.images["base_0_rgb"])
    assert_equal(full._replace(images={}, image_masks={}), fewer._replace(images={}, image_masks={}))


def test_cameras_without_a_slot_are_left_out() -> None:
    robot = ROBOTS["aloha"]
    one = sample(robot)
    assert "cam_low" in one.images
    changed = {**one.images, "cam_low": 255 - np.asarray(one.images["cam_low"])}
    assert_equal(codec(robot).encode(one), codec(robot).encode(attrs.evolve(one, images=changed)))


def test_images_stay_bytes_of_the_models_size() -> None:
    for image in codec(ROBOTS["droid"]).encode(sample(ROBOTS["droid"])).images.values():
        assert image.dtype == np.uint8
        assert image.shape == (*SPEC.image_size, 3)


def test_the_prompt_says_what_the_embodiment_says() -> None:
    robot = ROBOTS["planar2"]
    inputs = codec(robot).encode(sample(robot))
    text = "".join(chr(i) for i in inputs.tokens[inputs.token_mask][1:])
    assert text.startswith(f"Task: {robot.prompt.replace('{task}', robot.example_task)}, State: ")


def test_padded_steps_are_marked() -> None:
    robot = ROBOTS["planar2"]
    is_pad = np.arange(SPEC.horizon) > 2
    batch = codec(robot).encode_example(attrs.evolve(sample(robot), actions_is_pad=is_pad))
    assert batch.action_steps.tolist() == (~is_pad).tolist()
    assert codec(robot).encode_example(sample(robot)).action_steps.all()


def test_longer_statistics_are_cut_both_ways() -> None:
    """Published statistics may be as wide as the model."""
    robot = ROBOTS["planar2"]
    stats = NormStats(state=_stats(32, 0), actions=_stats(32, 1))
    one = sample(robot)
    for kind in ("quantile", "zscore"):
        path = codec(robot, stats=stats, normalization=kind)
        assert one.actions is not None
        back = path.decode(path.encode_actions(one.actions, one.state), one.state)
        np.testing.assert_allclose(back, one.actions, atol=1e-4)


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        (
            {"action_dim": 1},
            ConfigError,
            r"'planar2' has 2 state dimensions \(joint1, joint2\), the model has room for 1",
        ),
        (
            {"image_slots": ("base_1_rgb",)},
            ConfigError,
            "camera 'front' goes to slot 'base_0_rgb', which the model does not have; did you mean 'base_1_rgb'",
        ),
        ({"prompt_style": "pi06"}, ConfigError, r"unknown prompt style 'pi06' \(known: pi0, pi05"),
        (
            {"stats": NormStats(state=_stats(2, 0), actions=_stats(1, 0))},
            StatsError,
            r"planar2: statistics of actions have 1 dimensions, the embodiment has 2 \(joint1, joint2\)",
        ),
    ],
)
def test_parts_that_do_not_fit_are_refused(changes: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        codec(ROBOTS["planar2"], **changes)


def test_samples_that_do_not_fit_are_refused() -> None:
    robot = ROBOTS["planar2"]
    one = sample(robot)
    with pytest.raises(DataError, match="planar2: a training sample needs actions, this one has none"):
        codec(robot).encode_example(attrs.evolve(one, actions=None))
    with pytest.raises(DataError, match=r"actions must be \[5, 2\] .* got \[5, 3\]"):
        codec(robot).encode_example(attrs.evolve(one, actions=np.zeros((5, 3))))
    with pytest.raises(DataError, match=r"actions must be \[5, 2\] .* got \[4, 2\]"):
        codec(robot).encode_example(attrs.evolve(one, actions=np.zeros((4, 2))))


def test_collating_masks_what_only_some_have() -> None:
    """Two robots of different widths, cameras and prompt lengths share a batch."""
    small, large = ROBOTS["planar2"], ROBOTS["aloha"]
    wordy = attrs.evolve(sample(large), task="fold the towel twice along its longer side and put it down")
    parts = [codec(small).encode_example(sample(small)), codec(large).encode_example(wordy)]
    batch = collate(parts)
    lengths = [len(part.inputs.tokens) for part in parts]
    assert lengths[0] < lengths[1]
    assert batch.inputs.tokens.shape == batch.inputs.token_mask.shape == (2, max(lengths))
    assert {slot: mask.tolist() for slot, mask in batch.inputs.image_masks.items()} == {
        "base_0_rgb": [True, True],
        "left_wrist_0_rgb": [False, True],
        "right_wrist_0_rgb": [False, True],
    }
    assert not batch.inputs.images["left_wrist_0_rgb"][0].any()
    for i, part in enumerate(parts):
        words = part.inputs.tokens[part.inputs.token_mask]
        np.testing.assert_array_equal(batch.inputs.tokens[i][batch.inputs.token_mask[i]], words)
        np.testing.assert_array_equal(batch.actions[i], part.actions)
        np.testing.assert_array_equal(batch.action_dims[i], part.action_dims)
        for slot, image in part.inputs.images.items():
            np.testing.assert_array_equal(batch.inputs.images[slot][i], image)


def test_collating_one_adds_an_axis() -> None:
    one = codec(ROBOTS["libero"]).encode(sample(ROBOTS["libero"]))
    many = collate_inputs([one])
    unstacked = {
        name: {k: v[0] for k, v in part.items()} if isinstance(part, Mapping) else part[0]
        for name, part in many._asdict().items()
        if part is not None
    }
    assert_equal(one, ModelInput(**unstacked))


def assert_equal(a: Batch | ModelInput, b: Batch | ModelInput) -> None:
    leaves_a, leaves_b = list(_leaves(a)), list(_leaves(b))
    assert [path for path, _ in leaves_a] == [path for path, _ in leaves_b]
    for (path, x), (_, y) in zip(leaves_a, leaves_b, strict=True):
        assert x.dtype == y.dtype, path
        np.testing.assert_array_equal(x, y, err_msg=path)


def _leaves(tree: Any, path: str = "") -> Any:
    if hasattr(tree, "_asdict"):
        tree = tree._asdict()
    if isinstance(tree, dict):
        for key, value in tree.items():
            yield from _leaves(value, f"{path}/{key}")
    elif tree is not None:
        yield path, tree


@given(robot=robots, seed=seeds, exact=st.booleans())
def test_images_that_are_pending_give_the_same_batch(robot: Embodiment, seed: int, exact: bool) -> None:
    known = [sample(robot, seed=seed + number) for number in range(2)]
    one = known[0]
    size = next(iter(one.images.values())).shape[:2] if exact and one.images else (16, 16)
    path = codec(robot, seed=seed, image_size=size)

    def pending(image: Any) -> PendingImage:
        return PendingImage(shape=image.shape, into=lambda to: np.copyto(to, image))

    later = attrs.evolve(one, images={name: pending(image) for name, image in one.images.items()})
    expected = collate([path.encode_example(each) for each in known]).inputs.images
    found = collate([path.encode_example(later), path.encode_example(known[1])]).inputs.images
    assert expected.keys() == found.keys()
    for slot in expected:
        np.testing.assert_array_equal(found[slot], expected[slot])
