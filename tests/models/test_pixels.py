"""Resizing on the device and augmentation, where there is nothing recorded to compare with."""

import colorsys
from typing import Any

import attrs
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fla_models import pixels
from fla_models.configs import Augmentation
from fla_sdk import transforms
from fla_sdk.errors import ConfigError

STILL = Augmentation(crop=1.0, rotation=0.0, brightness=0.0, contrast=0.0, saturation=0.0, hue=0.0, chance=1.0)
IMAGES = np.random.default_rng(0).uniform(-1, 1, (3, 24, 32, 3)).astype(np.float32)


def augment(how: Augmentation, *, seed: int = 0, fixed_camera: bool = True, images: Any = IMAGES) -> np.ndarray:
    return np.asarray(
        pixels.augment(
            jax.random.split(jax.random.key(seed), len(images)), jnp.asarray(images), how, fixed_camera=fixed_camera
        )
    )


@pytest.mark.parametrize(("height", "width"), [(16, 24), (48, 64), (64, 48), (1, 60), (60, 1), (7, 5)])
def test_resize_agrees_with_the_codecs(height: int, width: int) -> None:
    image = np.random.default_rng(height * 61 + width).integers(0, 256, (height, width, 3), np.uint8)
    ours = np.asarray(pixels.resize_with_pad(jnp.asarray(image), 16, 24), np.int64)
    assert np.abs(ours - transforms.resize_with_pad(image, 16, 24)).max() <= 4


def test_no_strength_changes_nothing() -> None:
    np.testing.assert_allclose(augment(STILL), IMAGES, atol=2e-6)
    strong = attrs.evolve(STILL, brightness=0.5, hue=0.2, chance=0.0)
    np.testing.assert_allclose(augment(strong), IMAGES, atol=2e-6)


def test_each_sample_is_disturbed_in_its_own_way_and_repeatably() -> None:
    same = np.repeat(IMAGES[:1], 3, axis=0)
    found = augment(attrs.evolve(Augmentation(), chance=1.0), images=same)
    assert np.abs(found[0] - found[1]).max() > 0.1
    np.testing.assert_array_equal(found, augment(attrs.evolve(Augmentation(), chance=1.0), images=same))
    assert found.min() >= -1 - 1e-6 and found.max() <= 1 + 1e-6


def test_a_wrist_camera_keeps_its_geometry() -> None:
    moved = attrs.evolve(STILL, crop=0.5, rotation=45.0)
    np.testing.assert_allclose(augment(moved, fixed_camera=False), IMAGES, atol=2e-6)
    assert np.abs(augment(moved) - IMAGES).max() > 0.1


def test_colours_move_in_hsv() -> None:
    """Hue alone: value and saturation stay, and every pixel turns by the same part of the circle."""
    found = augment(attrs.evolve(STILL, hue=0.3), fixed_camera=False)
    for before, after in zip(IMAGES / 2 + 0.5, found / 2 + 0.5, strict=True):
        old = np.array([colorsys.rgb_to_hsv(*pixel) for pixel in before.reshape(-1, 3)[:40]])
        new = np.array([colorsys.rgb_to_hsv(*pixel) for pixel in after.reshape(-1, 3)[:40]])
        np.testing.assert_allclose(new[:, 1:], old[:, 1:], atol=1e-4)
        turns = (new[:, 0] - old[:, 0] + 0.5) % 1 - 0.5
        assert np.ptp(turns) < 1e-3
        assert 0 < abs(turns[0]) <= 0.3


def test_grey_has_no_colour_to_vary() -> None:
    grey = np.repeat(IMAGES[..., :1], 3, axis=-1)
    found = augment(attrs.evolve(STILL, saturation=0.0, hue=0.5), images=grey, fixed_camera=False)
    np.testing.assert_allclose(found, grey, atol=2e-6)


def test_what_makes_no_sense_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"crop is 1\.5, must be from 0\.1 to 1"):
        Augmentation(crop=1.5)
