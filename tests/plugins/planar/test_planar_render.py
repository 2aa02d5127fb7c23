"""What the picture shows: every target in its colour and at its place, and the arm."""

import numpy as np
import pytest
from numpy.typing import NDArray

from fla_plugins.planar.arm import ARMS
from fla_plugins.planar.environment import make
from fla_plugins.planar.render import TABLE, Canvas
from fla_plugins.planar.scene import COLOURS


def pixels_like(image: NDArray[np.uint8], colour: tuple[int, int, int]) -> NDArray[np.bool_]:
    return np.abs(image.astype(int) - colour).max(-1) < 24


@pytest.mark.parametrize("size", [64, 96])
@pytest.mark.parametrize("name", ARMS)
def test_every_target_is_seen_at_its_place(name: str, size: int) -> None:
    environment = make(name, image_size=size)
    rng = np.random.default_rng(0)
    for seed in range(60):
        environment.reset(seed)
        for _ in range(seed % 8):
            environment.step(environment.joints + rng.uniform(-0.2, 0.2, environment.arm.joints))
        image = environment.observe()["images/front"]
        area = np.pi * (environment.rules.target_radius * size) ** 2
        for centre, colour in zip(environment.scene.targets, COLOURS.values(), strict=True):
            rows, columns = np.nonzero(pixels_like(image, colour))
            assert len(rows) > 0.3 * area, f"seed {seed}: the arm hides a target"
            seen = np.array([columns.mean() + 0.5, size - rows.mean() - 0.5]) / size
            assert np.linalg.norm(seen - centre) < 0.5 * environment.rules.target_radius


@pytest.mark.parametrize("name", ARMS)
def test_the_arm_is_seen_where_it_is(name: str) -> None:
    environment = make(name)
    environment.reset(0)
    image = environment.observe()["images/front"]
    for x, y in environment.arm.forward(environment.joints):
        assert pixels_like(image, environment.arm.colour)[int(64 * (1 - y)), int(64 * x)]
    before = image.copy()
    environment.step(environment.joints + 0.2)
    assert not np.array_equal(environment.observe()["images/front"], before)


@pytest.mark.parametrize("name", ARMS)
def test_no_trace_of_the_arm_stays_behind(name: str) -> None:
    environment, fresh = make(name), make(name)
    environment.reset(0)
    fresh.reset(0)
    for _ in range(6):
        environment.observe()
        for one in (environment, fresh):
            one.step(one.joints + 0.1)
    np.testing.assert_array_equal(environment.observe()["images/front"], fresh.observe()["images/front"])


def test_the_picture_for_people_rings_the_goal_not_what_was_said() -> None:
    plain, swap, blank = (make("planar3", ablation=ablation) for ablation in (None, "swap", "blank"))
    for environment in (plain, swap, blank):
        environment.reset(3)
    np.testing.assert_array_equal(plain.render(), swap.render())
    np.testing.assert_array_equal(plain.render(), blank.render())


def test_a_disc_covers_its_area() -> None:
    canvas = Canvas(64)
    canvas.clear((0, 0, 0))
    canvas.disc((0.4, 0.7), 0.1, (200, 200, 200))
    assert canvas.pixels[..., 0].sum() / 200 == pytest.approx(np.pi * 6.4**2, rel=0.02)
    rows, columns = np.nonzero(canvas.image()[..., 0])
    assert (columns.mean() + 0.5) / 64 == pytest.approx(0.4, abs=0.01)
    assert 1 - (rows.mean() + 0.5) / 64 == pytest.approx(0.7, abs=0.01)


def test_a_line_and_a_ring_cover_theirs() -> None:
    canvas = Canvas(128)
    canvas.clear((0, 0, 0))
    canvas.line((0.2, 0.3), (0.7, 0.6), 0.03, (100, 100, 100))
    length = np.hypot(0.5, 0.3)
    assert canvas.pixels[..., 0].sum() / 100 == pytest.approx((0.06 * length + np.pi * 0.03**2) * 128**2, rel=0.02)
    canvas.clear((0, 0, 0))
    canvas.ring((0.5, 0.5), 0.3, 0.04, (100, 100, 100))
    assert canvas.pixels[..., 0].sum() / 100 == pytest.approx(2 * np.pi * 0.3 * 0.04 * 128**2, rel=0.02)


@pytest.mark.parametrize("start", [(-0.5, 0.5), (1.5, 1.5), (0.5, -0.02), (5.0, 0.5)])
def test_shapes_beyond_the_edge_are_cut_off(start: tuple[float, float]) -> None:
    canvas = Canvas(32)
    canvas.line(start, (start[0], start[1] + 0.1), 0.05, (0, 0, 0))
    if max(np.abs(np.subtract(start, 0.5))) > 0.6:
        np.testing.assert_array_equal(canvas.image(), np.broadcast_to(TABLE, (32, 32, 3)))
    else:
        assert (canvas.image() != TABLE).any()
