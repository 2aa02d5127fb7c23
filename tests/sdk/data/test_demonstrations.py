"""A dataset bound to its robot: what does not fit is refused with both sides, windows stop at the episode's end."""

from typing import Any

import attrs
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import fla_sdk as fla
from fla_sdk.data.demonstrations import Demonstrations
from fla_sdk.errors import DataError
from fla_sdk.testing import MemoryDataset

ROBOT = fla.Embodiment(
    name="robot",
    state=fla.Space(fla.joints("shoulder", "elbow"), fla.gripper()),
    action=fla.Space(fla.joints("shoulder", "elbow", predict="relative"), fla.gripper()),
    cameras=(
        fla.Camera("top", slot="base_0_rgb"),
        fla.Camera("wrist", slot="left_wrist_0_rgb", required=False),
        fla.Camera("unused", slot=None),
    ),
    control_hz=10,
    image_shape=(4, 6),
)


def dataset(*, lengths: tuple[int, ...] = (3, 5), seed: int = 0) -> MemoryDataset:
    return MemoryDataset.of(ROBOT, lengths=lengths, seed=seed)


def columns(**changes: Any) -> MemoryDataset:
    """Eight rows with some columns or names replaced; None leaves one out."""
    given = dataset()
    rows = {"observation.state": given.column("observation.state"), "action": given.column("action")}
    frames = {"observation.images.top": np.zeros((8, 4, 6, 3), np.uint8)}
    rows |= changes.pop("rows", {})
    return MemoryDataset(
        {k: v for k, v in rows.items() if v is not None},
        lengths=(3, 5),
        fps=changes.pop("fps", 10),
        cameras=changes.pop("cameras", frames),
        names=changes.pop("names", None),
    )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"rows": {"observation.state": None}},
            "it has no state; expected 'state' or 'observation.state', the dataset has action",
        ),
        (
            {"rows": {"action": None}},
            "it has no action; expected 'actions' or 'action', the dataset has observation.state",
        ),
        (
            {"rows": {"action": np.zeros((8, 2))}, "names": {"action": ("shoulder", "elbow")}},
            (
                r"the action has 2 dimensions in the dataset \(shoulder, elbow\), "
                r"3 in the embodiment \(shoulder, elbow, gripper\)"
            ),
        ),
        (
            {"rows": {"observation.state": np.zeros((8, 4))}},
            r"the state has 4 dimensions in the dataset \(unnamed\), 3 in the embodiment",
        ),
        ({"rows": {"observation.state": np.zeros(8)}}, r"the state has .*, 3 in the embodiment"),
        (
            {"names": {"observation.state": ("elbow", "shoulder", "gripper")}},
            "the state dimensions are named elbow, shoulder, gripper in the dataset, shoulder, elbow, gripper in the",
        ),
        (
            {"cameras": {"observation.images.topp": np.zeros((8, 4, 6, 3), np.uint8)}},
            (
                "camera 'top' is missing; expected one of images/top, observation.images.top, the dataset has "
                "observation.images.topp"
            ),
        ),
        ({"cameras": {}}, "camera 'top' is missing; .*the dataset has no cameras"),
    ],
)
def test_what_does_not_fit_shows_both_sides(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=f"dataset memory does not fit embodiment 'robot': {message}"):
        Demonstrations(columns(**changes), ROBOT, horizon=4)


@pytest.mark.parametrize("kind", ["observation.state", "action"])
def test_damaged_numbers_name_their_row(kind: str) -> None:
    values = np.zeros((8, 3))
    values[5, 1] = np.nan
    with pytest.raises(DataError, match=rf"the {kind.split('.')[-1]} of row 5 \(episode 1, frame 2\) is not finite"):
        Demonstrations(columns(rows={kind: values}), ROBOT, horizon=4)


@pytest.mark.parametrize("names", [("motor_0", "motor_1", "motor_2"), ("0", "1", "2"), ("x0", "x1", "x2"), None])
def test_names_that_say_nothing_are_accepted(names: tuple[str, ...] | None) -> None:
    Demonstrations(columns(names={"action": names} if names else {}), ROBOT, horizon=4)


def test_another_rate_is_a_warning() -> None:
    with pytest.warns(
        UserWarning, match=r"recorded at 20 Hz, embodiment 'robot' is controlled at 10 Hz; .* in 0\.40 s inst"
    ):
        Demonstrations(columns(fps=20), ROBOT, horizon=4)


@given(lengths=st.lists(st.integers(1, 9), min_size=1, max_size=4), horizon=st.integers(1, 6))
def test_windows_stay_in_their_episode(lengths: list[int], horizon: int) -> None:
    demonstrations = Demonstrations(dataset(lengths=tuple(lengths)), ROBOT, horizon=horizon)
    assert len(demonstrations) == sum(lengths)
    start = 0
    for length in lengths:
        end = start + length
        for row in range(start, end):
            rows, is_pad = demonstrations.window(row)
            assert rows.tolist() == [min(row + i, end - 1) for i in range(horizon)]
            assert is_pad.tolist() == [row + i >= end for i in range(horizon)]
        start = end


def test_samples_are_rows_in_the_robots_terms() -> None:
    data = dataset()
    demonstrations = Demonstrations(data, ROBOT, horizon=4)
    sample = demonstrations[1]
    assert set(sample.images) == {"top", "wrist"}, "a camera without a slot is not decoded"
    np.testing.assert_array_equal(sample.images["top"], data.frame("observation.images.top", 1))
    np.testing.assert_array_equal(sample.state, data.column("observation.state")[1])
    np.testing.assert_array_equal(sample.actions, data.column("action")[[1, 2, 2, 2]])
    assert sample.actions_is_pad is not None
    assert sample.actions_is_pad.tolist() == [False, False, True, True]
    assert sample.task == ROBOT.example_task


def test_optional_cameras_may_be_missing() -> None:
    assert set(Demonstrations(columns(), ROBOT, horizon=4)[0].images) == {"top"}


def test_fingerprints_change_with_what_statistics_depend_on() -> None:
    base = Demonstrations(dataset(), ROBOT, horizon=4).fingerprint
    assert Demonstrations(dataset(), ROBOT, horizon=4).fingerprint == base
    as_is = fla.Space(fla.joints("shoulder", "elbow"), fla.gripper())
    others = [
        Demonstrations(dataset(seed=1), ROBOT, horizon=4),
        Demonstrations(dataset(lengths=(4, 4)), ROBOT, horizon=4),
        Demonstrations(dataset(), ROBOT, horizon=5),
        Demonstrations(dataset(), attrs.evolve(ROBOT, action=as_is), horizon=4),
        Demonstrations(dataset(), attrs.evolve(ROBOT, control_mode="other"), horizon=4),
    ]
    assert len({base, *(other.fingerprint for other in others)}) == 6
