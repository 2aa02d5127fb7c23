"""Pictures of samples and of predicted actions."""

import attrs
import jax
import numpy as np

import fla_sdk as fla
from fla_sdk.codec import Codec, collate
from fla_sdk.model import Batch, ModelSpec
from fla_sdk.normalization import NormStats, Stats
from fla_sdk.testing import CharacterTokenizer, random_vectors
from fla_sdk.training.pictures import LABEL, SAMPLES, Chunk, chunks, samples

ROBOTS = fla.load_plugins(environment={}).embodiments
SLOTS = ("base_0_rgb", "left_wrist_0_rgb", "right_wrist_0_rgb")
SIDE = 24
SPEC = ModelSpec(image_slots=SLOTS, image_size=(SIDE, SIDE), horizon=5, max_tokens=1000)


def _codec(name: str) -> Codec:
    robot = ROBOTS[name]

    def unit(width: int) -> Stats:
        one = np.ones(width)
        return Stats(mean=0 * one, std=one, q01=-one, q99=one)

    stats = NormStats(state=unit(robot.state.width), actions=unit(robot.action.width))
    return Codec(embodiment=robot, spec=SPEC, stats=stats, tokenizer=CharacterTokenizer())


def _example(codec: Codec, seed: int) -> Batch:
    robot = codec.embodiment
    sample = robot.observe(robot.example_observation(seed))
    return codec.encode_example(attrs.evolve(sample, actions=random_vectors(robot.action, SPEC.horizon, seed=seed)))


def test_each_robot_shows_its_own_samples_and_cameras() -> None:
    aloha, planar = _codec("aloha"), _codec("planar2")
    parts = (0, 1, 1, 0, 1, 2, 1, 1)  # the third source is of the first robot
    batch = collate([_example((aloha, planar, aloha)[part], seed) for seed, part in enumerate(parts)])
    origin = np.array([(part, 0) for part in parts], np.int32)
    found = samples(jax.device_put(batch), origin, (aloha, planar, aloha))
    assert found.keys() == {"samples/aloha", "samples/planar2"}

    def shown(name: str, count: int, cameras: int) -> np.ndarray:
        picture = found[f"samples/{name}"]
        assert picture.shape == (LABEL + count * SIDE, cameras * SIDE, 3)
        assert picture[:LABEL].any()  # the cameras' names
        return picture[LABEL:].reshape(count, SIDE, cameras, SIDE, 3)

    three, most = shown("aloha", 3, 3), shown("planar2", SAMPLES, 1)
    for camera, slot in enumerate(SLOTS):  # in the order of the model
        np.testing.assert_array_equal(three[:, :, camera], batch.inputs.images[slot][[0, 3, 5]])
    np.testing.assert_array_equal(most[:, :, 0], batch.inputs.images[SLOTS[0]][[1, 2, 4, 6]])


def test_a_robot_that_is_not_in_the_batch_is_not_shown() -> None:
    planar = _codec("planar2")
    origin = np.ones((2, 2), np.int32)
    batch = collate([_example(planar, seed) for seed in range(2)])
    assert samples(batch, origin, (_codec("aloha"), planar)).keys() == {"samples/planar2"}


def test_predicted_actions_are_drawn_beside_those_that_were_shown() -> None:
    codec = _codec("planar3")
    rng = np.random.default_rng(0)
    shown = [rng.normal(size=(length, 3)) for length in (5, 1, 3)]
    right = chunks({"planar3": [Chunk(one, one) for one in shown]}, {"planar3": codec})["held_out/planar3"]
    wrong = chunks({"planar3": [Chunk(one + 1, one) for one in shown]}, {"planar3": codec})["held_out/planar3"]
    assert right.dtype == np.uint8 and right.shape == wrong.shape and right.shape[2] == 3
    assert (right != wrong).any()
    assert not chunks({"planar3": []}, {"planar3": codec})
