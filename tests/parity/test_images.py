"""Images against the reference: resized with padding on both sides, brought to the model's range, and disturbed.

The inputs of `batch/*` and `ResizeImages_56/*` are not recorded.
"""

import zlib
from typing import Any

import attrs
import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from fla_models import pixels
from fla_models.configs import SLOTS, Augmentation, variants
from fla_models.paligemma import PaliGemma
from fla_models.pi0 import Pi0
from fla_sdk import transforms
from fla_sdk.model import ModelInput


def _input(case: dict[str, Any]) -> np.ndarray:
    """The image that the reference run was given."""
    height, width = case["size_hw"]
    if case["kind"] == "noise":
        image = np.random.default_rng(case["seed"]).integers(0, 256, (height, width, 3), dtype=np.uint8)
    else:
        y, x, c = np.meshgrid(np.arange(height), np.arange(width), np.arange(3), indexing="ij")
        image = ((x * (3 + c) + y * (5 - c) + (x * y) // 64) % 256).astype(np.uint8)
    assert zlib.crc32(image.tobytes()) == case["input_crc32"]
    return image


def test_resize_with_pad(golden: Any) -> None:
    stored = golden.npz("images")
    for case in golden.json("images")["cases"]:
        what = f"case {case['id']}: {case['size_hw']} to {case['target_hw']}"
        image = _input(case)
        image.flags.writeable = False
        resized = transforms.resize_with_pad(image, *case["target_hw"])
        assert resized.shape == (*case["target_hw"], 3), what
        if "error" in case["pil"]:  # too narrow for the reference, which would draw it with no rows at all
            continue
        stride = case["stored_stride"]
        np.testing.assert_array_equal(resized[::stride, ::stride], stored[f"{case['id']}/pil"], err_msg=what)
        assert int(resized.sum()) == case["pil"]["sum"], what
        assert zlib.crc32(resized.tobytes()) == case["pil"]["crc32"], what


def test_float_images_are_truncated(golden: Any) -> None:
    stored = golden.npz("images")
    image, expected = stored["convert_to_uint8/in"], stored["convert_to_uint8/out"]
    np.testing.assert_array_equal(transforms.to_image(image), expected)
    np.testing.assert_array_equal(transforms.to_image(image.transpose(2, 0, 1)), expected)


def test_bytes_become_the_range_of_the_model(golden: Any) -> None:
    stored = golden.npz("images")
    values = np.repeat(np.arange(256, dtype=np.uint8), 3).reshape(1, 16, 16, 3)
    found = _backbone(16).pixels(_inputs({SLOTS[0]: values}), SLOTS[0])
    # One unit in the last place: compilers may divide by 255 in their own way.
    np.testing.assert_allclose(
        np.asarray(found).reshape(256, 3)[:, 0], stored["from_dict_uint8_lut/jax"], rtol=0, atol=1.3e-7
    )


def test_resize_on_the_device(golden: Any) -> None:
    stored = golden.npz("images")
    for case in golden.json("images")["cases"]:
        if "error" in case["pil"]:
            continue
        what = f"case {case['id']}: {case['size_hw']} to {case['target_hw']}"
        image, stride = _input(case), case["stored_stride"]
        resized = np.asarray(pixels.resize_with_pad(jnp.asarray(image), *case["target_hw"]), np.int64)
        expected = stored[f"{case['id']}/jax_uint8"].astype(np.int64)
        assert np.abs(resized[::stride, ::stride] - expected).max() <= 1, what
        assert abs(resized.sum() - case["jax_uint8"]["sum"]) <= 1e-5 * case["jax_uint8"]["sum"], what
        floats = np.asarray(pixels.resize_with_pad(jnp.asarray(image / np.float32(255) * 2 - 1), *case["target_hw"]))
        golden.close(floats[::stride, ::stride, 1], stored[f"{case['id']}/jax_float32"], within=1e-5, what=what)
        np.testing.assert_allclose(np.abs(floats).sum(), case["jax_float32"]["abs_sum"], rtol=1e-4, err_msg=what)


def test_images_of_any_size_reach_the_model_as_those_of_the_reference(golden: Any) -> None:
    stored = golden.npz("images")
    inputs = _inputs({slot: stored[f"preprocess/in/image/{slot}"] for slot in SLOTS})
    for slot in SLOTS:
        found = np.asarray(_backbone(224).pixels(inputs, slot))[:, ::16, ::16]
        golden.close(found, stored[f"preprocess/out/image_stride16/{slot}"], within=1e-5, what=slot)


def test_augmentation(golden: Any) -> None:
    """All cameras with the same random numbers, as the reference has it; `fixed` differs there and in saturation."""
    stored = golden.npz("images")
    cells = {slot: stored[f"augment/in_cells16/{slot}"] for slot in SLOTS}
    inputs = _inputs({slot: cell.repeat(16, axis=1).repeat(16, axis=2) for slot, cell in cells.items()})
    augmented = _backbone(224, augment=Augmentation(), compat="openpi").augmented(
        jax.random.key(int(stored["augment/key_seed"])), inputs
    )
    for slot in SLOTS:
        found = np.asarray(augmented.images[slot])
        golden.close(found[:, 4::16, 4::16], stored[f"augment/out_stride16/{slot}"], within=1e-4, what=slot)
        summary = [found.mean(), found.std(), found.min(), found.max()]
        np.testing.assert_allclose(summary, stored[f"augment/out_mean_std_min_max/{slot}"], atol=1e-4, err_msg=slot)


def _backbone(size: int, **options: Any) -> PaliGemma:
    config = attrs.evolve(variants(pi05=True)["tiny"], image_size=(size, size), **options)
    return nnx.eval_shape(lambda: Pi0(config, rngs=nnx.Rngs(0))).PaliGemma


def _inputs(images: dict[str, np.ndarray]) -> ModelInput:
    return ModelInput(images, {}, None, None, None)
