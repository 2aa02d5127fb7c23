"""lerobot's layout written and read by us alone: nothing is lost, and what does not fit is refused."""

import itertools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import fla_sdk as fla
from fla_models.configs import LoraConfig, Pi0Config, Pi0FastConfig
from fla_models.formats import lerobot
from fla_models.formats.correspondence import Entry
from fla_models.plugin import fla_models
from fla_sdk.embodiment import Conversion
from fla_sdk.errors import CheckpointError, ConfigError
from fla_sdk.normalization import NormStats, Stats

Random = Callable[[Pi0Config], dict[str, Any]]
ARM = fla.Embodiment(
    name="arm",
    state=fla.Space(fla.joints("hip", "knee"), fla.gripper()),
    action=fla.Space(fla.joints("hip", "knee", predict="relative"), fla.gripper()),
    cameras=(fla.Camera("top", slot="base_0_rgb"),),
    control_hz=20,
)


def _stats(width: int = 3, *, quantiles: bool = True) -> NormStats:
    numbers = np.random.default_rng(3)
    one = Stats.of(numbers.normal(size=(50, width)))
    return NormStats(state=one if quantiles else attrs.evolve(one, q01=None, q99=None), actions=one)


def _export(config: Pi0Config, parameters: dict[str, Any], out: Path, *, robot: bool = False) -> Path:
    lerobot.export(config, parameters, [(ARM, _stats())] if robot else [], out)
    return out


def _edit(folder: Path, change: Callable[[dict[str, np.ndarray]], dict[str, np.ndarray]]) -> None:
    from safetensors.numpy import load_file, save_file

    file = folder / "model.safetensors"
    save_file(change(load_file(file)), file)


@given(st.permutations("ABCD"), st.permutations("ABCD"), st.sets(st.integers(1, 3)), st.sampled_from(["", "A", "C"]))
def test_axes_work_both_ways(ours: list[str], theirs: list[str], cuts: set[int], free: str) -> None:
    sizes = dict(zip("ABCD", (2, 3, 4, 5), strict=True))
    bounds = [0, *sorted(cuts), 4]
    groups = ["".join(theirs[a:b]) for a, b in itertools.pairwise(bounds)]
    known = {letter: size for letter, size in sizes.items() if letter != free}
    entry = Entry("path", ("name",), f"{''.join(ours)}->{','.join(groups)}", known)
    array = np.random.default_rng(0).standard_normal([sizes[letter] for letter in ours])
    there = entry.from_ours(array)
    want = np.einsum(f"{''.join(ours)}->{''.join(theirs)}", array)
    np.testing.assert_array_equal(there.ravel(), want.ravel())
    assert there.shape == tuple(int(np.prod([sizes[letter] for letter in group])) for group in groups)
    np.testing.assert_array_equal(entry.to_ours(there), array)
    if groups[-1] != free:
        assert entry.lengths((*there.shape[:-1], there.shape[-1] * 2 + 1)) is None


@pytest.mark.parametrize("dtype", [np.float32, ml_dtypes.bfloat16], ids=["float32", "bfloat16"])
def test_there_and_back_is_bit_exact(config: Pi0Config, random_parameters: Random, dtype: Any, tmp_path: Path) -> None:
    before = {path: array.astype(dtype) for path, array in random_parameters(config).items()}
    folder = _export(config, before, tmp_path / "policy")
    assert lerobot.config_of(folder) == ("pi05" if config.pi05 else "pi0", config)
    for path in (folder, folder / "model.safetensors"):
        after = lerobot.read_weights(path, config)
        assert after is not None and after.keys() == before.keys()
        assert all(after[name].dtype == dtype and np.array_equal(after[name], before[name]) for name in before)


def test_the_family_writes_and_reads_it(config: Pi0Config, random_parameters: Random, tmp_path: Path) -> None:
    before = random_parameters(config)
    family = next(one for one in fla_models() if one.name == ("pi05" if config.pi05 else "pi0"))
    family.exporters["lerobot"](config, before, [(ARM, _stats())], tmp_path / "policy")
    assert family.read_weights is not None
    after = family.read_weights(tmp_path / "policy", config)
    assert after is not None and all(np.array_equal(after[name], before[name]) for name in before)
    assert family.read_weights(tmp_path, config) is None


