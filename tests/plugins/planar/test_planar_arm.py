"""Kinematics of the planar arms: each reachable point has one pose, and it puts the tip there."""

import math

import attrs
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fla_plugins.planar.arm import ARMS, Arm, find_arm
from fla_sdk.errors import ConfigError, UnknownNameError

arms = pytest.mark.parametrize("arm", ARMS.values(), ids=ARMS)
unit = st.floats(0.0, 1.0)


@arms
@given(near_to_far=unit, left_to_right=unit)
def test_tip_of_inverse_is_the_point(arm: Arm, near_to_far: float, left_to_right: float) -> None:
    distance = arm.near + near_to_far * (arm.far - arm.near)
    point = arm.polar(np.asarray(distance), np.asarray(arm.sector[0] + left_to_right * (arm.sector[1] - arm.sector[0])))
    pose = arm.inverse(point)
    np.testing.assert_allclose(arm.tip(pose), point, atol=1e-9)
    np.testing.assert_array_equal(arm.clip(pose), pose)
    np.testing.assert_allclose(pose[1:], pose[1] / arm.bends[0] * np.asarray(arm.bends))


@arms
@given(turn=st.floats(-1.5, 1.5), bend=st.floats(0.2, 1.9))
def test_inverse_finds_the_pose_that_made_the_point(arm: Arm, turn: float, bend: float) -> None:
    pose = np.array([turn, *(bend * ratio for ratio in arm.bends)])
    np.testing.assert_allclose(arm.inverse(arm.tip(pose)), pose, atol=1e-6)


@arms
def test_neighbouring_points_have_neighbouring_poses(arm: Arm) -> None:
    distance, angle = np.meshgrid(np.linspace(arm.near, arm.far, 60), np.linspace(*arm.sector, 60))
    poses = arm.inverse(arm.polar(distance, angle))
    moved = np.diff(arm.polar(distance, angle), axis=1)
    slope = np.abs(np.diff(poses, axis=1)).max(-1) / np.linalg.norm(moved, axis=-1)
    assert slope.max() < 8.0  # rad per metre: a pixel of 1/64 m is at most 0.125 rad


def test_two_links_agree_with_the_law_of_cosines() -> None:
    arm = ARMS["planar2"]
    point = np.array([0.35, 0.6])
    first, second = arm.links
    offset = point - arm.base
    cosine = (offset @ offset - first**2 - second**2) / (2 * first * second)
    assert arm.inverse(point)[1] == pytest.approx(math.acos(cosine))


def test_forward_of_a_batch_is_forward_of_each() -> None:
    arm = ARMS["planar3"]
    joints = np.random.default_rng(0).uniform(-1, 1, (4, 5, 3))
    points = arm.forward(joints)
    assert points.shape == (4, 5, 4, 2)
    np.testing.assert_allclose(points[2, 3], arm.forward(joints[2, 3]))
    np.testing.assert_allclose(points[..., 0, :], np.broadcast_to(arm.base, (4, 5, 2)))
    np.testing.assert_allclose(np.linalg.norm(np.diff(points, axis=-2), axis=-1), np.broadcast_to(arm.links, (4, 5, 3)))


@arms
def test_a_point_out_of_reach_is_refused(arm: Arm) -> None:
    with pytest.raises(ConfigError, match=rf"{arm.name} cannot reach a point 2\.\d+ m"):
        arm.inverse(np.array([2.0, 2.0]))
    with pytest.raises(ConfigError, match="cannot reach"):
        arm.inverse(np.asarray(arm.base))


def test_an_arm_that_contradicts_itself_is_refused() -> None:
    with pytest.raises(ConfigError, match="2 links, so it needs 1 bends and 2 limits, not 2 and 2"):
        attrs.evolve(ARMS["planar2"], bends=(1.0, 1.0))


def test_the_nearest_name_is_offered() -> None:
    with pytest.raises(UnknownNameError, match="did you mean 'planar3'"):
        find_arm("planer3")
