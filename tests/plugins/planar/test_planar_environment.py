"""The reaching task: what a seed fixes, what success asks for, what the ablations change."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from fla_plugins.planar.arm import ARMS
from fla_plugins.planar.environment import PlanarEnvironment, make
from fla_plugins.planar.expert import expert
from fla_plugins.planar.scene import COLOURS, Rules
from fla_sdk.errors import ConfigError, ObservationError, UnknownNameError

each_arm = pytest.mark.parametrize("name", ARMS)
Act = Callable[[PlanarEnvironment, np.random.Generator], NDArray[np.float64]]


def run(environment: PlanarEnvironment, seed: int, act: Act) -> bool:
    environment.reset(seed)
    rng = np.random.default_rng(seed)
    while not environment.step(act(environment, rng)):
        pass
    return environment.success


def to_target(index: int) -> Act:
    return lambda environment, _: environment.arm.inverse(environment.scene.targets[index])


def to_first_goal() -> Act:
    """Where the target was in the first step."""
    poses: list[NDArray[np.float64]] = []

    def act(environment: PlanarEnvironment, _: np.random.Generator) -> NDArray[np.float64]:
        poses.append(environment.arm.inverse(environment.goal))
        return poses[0]

    return act


@each_arm
def test_expert_always_succeeds(name: str) -> None:
    environment = make(name)
    for seed in range(250):
        environment.reset(seed)
        act = expert(environment, seed)
        while not environment.step(act()):
            pass
        assert environment.success, f"seed {seed}"


@each_arm
def test_targets_that_drift_stay_in_the_workspace_and_leave_the_blind_behind(name: str) -> None:
    environment = make(name, drift=0.06)
    rules, arm = environment.rules, environment.arm
    for seed in range(20):
        environment.reset(seed)
        first, seen = environment.goal, set[bytes]()
        act, far = expert(environment, seed), np.linalg.norm(environment.scene.targets - arm.base, axis=1)
        over, moved = False, 0.0
        while not over:
            over = environment.step(act())
            moved = max(moved, np.linalg.norm(environment.goal - first))
            seen.add(environment.observe()["images/front"].tobytes())
            targets = environment.scene.targets
            np.testing.assert_allclose(np.linalg.norm(targets - arm.base, axis=1), far)
            assert ((targets >= rules.margin) & (targets <= 1 - rules.margin)).all()
        assert environment.success, f"seed {seed}"
        assert moved > 0.01
        assert len(seen) > 1
    hurried = make(name, drift=0.06, max_steps=12)
    assert np.mean([run(hurried, seed, to_first_goal()) for seed in range(50)]) < 0.6
    assert all(run(hurried, seed, lambda now, _: now.arm.inverse(now.goal)) for seed in range(50))


@each_arm
@pytest.mark.parametrize(
    "act",
    [
        pytest.param(lambda env, rng: rng.uniform(*np.array(env.arm.limits).T), id="anywhere"),
        pytest.param(lambda env, rng: env.arm.inverse(env.scene.targets.mean(0)) + rng.normal(0, 0.3, env.arm.joints),
                     id="around-the-middle"),
        pytest.param(lambda env, rng: env.joints + rng.normal(0, 0.05, env.arm.joints), id="random-walk"),
        pytest.param(lambda env, rng: env.joints, id="stay"),
    ],
)  # fmt: skip
def test_acting_without_looking_succeeds_in_less_than_a_tenth(name: str, act: Act) -> None:
    environment = make(name)
    assert np.mean([run(environment, seed, act) for seed in range(100)]) < 0.1


@each_arm
def test_the_same_seed_is_the_same_episode(name: str) -> None:
    first, second = make(name), make(name)
    for environment, before in ((first, 3), (second, 4)):
        environment.reset(before)
        environment.step(environment.joints + 0.1)
        environment.reset(7)
    for a, b in ((first.observe(), second.observe()), (first.render(), second.render())):
        np.testing.assert_equal(a, b)
    second.reset(8)
    assert not np.array_equal(first.observe()["images/front"], second.observe()["images/front"])


@each_arm
def test_observation_fits_the_contract(name: str) -> None:
    environment = make(name, image_size=96)
    environment.reset(0)
    observation = environment.observe()
    assert set(observation) == {"images/front", "state", "task"}
    assert observation["images/front"].shape == (96, 96, 3) and observation["images/front"].dtype == np.uint8
    assert observation["state"].shape == (environment.arm.joints,) and observation["state"].dtype == np.float32
    assert observation["task"] == environment.task
    named = [colour for colour in COLOURS if colour in environment.task.split()]
    assert named == [list(COLOURS)[environment.scene.named]]
    assert environment.render().shape == (256, 256, 3)


@each_arm
def test_observations_share_no_memory_with_the_environment(name: str) -> None:
    environment = make(name)
    environment.reset(1)
    before = environment.observe()
    before["images/front"][:] = 0
    before["state"][:] = 99.0
    environment.goal[:] = 99.0
    environment.joints[:] = 99.0
    fresh = make(name)
    fresh.reset(1)
    np.testing.assert_equal(environment.observe(), fresh.observe())
    np.testing.assert_array_equal(environment.goal, fresh.goal)


@each_arm
def test_a_step_is_limited_in_speed_and_range(name: str) -> None:
    environment = make(name, max_steps=100)
    environment.reset(0)
    start = environment.joints
    environment.step(start + 10.0)
    np.testing.assert_allclose(environment.joints, start + environment.rules.speed_limit)
    for _ in range(50):
        environment.step(np.full(environment.arm.joints, 10.0))
    np.testing.assert_allclose(environment.joints, [high for _, high in environment.arm.limits])


@each_arm
def test_success_asks_the_tip_to_stay(name: str) -> None:
    environment = make(name)
    environment.reset(2)
    goal = environment.arm.inverse(environment.goal)
    while environment.distance > environment.rules.tolerance:
        assert not environment.step(goal)
    for _ in range(environment.rules.dwell - 2):
        assert not environment.step(goal)
    # It has stayed one step too few; leaving starts the count afresh.
    away = environment.scene.start
    while environment.distance <= environment.rules.tolerance:
        assert not environment.step(away)
    dwelt = 0
    while not environment.step(goal):
        dwelt = dwelt + 1 if environment.distance <= environment.rules.tolerance else 0
        assert dwelt < environment.rules.dwell
    assert environment.success and dwelt == environment.rules.dwell - 1


@each_arm
def test_another_target_does_not_count(name: str) -> None:
    environment = make(name)
    for seed in range(20):
        environment.reset(seed)
        named = environment.scene.named
        assert [run(environment, seed, to_target(i)) for i in range(3)] == [i == named for i in range(3)]


def test_an_unsolved_episode_ends_after_max_steps() -> None:
    environment = make("planar2", max_steps=12)
    environment.reset(0)
    away = environment.joints
    assert [environment.step(away) for _ in range(14)] == [False] * 11 + [True] * 3
    assert not environment.success


def test_lingering_shows_how_to_stay() -> None:
    steps = {}
    for linger in (0, 4):
        environment = make("planar3", linger=linger)
        environment.reset(0)
        act = expert(environment, 0)
        steps[linger] = 1
        while not environment.step(act()):
            steps[linger] += 1
        assert environment.success
    assert steps[4] == steps[0] + 4


@each_arm
def test_blank_hides_the_picture_and_nothing_else(name: str) -> None:
    plain, blank = make(name), make(name, ablation="blank")
    pictures = []
    for seed in range(5):
        plain.reset(seed)
        blank.reset(seed)
        seen, hidden = plain.observe(), blank.observe()
        pictures.append(hidden["images/front"])
        assert len(np.unique(hidden["images/front"].reshape(-1, 3), axis=0)) == 1
        np.testing.assert_array_equal(seen["state"], hidden["state"])
        assert seen["task"] == hidden["task"]
        np.testing.assert_array_equal(plain.goal, blank.goal)
    assert all(np.array_equal(picture, pictures[0]) for picture in pictures)


@each_arm
def test_swap_names_another_target_and_judges_on_the_original(name: str) -> None:
    plain, swap = make(name), make(name, ablation="swap")
    told = set()
    for seed in range(25):
        plain.reset(seed)
        swap.reset(seed)
        assert swap.task == swap.observe()["task"] != plain.task
        np.testing.assert_array_equal(swap.observe()["images/front"], plain.observe()["images/front"])
        np.testing.assert_array_equal(swap.goal, plain.goal)
        (index,) = (i for i, colour in enumerate(COLOURS) if colour in swap.task.split())
        told.add((swap.scene.named, index))
        assert not run(swap, seed, to_target(index))
        assert run(swap, seed, to_target(swap.scene.named))
    assert len(told) == 6  # each colour gives way to either of the two others


def test_a_demonstration_commands_the_goal_whatever_the_joints_are() -> None:
    environment = make("planar2")
    environment.reset(5)
    act = expert(environment, 5)
    first = act()
    environment.step(first)
    np.testing.assert_array_equal(act(), first)
    np.testing.assert_allclose(environment.arm.tip(first), environment.goal, atol=1e-9)


@pytest.mark.parametrize("action", [np.zeros(3), np.zeros((1, 2)), np.float64(0.0)])
def test_an_action_of_another_width_is_refused(action: NDArray[np.float64]) -> None:
    environment = make("planar2")
    environment.reset(0)
    with pytest.raises(ObservationError, match=r"planar2 has 2 joints.*got shape"):
        environment.step(action)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_an_action_that_is_not_finite_is_refused(value: float) -> None:
    environment = make("planar2")
    environment.reset(0)
    before = environment.joints
    with pytest.raises(ObservationError, match="not finite"):
        environment.step(np.array([0.0, value]))
    np.testing.assert_array_equal(environment.joints, before)


def test_before_reset_there_is_nothing_to_see_or_do() -> None:
    environment = make("planar2")
    for use in (environment.observe, environment.render, lambda: environment.step(np.zeros(2))):
        with pytest.raises(ObservationError, match=r"call reset\(seed\) first"):
            use()


def test_only_some_colours_are_asked_for() -> None:
    def tasks(**options: Any) -> list[str]:
        environment = make("planar2", **options)
        found: list[str] = []
        for seed in range(20):
            environment.reset(seed)
            found.append(environment.task)
        return found

    assert all("green" in task for task in tasks(asked=["green"]))
    assert tasks(asked=["red", "green", "blue"]) == tasks()
    with pytest.raises(UnknownNameError, match="colour of a planar target 'gren'; did you mean 'green'"):
        make("planar2", asked=["gren"])
    with pytest.raises(ConfigError, match="asked is empty"):
        make("planar2", asked=[])


def test_bad_options_are_named() -> None:
    with pytest.raises(UnknownNameError, match="planar2, planar3"):
        make("aloha")
    with pytest.raises(ConfigError, match="did you mean 'tolerance'"):
        make("planar2", tolerence=0.1)
    with pytest.raises(ConfigError, match="blank, swap"):
        make("planar2", ablation="mirror")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="image_size 4"):
        make("planar2", image_size=4)
    with pytest.raises(ConfigError, match="one spot counts for two"):
        make("planar2", tolerance=0.2)
    with pytest.raises(ConfigError, match="lower separation"):
        make("planar2", separation=0.9).reset(0)
    with pytest.raises(ConfigError, match="start_clearance"):
        make("planar2", start_clearance=2.0).reset(0)
    with pytest.raises(ConfigError, match="dwell 50"):
        Rules(dwell=50)
