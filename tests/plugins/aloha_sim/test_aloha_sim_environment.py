import numpy as np
import pytest

from fla_plugins.aloha_sim import plugin
from fla_sdk.errors import ConfigError, ObservationError, UnknownNameError

TASKS = ("transfer_cube", "insertion")


def state(environment):
    return np.concatenate([environment.physics.data.qpos, environment.physics.data.qvel])


def wander(environment, seed, steps=20):
    """States of an episode with random joint targets."""
    rng = np.random.default_rng(seed)
    environment.reset(seed)
    states = [state(environment)]
    for _ in range(steps):
        environment.step(rng.uniform(-0.5, 0.5, 14))
        states.append(state(environment))
    return np.array(states)


@pytest.mark.parametrize("task", TASKS)
def test_the_same_seed_gives_the_same_episode_whatever_came_before(make, task):
    environment = make(task=task)
    first = wander(environment, seed=3)
    other = wander(environment, seed=4)
    np.testing.assert_array_equal(wander(environment, seed=3), first)
    np.testing.assert_array_equal(wander(make(task=task), seed=3), first)
    assert np.abs(other[0] - first[0]).max() > 1e-3


def test_two_environments_do_not_disturb_each_other(make):
    alone = wander(make(), seed=1)
    one, two = make(), make()
    one.reset(1)
    two.reset(2)
    np.testing.assert_array_equal(state(one), alone[0])
    assert np.abs(state(two) - alone[0]).max() > 1e-3


@pytest.mark.parametrize("task", TASKS)
def test_it_is_gym_alohas_own_episode_reward_and_picture(make, renderer, task):
    environment = make(task=task)
    from gym_aloha.env import AlohaEnv

    original = AlohaEnv(task, obs_type="pixels_agent_pos")
    original._env.physics.model.vis.quality.offsamples = 0
    original._env.physics.model.vis.quality.shadowsize = 0
    theirs, _ = original.reset(seed=11)
    environment.reset(11)
    rng = np.random.default_rng(0)
    for _ in range(4):
        ours = environment.observe()
        np.testing.assert_array_equal(ours["state"], theirs["agent_pos"].astype(np.float32))
        np.testing.assert_array_equal(ours["images/top"], theirs["pixels"]["top"])
        action = rng.uniform(-0.5, 0.5, 14)
        theirs, _, terminated, _, _ = original.step(action)
        assert environment.step(action) == terminated
    original._env.physics.free()


def test_an_observation_has_the_cameras_state_and_task(make, renderer):
    environment = make()
    environment.reset(0)
    observation = environment.observe()
    assert set(observation) == {"images/top", "state", "task"}
    assert observation["images/top"].shape == (480, 640, 3) and observation["images/top"].dtype == np.uint8
    assert observation["state"].shape == (14,) and observation["state"].dtype == np.float32
    assert observation["task"] == "transfer the cube from the right arm to the left arm"
    assert environment.render().shape == (480, 640, 3)


def test_observations_are_not_overwritten_by_later_ones(make, renderer):
    environment = make()
    environment.reset(0)
    first = environment.observe()
    kept = first["images/top"].copy(), first["state"].copy()
    for _ in range(30):
        environment.step(np.full(14, 0.5))
    assert (environment.observe()["images/top"] != kept[0]).any()
    np.testing.assert_array_equal(first["images/top"], kept[0])
    np.testing.assert_array_equal(first["state"], kept[1])


@pytest.mark.parametrize(("height", "width"), [(120, 160), (600, 800)])
def test_the_cameras_size_is_an_option(make, renderer, height, width):
    environment = make(camera_height=height, camera_width=width)
    environment.reset(0)
    picture = environment.observe()["images/top"]
    assert picture.shape == (height, width, 3)
    assert picture.std() > 10


def test_fast_rendering_only_drops_shadows_and_smooth_edges(make, renderer):
    fast, full = make(), make(fast_rendering=False)
    fast.reset(0)
    full.reset(0)
    ours, theirs = fast.observe()["images/top"].astype(int), full.observe()["images/top"].astype(int)
    changed = np.abs(ours - theirs).max(axis=-1) > 8
    assert 0.01 < changed.mean() < 0.5
    red = [(picture[..., 0] - picture[..., 1:].max(axis=-1)) > 100 for picture in (ours, theirs)]
    assert red[0].sum() > 100 and (red[0] != red[1]).mean() < 1e-3


@pytest.mark.parametrize(
    ("action", "message"),
    [
        (np.zeros(13), r"an action is \[14\].*got \[13\]"),
        (np.zeros((8, 14)), r"got \[8, 14\]; step through a chunk"),
        (np.array([0.0] * 6 + [np.nan] + [0.0] * 6 + [np.inf]), r"not finite at dimensions \[6, 13\]"),
    ],
)
def test_a_wrong_action_is_refused_and_changes_nothing(make, action, message):
    environment = make()
    environment.reset(0)
    before = state(environment)
    with pytest.raises(ObservationError, match=message):
        environment.step(action)
    np.testing.assert_array_equal(state(environment), before)


def test_nothing_works_before_the_first_reset(make):
    environment = make()
    for use in (environment.observe, environment.render, lambda: environment.step(np.zeros(14))):
        with pytest.raises(ObservationError, match=r"call reset\(seed\) first"):
            use()


def test_diverged_physics_fail_the_episode_and_the_next_one_is_whole(make):
    environment = make()
    first = wander(environment, seed=5)
    environment.physics.data.qvel[:] = np.nan
    assert environment.step(np.zeros(14)) is True
    assert environment.success is False
    assert environment.step(np.zeros(14)) is True
    np.testing.assert_array_equal(wander(environment, seed=5), first)


def test_unknown_names_and_empty_pictures_are_refused():
    with pytest.raises(UnknownNameError, match=r"did you mean 'transfer_cube'\?"):
        plugin.make("aloha_sim", task="transfer_cubes")
    with pytest.raises(UnknownNameError, match=r"did you mean 'aloha_sim'\?"):
        plugin.make("aloha")
    with pytest.raises(ConfigError, match="0x640"):
        plugin.make("aloha_sim", camera_height=0)


def test_closing_twice_is_harmless(make):
    environment = make()
    environment.reset(0)
    environment.close()
    environment.close()
