"""Images against the reference: resize with padding to the last bit, floats to bytes, bytes to the model's range.

The reference resizes a second time, on the device, what has not the model's size. Ours always has, because the codec
resizes: `<id>/jax_*` and `preprocess/*` of the golden file have no counterpart. Nor has `augment/*`, which turns on the
random numbers of one version of a library. The inputs of `batch/*` and `ResizeImages_56/*` are not recorded.
"""

import zlib
from typing import Any

import attrs
import numpy as np
from flax import nnx

from fla_models.configs import variants
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
    config = attrs.evolve(variants(pi05=True)["tiny"], image_size=(16, 16))
    model = nnx.eval_shape(lambda: Pi0(config, rngs=nnx.Rngs(0)))
    values = np.repeat(np.arange(256, dtype=np.uint8), 3).reshape(1, 16, 16, 3)
    slot = config.image_slots[0]
    pixels = model.PaliGemma.pixels(ModelInput({slot: values}, {}, None, None, None), slot)
    np.testing.assert_array_equal(np.asarray(pixels).reshape(256, 3)[:, 0], stored["from_dict_uint8_lut/jax"])