def _without_prefix(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """As openpi's PyTorch port writes them."""
    return {name.removeprefix("model."): array for name, array in arrays.items()}


def _with_both_tables(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """As lerobot's training leaves them: the output layer never changes, the embedding does."""
    head = "model.paligemma_with_expert.paligemma.lm_head.weight"
    table = head.replace("lm_head", "model.language_model.embed_tokens")
    return arrays | {table: arrays[head], head: np.zeros_like(arrays[head])}


def _of_old(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """As lerobot wrote them before 0.4, with statistics among them."""
    start = "model.paligemma_with_expert.paligemma."
    renamed = {}
    for name, array in arrays.items():
        name = name.replace(f"{start}lm_head", f"{start}language_model.lm_head")
        name = name.replace(f"{start}model.language_model.", f"{start}language_model.model.")
        renamed[name.replace(f"{start}model.", start)] = array
    return renamed | {"normalize_inputs.buffer_observation_state.mean": np.zeros(3, np.float32)}


@pytest.mark.parametrize("change", [_without_prefix, _with_both_tables, _of_old])
def test_other_spellings(config: Pi0Config, random_parameters: Random, change: Any, tmp_path: Path) -> None:
    before = random_parameters(config)
    folder = _export(config, before, tmp_path / "policy")
    _edit(folder, change)
    after = lerobot.read_weights(folder, config)
    assert after is not None and after.keys() == before.keys()
    assert all(np.array_equal(after[name], before[name]) for name in before)


def test_options_that_only_the_config_has(config: Pi0Config, random_parameters: Random, tmp_path: Path) -> None:
    options = {"horizon": 9, "max_tokens": 77, "time_alpha": 2.0, "dtype": "bfloat16"}
    given = attrs.evolve(config, **options, state_in_prompt=not config.pi05)
    found = lerobot.config_of(_export(given, random_parameters(given), tmp_path / "policy"))
    assert found is not None
    assert found[1] == given


def test_a_policy_of_the_other_family_is_refused(config: Pi0Config, random_parameters: Random, tmp_path: Path) -> None:
    folder = _export(config, random_parameters(config), tmp_path / "policy")
    holds, other = ("pi05", "pi0") if config.pi05 else ("pi0", "pi05")
    with pytest.raises(CheckpointError, match=f"holds a {holds} model, not a {other}: .* family {holds}"):
        lerobot.read_weights(folder, attrs.evolve(config, pi05=not config.pi05))


def test_other_folders_are_not_ours(config: Pi0Config, tmp_path: Path) -> None:
    from safetensors.numpy import save_file

    assert lerobot.read_weights(tmp_path, config) is None
    assert lerobot.config_of(tmp_path) is None
    save_file({"model.embed_tokens.weight": np.zeros((3, 2), np.float32)}, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text("{}")
    assert lerobot.read_weights(tmp_path, config) is None
    assert lerobot.config_of(tmp_path) is None


def test_damage_is_named(config: Pi0Config, random_parameters: Random, tmp_path: Path) -> None:
    folder = _export(config, random_parameters(config), tmp_path / "policy")
    _edit(folder, lambda arrays: {name: a for name, a in arrays.items() if "gemma_expert.model.layers.2." not in name})
    with pytest.raises(CheckpointError, match=r"holds 2 of 3 layers under expert\.layers\.; missing: 2"):
        lerobot.read_weights(folder, config)
    (folder / "config.json").write_text(json.dumps({"type": "pi0", "paligemma_variant": "gemma_9b"}))
    with pytest.raises(CheckpointError, match=r"config\.json is damaged or of another kind of policy: KeyError"):
        lerobot.config_of(folder)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"tokenizer": "words"}, "tokenizer is words, lerobot has paligemma"),
        ({"vocab_size": 131}, "vocab_size is 131, lerobot has 130"),
        ({"image_size": (8, 12)}, r"image_size is \(8, 12\), lerobot takes squares"),
        ({"causal_prompt": True}, "causal_prompt is True"),
    ],
)
def test_what_lerobot_cannot_build(
    config: Pi0Config, random_parameters: Random, changes: dict[str, Any], says: str, tmp_path: Path
) -> None:
    changed = attrs.evolve(config, **changes)
    with pytest.raises(ConfigError, match=says):
        _export(changed, random_parameters(changed), tmp_path / "policy")
    assert not list(tmp_path.iterdir())


