from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fla_plugins.aloha_sim import plugin
from fla_plugins.aloha_sim.kinematics import ArmKinematics, rotation_matrix, rotation_vector
from fla_sdk.errors import ConfigError

BENCHMARK = next(iter(plugin.fla_benchmarks()))


def play(environment, seed, expert_seed=None):
    """Actions of one episode of the expert."""
    environment.reset(seed)
    expert = plugin.expert(environment, seed if expert_seed is None else expert_seed)
    actions = []
    for _ in range(BENCHMARK.max_steps):
        actions.append(expert())
        if environment.step(actions[-1]):
            break
    return np.array(actions)


@pytest.mark.parametrize(("task", "episodes", "solved"), [("transfer_cube", 10, 9), ("insertion", 5, 4)])
def test_the_expert_solves_its_task(make, task, episodes, solved):
    environment = make(task=task)
    outcomes = []
    for seed in range(episodes):
        play(environment, seed)
        outcomes.append(environment.success)
    assert sum(outcomes) >= solved, outcomes


def test_success_is_the_left_arm_holding_the_cube_in_the_air(make):
    environment = make()
    play(environment, seed=0)
    assert environment.success
    data, model = environment.physics.data.ptr, environment.physics.model.ptr
    touching = {frozenset(model.geom(geom).name for geom in contact.geom) for contact in data.contact}
    assert frozenset({"red_box", "vx300s_left/10_left_gripper_finger"}) in touching
    assert data.body("box").xpos[2] > 0.1
    environment.reset(0)
    assert not environment.success


def test_a_seed_repeats_a_demonstration_and_another_varies_it(make):
    environment = make()
    first, again, varied = (play(environment, seed=2, expert_seed=seed) for seed in (2, 2, 7))
    np.testing.assert_array_equal(first, again)
    steps = min(len(first), len(varied))
    assert np.abs(first[:steps] - varied[:steps]).max() > 0.01
    assert environment.success


@pytest.mark.parametrize("task", ["transfer_cube", "insertion"])
def test_demonstrations_are_smooth_and_within_the_limits(make, task):
    environment = make(task=task)
    actions = play(environment, seed=1)
    assert actions.dtype == np.float32
    model = environment.physics.model
    joints = [*range(6), *range(8, 14)]
    arms, grippers = np.delete(actions, [6, 13], axis=1), actions[:, [6, 13]]
    assert (arms >= model.jnt_range[joints, 0] - 1e-6).all() and (arms <= model.jnt_range[joints, 1] + 1e-6).all()
    assert grippers.min() >= 0 and grippers.max() <= 1
    # 0.1 rad in 20 ms is a flipped wrist, not a motion that a policy should learn.
    assert np.abs(np.diff(arms, axis=0)).max() < 0.1


def test_an_expert_for_another_environment_is_refused():
    elsewhere: Any = object()
    with pytest.raises(ConfigError, match="which object does not have"):
        plugin.expert(elsewhere, 0)


@pytest.fixture(scope="module")
def physics():
    environment = plugin.make("aloha_sim")
    environment.reset(0)
    yield environment.physics
    environment.close()


def hand(physics, side, joints):
    """Where the hand is at `joints` `[6]`, by forward kinematics: position between the fingers, rotation."""
    mujoco: Any = pytest.importorskip("mujoco")
    data = mujoco.MjData(physics.model.ptr)
    first = 0 if side == "left" else 8
    data.qpos[:] = physics.data.qpos
    data.qpos[first : first + 6] = joints
    mujoco.mj_kinematics(physics.model.ptr, data)
    fingers = [data.geom(f"vx300s_{side}/10_{finger}_gripper_finger").xpos for finger in ("left", "right")]
    return np.mean(fingers, axis=0), data.body(f"vx300s_{side}/gripper_link").xmat.reshape(3, 3)


@pytest.mark.parametrize("side", ["left", "right"])
@settings(max_examples=30, deadline=None)
@given(
    waist=st.floats(-0.8, 0.8),
    shoulder=st.floats(-1.0, 0.4),
    elbow=st.floats(0.3, 1.3),
    wrist=st.floats(-0.9, 1.2),
    roll=st.floats(-1.5, 1.5),
)
def test_inverse_kinematics_reaches_what_forward_kinematics_says(physics, side, waist, shoulder, elbow, wrist, roll):
    before = physics.data.qpos.copy()
    position, rotation = hand(physics, side, [waist, shoulder, elbow, 0.0, wrist, roll])
    solved = ArmKinematics(physics, side).solve(position, rotation, iterations=500)
    np.testing.assert_array_equal(physics.data.qpos, before)
    reached, turned = hand(physics, side, solved)
    np.testing.assert_allclose(reached, position, atol=1e-3)
    assert np.linalg.norm(rotation_vector(rotation @ turned.T)) < 0.01


@pytest.mark.parametrize("side", ["left", "right"])
@settings(max_examples=30, deadline=None)
@given(waist=st.floats(-0.8, 0.8), pitch=st.floats(-0.5, 1.0), roll=st.floats(-1.5, 1.5))
def test_facing_is_how_a_hand_points_when_the_forearm_is_straight(physics, side, waist, pitch, roll):
    position, rotation = hand(physics, side, [waist, -0.4, 0.9, 0.0, pitch - 0.5, roll])
    facing = ArmKinematics(physics, side).facing(position, pitch=pitch, roll=roll)
    # The two finger meshes are no exact mirror images, so the point between them lies about 1 mm off the hand's axis.
    assert np.linalg.norm(rotation_vector(facing @ rotation.T)) < 0.02


@given(st.lists(st.floats(-1.8, 1.8), min_size=3, max_size=3))
def test_rotation_vectors_and_matrices_are_inverses(vector):
    vector = np.array(vector)
    matrix = rotation_matrix(vector)
    np.testing.assert_allclose(matrix @ matrix.T, np.eye(3), atol=1e-12)
    if np.linalg.norm(vector) < 3.1:
        np.testing.assert_allclose(rotation_vector(matrix), vector, atol=1e-9)
