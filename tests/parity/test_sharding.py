"""Which axis of which array is split over devices, as the reference decides it."""

from typing import Any

from fla_sdk.training.mesh import split_axis


def test_arrays(golden: Any) -> None:
    recorded = golden.json("fsdp")
    for decision in recorded["decisions"]:
        devices, least = decision["mesh_shape"]["fsdp"], decision["min_size_mbytes"]
        for (shape, dtype), expected in zip(recorded["arrays"], decision["axis"], strict=True):
            found = split_axis(shape, dtype, devices=devices, min_bytes=least << 20)
            assert found == expected, f"{shape} {dtype} over {devices} devices, at least {least} MiB"


def test_published_models(golden: Any) -> None:
    trees = golden.json("param_trees")["trees"]
    for name, axes in golden.json("fsdp")["full_trees_fsdp8_min4"].items():
        for path, expected in axes.items():
            shape, dtype = trees[name][path]
            assert split_axis(shape, dtype, devices=8) == expected, f"{name}: {path} {shape}"