def test_adapters_other_families_and_other_parameters(
    config: Pi0Config, random_parameters: Random, tmp_path: Path
) -> None:
    lora = attrs.evolve(config, expert=attrs.evolve(config.expert, lora_mlp=LoraConfig(rank=2)))
    with pytest.raises(ConfigError, match=r"merge them .*--merge-lora"):
        _export(lora, random_parameters(lora), tmp_path / "policy")
    deep = attrs.evolve(config, **{p: attrs.evolve(getattr(config, p), depth=4) for p in ("language", "expert")})
    with pytest.raises(ConfigError, match=r"language is .*depth=4.*lerobot builds gemma_2b or gemma_300m"):
        _export(deep, random_parameters(deep), tmp_path / "policy")
    fast: Any = Pi0FastConfig(vision=config.vision, language=config.language)
    with pytest.raises(ConfigError, match="pi0 and pi05 alone, not for a Pi0FastConfig"):
        _export(fast, {}, tmp_path / "policy")
    parameters = random_parameters(config)
    other = {path.replace("action_in_proj/bias", "slots/embedding"): array for path, array in parameters.items()}
    with pytest.raises(ConfigError, match="missing action_in_proj/bias; extra slots/embedding"):
        _export(config, other, tmp_path / "policy")
    wider = parameters | {"action_in_proj/kernel": np.zeros((5, 17), np.float32)}
    with pytest.raises(CheckpointError, match=r"action_in_proj/kernel has shape \(5, 17\), the config says \(5, 16\)"):
        _export(config, wider, tmp_path / "policy")
    assert not list(tmp_path.iterdir())


def test_a_place_that_is_taken(config: Pi0Config, random_parameters: Random, tmp_path: Path) -> None:
    (tmp_path / "notes").write_text("mine")
    with pytest.raises(ConfigError, match="not an empty folder"):
        _export(config, random_parameters(config), tmp_path)


def test_robots_that_lerobot_cannot_drive(config: Pi0Config, random_parameters: Random, tmp_path: Path) -> None:
    parameters = random_parameters(config)

    def refused(says: str, *robots: tuple[fla.Embodiment, NormStats]) -> None:
        with pytest.raises(ConfigError, match=says):
            lerobot.export(config, parameters, robots, tmp_path / "policy")

    refused("for one robot, this checkpoint is for arm, arm: choose", (ARM, _stats()), (ARM, _stats()))

    def same(x: Any) -> Any:
        return x

    functions = Conversion(state_to_model=same, actions_to_model=same, actions_from_model=same)
    refused("'arm' converts its numbers", (attrs.evolve(ARM, conversion=functions), _stats()))
    turned = attrs.evolve(ARM, state=fla.Space(fla.gripper(), fla.joints("hip", "knee")))
    refused(r"predicts hip, knee relative .*state \(gripper, hip, knee\)", (turned, _stats()))
    if config.pi05:
        refused("needs the 1st and 99th percentile", (ARM, _stats(quantiles=False)))


def test_only_actions_that_are_relative_are_marked_so(
    config: Pi0Config, random_parameters: Random, tmp_path: Path
) -> None:
    folder = _export(config, random_parameters(config), tmp_path / "policy", robot=True)
    policy = json.loads((folder / "config.json").read_text())
    assert policy["action_feature_names"] == ["hip:relative", "knee:relative", "gripper:as_is"]
    assert policy["use_relative_actions"] and policy["relative_exclude_joints"] == [":as_is"]
    assert policy["input_features"]["observation.images.top"]["shape"] == [3, 8, 8]
    assert "prompts of the form `{task}`" in (folder / "README.md").read_text()
