"""`fill`: what is loaded, what may begin anew, and what is refused, over made-up parameters."""

from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fla_sdk.errors import CheckpointError, UnknownNameError
from fla_sdk.policy.loading import fill

MODEL = {
    "vision/kernel": (3, 4),
    "language/w": (4, 5),
    "language/v": (5,),
    "language/w/lora_a": (4, 2),
    "projections/in": (6, 4),
    "projections/out": (4, 6),
    "projections/bias": (6,),
}


def _group(path: str) -> str:
    return "lora" if "lora" in path else path.split("/")[0]


def _arrays(shapes: dict[str, tuple[int, ...]], value: float, dtype: Any = np.float32) -> dict[str, np.ndarray]:
    return {path: np.full(shape, value, dtype) for path, shape in shapes.items()}


def _without(*parts: str) -> dict[str, tuple[int, ...]]:
    return {path: shape for path, shape in MODEL.items() if not any(part in path for part in parts)}


def _fill(given: dict[str, np.ndarray], **options: Any) -> Any:
    return fill(_arrays(MODEL, 0.0), given, group=_group, where="file", model="arm/base", **options)


def _refusal(given: dict[str, np.ndarray], **options: Any) -> str:
    with pytest.raises(CheckpointError, match=r"^file does not fit arm/base:") as caught:
        _fill(given, **options)
    return str(caught.value)


def test_everything_is_loaded_in_the_models_types() -> None:
    flat, report = _fill(_arrays(MODEL, 1.5, ml_dtypes.bfloat16))
    assert list(flat) == sorted(MODEL)
    for path, leaf in flat.items():
        np.testing.assert_array_equal(leaf, np.full(MODEL[path], 1.5, np.float32), strict=True, err_msg=path)
    assert report.counts(None, "loaded") == (7, 3 * 4 + 20 + 5 + 8 + 24 + 24 + 6)
    assert str(report).splitlines() == [
        "parameters of arm/base from file",
        "               loaded",
        "  language     25 in 2",
        "  lora         8 in 1",
        "  projections  54 in 3",
        "  vision       12 in 1",
        "  all          99 in 7",
    ]


def test_what_is_missing_begins_anew_only_when_asked() -> None:
    base = _arrays(_without("lora"), 1.0)
    said = _refusal(base)
    assert "lora: 1 of 1 are missing (language/w/lora_a); if they are to start anew, give --init-fresh lora" in said
    flat, report = _fill(base, fresh=["lora"])
    assert not flat["language/w/lora_a"].any()
    assert flat["language/w"].all()
    assert [leaf.path for leaf in report.of("initialised")] == ["language/w/lora_a"]
    assert "  initialised  language/w/lora_a (4, 2)" in str(report)
    said = _refusal(_arrays(_without("lora", "language"), 1.0), fresh=["lora"])
    assert "language: 2 of 2 are missing (language/v, language/w); if they are to start anew" in said
    assert "lora:" not in said
    with pytest.raises(UnknownNameError, match="unknown parameter group to start anew 'lore'; did you mean 'lora'"):
        _fill(base, fresh=["lore"])


def test_a_pattern_of_paths_begins_anew_whatever_there_is() -> None:
    given = _arrays({**MODEL, "projections/out": (9, 9)}, 1.5)
    flat, report = _fill(given, fresh=["projections/o*"])
    assert [leaf.path for leaf in report.of("initialised")] == ["projections/out"]
    assert not flat["projections/out"].any() and flat["projections/in"].all()
    del given["language/v"]
    assert "language: 1 of 2 are missing" in _refusal(given, fresh=["projections/o*"])
    with pytest.raises(UnknownNameError, match="parameter to start anew 'vision/kernal'; did you mean 'vision/kernel'"):
        _fill(given, fresh=["vision/kernal"])


def test_adapters_alone() -> None:
    said = _refusal(_arrays({"language/w/lora_a": (4, 2)}, 1.0))
    assert "adapters alone mean nothing; they need the base that they were trained with" in said
    assert "it holds no parameters" in _refusal({})


def test_what_the_model_lacks_is_reported_and_a_whole_group_of_it_refused() -> None:
    more = _arrays({**MODEL, "language/head": (2, 2)}, 1.0)
    _, report = _fill(more)
    assert [(leaf.path, leaf.shape) for leaf in report.of("ignored")] == [("language/head", (2, 2))]
    assert "  ignored      language/head (2, 2)" in str(report)
    said = _refusal(_arrays({**MODEL, "value/head": (2, 2)}, 1.0))
    assert "value: arm/base has no place for all 1 of the source (value/head)" in said
    plain = _arrays(_without("lora"), 0.0)
    with pytest.raises(CheckpointError, match=r"lora: arm has no place .*; choose a variant with adapters, or merge"):
        fill(plain, _arrays(MODEL, 1.0), group=_group, where="file", model="arm")


@given(st.integers(1, 12).filter(lambda width: width != 6))
def test_another_action_width(width: int) -> None:
    shapes = MODEL | {"projections/in": (width, 4), "projections/out": (4, width), "projections/bias": (width,)}
    given_ = _arrays(shapes, 1.0)
    said = _refusal(given_)
    assert f"projections: projections/in is ({width}, 4), arm/base has (6, 4)" in said
    assert "--init-resize cuts it or pads it with zeros" in said
    flat, report = _fill(given_, resize=True)
    common = min(width, 6)
    for path in ("projections/in", "projections/out", "projections/bias"):
        axis = MODEL[path].index(6)
        kept = np.moveaxis(flat[path], axis, 0)
        assert flat[path].shape == MODEL[path]
        assert (kept[:common] == 1).all()
        assert not kept[common:].any()
    assert len(report.of("resized")) == 3
    assert f"  resized      projections/in: ({width}, 4) to (6, 4)" in str(report)


@pytest.mark.parametrize(
    "change",
    [
        {"language/w": (4, 6)},
        {"projections/in": (7, 4), "projections/out": (4, 8)},
        {"projections/in": (7, 5)},
        {"projections/bias": (6, 1)},
    ],
)
def test_other_shapes_are_never_resized(change: dict[str, tuple[int, ...]]) -> None:
    path = next(iter(change))
    assert f"{path} is {change[path]}, arm/base has {MODEL[path]}" in _refusal(
        _arrays(MODEL | change, 1.0), resize=True
    )
