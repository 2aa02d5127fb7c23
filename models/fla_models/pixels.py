"""Images on the device: to the model's range, to its size, and disturbed while it learns."""

import jax
import jax.numpy as jnp

from fla_models.configs import Augmentation


def to_range(image: jax.Array) -> jax.Array:
    """uint8 to float32 in [-1, 1]; floats are taken to be there already. openpi-compatible."""
    if image.dtype == jnp.uint8:
        return image.astype(jnp.float32) / 255.0 * 2.0 - 1.0
    return image.astype(jnp.float32)


def resize_with_pad(images: jax.Array, height: int, width: int) -> jax.Array:
    """`[..., h, w, 3]` to `[..., height, width, 3]`: as large as fits, in the middle of black. openpi-compatible.

    Bilinear with antialiasing, as `fla_sdk.transforms.resize_with_pad` does it on bytes, from which it differs by up to
    a few levels. Floats are taken to be in [-1, 1] and stay there.
    """
    *batch, h, w, colours = images.shape
    ratio = max(w / width, h / height)
    inner = (max(1, int(h / ratio)), max(1, int(w / ratio)))
    small = jax.image.resize(images.astype(jnp.float32), (*batch, *inner, colours), jax.image.ResizeMethod.LINEAR)
    if images.dtype == jnp.uint8:
        small, black = jnp.clip(jnp.round(small), 0, 255).astype(jnp.uint8), 0
    else:
        small, black = jnp.clip(small, -1.0, 1.0), -1.0
    top, left = (height - inner[0]) // 2, (width - inner[1]) // 2
    around = [(0, 0)] * len(batch) + [(top, height - inner[0] - top), (left, width - inner[1] - left), (0, 0)]
    return jnp.pad(small, around, constant_values=black)


def augment(
    keys: jax.Array, images: jax.Array, how: Augmentation, *, fixed_camera: bool, saturate: bool = True
) -> jax.Array:
    """float32 `[B, H, W, 3]` in [-1, 1], every sample disturbed in its own way. openpi-compatible.

    Images of a fixed camera are cropped, turned and brought back to their size in one bilinear resampling, with black
    beyond the border; those of a wrist camera, which moves with what it looks at, keep their geometry. The colours of
    both vary in HSV with `how.chance`. One key per image.
    """

    def one(key: jax.Array, image: jax.Array) -> jax.Array:
        if fixed_camera:
            geometry, colour = jax.random.split(key)
            image = _move(geometry, image, how)
        else:
            (colour,) = jax.random.split(key, 1)
        return _colour(colour, image, how, saturate=saturate)

    return jax.vmap(one)(keys, images / 2.0 + 0.5) * 2.0 - 1.0


def _move(rng: jax.Array, image: jax.Array, how: Augmentation) -> jax.Array:
    height, width, _ = image.shape
    crop_rng, _, turn_rng = jax.random.split(rng, 3)
    size = jnp.array([height, width])
    kept = jnp.array([int(height * how.crop), int(width * how.crop)])
    offset = jax.random.uniform(crop_rng, (2,), minval=-1.0, maxval=1.0) * (size - kept) / 2
    angle = jnp.deg2rad(jax.random.uniform(turn_rng, (), minval=-how.rotation, maxval=how.rotation))
    turn = jnp.array([[jnp.cos(angle), jnp.sin(angle)], [-jnp.sin(angle), jnp.cos(angle)]])
    centre = (size - 1) / 2
    grid = jnp.stack(jnp.meshgrid(jnp.arange(height), jnp.arange(width), indexing="ij"), axis=-1) - centre
    y, x = jnp.moveaxis(grid @ turn.T * (kept / size) + offset + centre, -1, 0)
    sample = jax.vmap(lambda channel: jax.scipy.ndimage.map_coordinates(channel, [y, x], order=1), -1, -1)
    return sample(image)


def _colour(rng: jax.Array, image: jax.Array, how: Augmentation, *, saturate: bool) -> jax.Array:
    (rng,) = jax.random.split(rng, 1)
    brightness_rng, contrast_rng, hue_rng, saturation_rng, _ = jax.random.split(rng, 5)

    def amount(key: jax.Array, limit: float) -> jax.Array:
        return jax.random.uniform(key, (), minval=-limit, maxval=limit)

    hue, saturation, value = _to_hsv(image)
    value = _brighten(value, amount(brightness_rng, how.brightness))
    value = _contrast(value, amount(contrast_rng, how.contrast))
    hue = (hue + amount(hue_rng, how.hue)) % 1.0
    if saturate:
        saturation = _brighten(saturation, amount(saturation_rng, how.saturation))
    return jnp.where(jax.random.bernoulli(rng, how.chance), _to_rgb(hue, saturation, value), image)


def _brighten(value: jax.Array, by: jax.Array) -> jax.Array:
    """Towards 0 for negative `by`, towards 1 for positive."""
    return jnp.where(by < 0, value * (1 + by), value * (1 - by) + by)


def _contrast(value: jax.Array, by: jax.Array) -> jax.Array:
    """A curve through (0, 0), (1/2, 1/2) and (1, 1) of slope `tan((by + 1) pi/4)` in the middle and its inverse at the
    ends.
    """
    slope = jnp.tan((by + 1) * jnp.pi / 4)
    # Slope 1 makes 0/0 of the knee, which then does not matter.
    knee = (slope - slope**2) / jnp.where(slope == 1, 1, 2 * (1 - slope**2))
    middle = slope * (value - 0.5) + 0.5
    return jnp.where(value < knee, value / slope, jnp.where(value > 1 - knee, value / slope + 1 - 1 / slope, middle))


def _to_hsv(image: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Hue in turns, saturation and value, `[H, W]` each, of RGB `[H, W, 3]` in [0, 1]."""
    red, green, blue = jnp.moveaxis(image, -1, 0)
    high, low = image.max(-1), image.min(-1)
    spread = high - low
    safe = jnp.where(spread == 0, 1, spread)
    sector = jnp.where(
        high == red,
        ((green - blue) / safe) % 6,
        jnp.where(high == green, (blue - red) / safe + 2, (red - green) / safe + 4),
    )
    return jnp.where(spread == 0, 0, sector / 6), jnp.where(high == 0, 0, spread / jnp.where(high == 0, 1, high)), high


def _to_rgb(hue: jax.Array, saturation: jax.Array, value: jax.Array) -> jax.Array:
    """The inverse of `_to_hsv`."""

    def channel(shift: float) -> jax.Array:
        position = (shift + hue * 6) % 6
        return value - value * saturation * jnp.clip(jnp.minimum(position, 4 - position), 0, 1)

    return jnp.stack([channel(5.0), channel(3.0), channel(1.0)], axis=-1)
