"""Configs recognised from shapes: of every variant, and of the published trees."""

from typing import Any

import attrs
import pytest

from fla_models.plugin import fla_models
from fla_models.published import NAMES, named_after, published
from fla_sdk.policy import parameters

FAMILIES = {family.name: family for family in fla_models()}
KNOWN = [name for name, family in FAMILIES.items() if family.recognise is not None]


def _recognised(shapes: dict[str, tuple[int, ...]]) -> dict[str, Any]:
    """Family -> config, of the families that take the shapes for theirs."""
    found = {name: family.recognise(shapes) for name, family in FAMILIES.items() if family.recognise is not None}
    return {name: config for name, config in found.items() if config is not None}


@pytest.mark.parametrize("name", KNOWN)
def test_every_variant_is_recognised_by_its_family_alone(name: str) -> None:
    family = FAMILIES[name]
    for variant, config in family.variants.items():
        found = _recognised(parameters.shapes(family, config))
        assert list(found) == [name], variant
        for field in ("language", "expert", "vocab_size", "image_size"):
            assert getattr(found[name], field, None) == getattr(config, field, None), f"{variant} {field}"
        sizes = attrs.evolve(config.vision, position_init="normal")
        assert found[name].vision == sizes, variant


@pytest.mark.parametrize("name", sorted(FAMILIES.keys() - set(KNOWN)))
def test_other_families_are_not_taken_for_these(name: str) -> None:
    for config in FAMILIES[name].variants.values():
        assert not _recognised(parameters.shapes(FAMILIES[name], config))


def test_what_is_no_model() -> None:
    assert not _recognised({})
    shapes = parameters.shapes(FAMILIES["pi05"], FAMILIES["pi05"].variants["tiny"])
    assert not _recognised({path: shape for path, shape in shapes.items() if "/img/" not in path})
    assert not _recognised({path: shape[:1] for path, shape in shapes.items()})


def test_names_change_fields_that_their_family_has() -> None:
    for name, named in NAMES.items():
        base = FAMILIES[named.family].variants["base"]
        assert attrs.evolve(base, **named.options) != base or not named.options, name
    names = {one.name for family in KNOWN for one in published(family)}
    assert {"pi0_base", "pi05_base", "pi05_droid", "pi05_libero", "pi0_fast_base", "pt_224.npz"} <= names


def test_a_checkpoint_is_named_after_a_folder_around_it(tmp_path: Any) -> None:
    assert named_after(tmp_path / "pi05_droid") == ("pi05_droid", NAMES["pi05_droid"])
    assert named_after(tmp_path / "pi05_libero" / "my_experiment" / "2000") == ("pi05_libero", NAMES["pi05_libero"])
    assert named_after(tmp_path / "pi05_dried") is None
