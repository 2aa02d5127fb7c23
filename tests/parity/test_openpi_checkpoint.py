"""A checkpoint of openpi read by us: parameters, loss, samples, actions for a robot. And ours, read by Orbax."""

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import attrs
import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
import pytest
from flax import nnx, traverse_util

from fla_embodiments import aloha, libero
from fla_models import plugin
from fla_models.configs import Pi0Config
from fla_models.pi0 import Pi0
from fla_sdk import hookimpl
from fla_sdk.config import unstructure
from fla_sdk.plugins import Registry
from fla_sdk.policy import checkpoint, parameters
from fla_sdk.policy.opening import open_policy
from fla_sdk.policy.policy import Policy
from fla_sdk.records import ModelFamily
from fla_sdk.testing import CharacterTokenizer

ROBOTS = {"libero": libero.LIBERO, "aloha": aloha.ALOHA}


class Saved(NamedTuple):
    """openpi's checkpoint on disk, what is known about it, and our reading of it."""

    folder: Path
    about: dict[str, Any]
    want: dict[str, Any]
    config: Pi0Config
    params: dict[str, Any]


@pytest.fixture(scope="module")
def saved(golden: Any, tmp_path_factory: pytest.TempPathFactory) -> Saved:
    folder, config, about = golden.checkpoint(tmp_path_factory.mktemp("openpi"))
    return Saved(folder, about, golden.npz("checkpoint_expected"), config, checkpoint.read_params(folder))


def _model(saved: Saved) -> tuple[Any, dict[str, Any]]:
    graph, expected = parameters.split(nnx.eval_shape(lambda: Pi0(saved.config, rngs=nnx.Rngs(0))))
    parameters.check(saved.params, expected, where=str(saved.folder))
    return graph, expected


def test_the_newest_checkpoint_is_found(saved: Saved) -> None:
    assert checkpoint.find(saved.folder.parent) == saved.folder


def test_every_parameter_is_restored(saved: Saved, golden: Any) -> None:
    _, expected = _model(saved)
    assert list(saved.params) == list(expected)
    dtypes = json.loads(str(saved.want["params_dtypes_json"]))
    assert {path: str(leaf.dtype) for path, leaf in saved.params.items()} == dtypes
    ignored = sum(path.endswith("MultiHeadDotProductAttention_0/key/bias") for path in saved.params)
    compared = golden.same_leaves(saved.params, saved.want, "params", l2=1e-6, projection=1e-6)
    assert compared == len(saved.params) - ignored


def test_loss_and_samples_of_the_restored_model(saved: Saved, golden: Any) -> None:
    graph, _ = _model(saved)
    z = saved.want
    batch, rng = golden.batch(z, "in/"), jax.random.key(int(z["in/loss_key_seed"]))

    def answer(params: Mapping[str, Any]) -> tuple[jax.Array, jax.Array]:
        model = parameters.merge(graph, params)
        return model.loss(rng, batch).steps, model.sample(rng, batch.inputs, steps=10, noise=z["in/sample_noise"])

    params = {path: jnp.asarray(leaf, jnp.float32) for path, leaf in saved.params.items()}
    loss, actions = jax.jit(answer)(params)
    golden.close(loss, z["model_f32/loss"], within=5e-5, what="loss")
    golden.close(actions, z["model_f32/sample_10"], within=5e-5, what="samples")


class _Shifted(CharacterTokenizer):
    """The tokenizer of the recorded policy, whose ids fit into a small vocabulary; remembers texts."""

    def __init__(self, description: str) -> None:
        rule = re.fullmatch(r"encode\(text\) = \[3 \+ ord\(c\) % (\d+) for c in text\], BOS=2, EOS=1", description)
        assert rule is not None, description
        self.ids = int(rule[1])
        self.texts: list[str] = []

    def encode(self, text: str, *, bos: bool = False, eos: bool = False) -> list[int]:
        self.texts.append(text)
        return [2] * bos + [3 + ord(c) % self.ids for c in text] + [1] * eos


class _Models:
    """fla_models as a plugin, with another tokenizer."""

    def __init__(self, tokenizer: _Shifted) -> None:
        self._tokenizer = tokenizer

    @hookimpl
    def fla_models(self) -> Iterator[ModelFamily]:
        for family in plugin.fla_models():
            yield attrs.evolve(family, tokenizer=lambda _: self._tokenizer)

    @hookimpl
    def fla_open_checkpoint(self, path: Path, registry: Registry, embodiment: str, options: Mapping[str, Any]) -> Any:
        return plugin.fla_open_checkpoint(path, registry, embodiment, options)


def test_the_config_is_recognised(saved: Saved) -> None:
    shapes = {path: tuple(leaf.shape) for path, leaf in checkpoint.read_shapes(saved.folder).items()}
    assert shapes == {path: leaf.shape for path, leaf in saved.params.items()}
    found = [family.recognise(shapes) for family in plugin.fla_models() if family.recognise is not None]
    (config,) = (one for one in found if one is not None)
    for field in ("pi05", "vision", "vocab_size", "action_dim", "image_size"):
        assert getattr(config, field) == getattr(saved.config, field)
    for ours, theirs in zip(config.experts, saved.config.experts, strict=True):
        assert attrs.evolve(ours, lora_attention=None, lora_mlp=None) == attrs.evolve(
            theirs, lora_attention=None, lora_mlp=None
        )
        assert ours.has_lora == theirs.has_lora


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_actions_for_a_robot(saved: Saved, golden: Any, dtype: str) -> None:
    """What `fla serve` does with the folder. The reference serves bfloat16 parameters, whatever `dtype`."""
    z = saved.want
    robot = ROBOTS[saved.about["config"]["robot"]]
    tokenizer = _Shifted(saved.about["fake_tokenizer"])
    registry = Registry()
    for name, module in (("libero", libero), ("aloha", aloha), ("models", _Models(tokenizer))):
        registry.add(module, name=name)
    told = {name: getattr(saved.config, name) for name in ("horizon", "max_tokens", "state_in_prompt")}
    # Shapes do not show how strongly adapters speak.
    told |= {
        n: unstructure(getattr(saved.config, n)) for n in ("language", "expert") if getattr(saved.config, n).has_lora
    }
    policy = open_policy(
        saved.folder,
        registry,
        embodiment=robot.name,
        assets=saved.about["config"]["asset_id"],
        model_options={**told, "dtype": dtype},
    )
    assert isinstance(policy, Policy)
    tokenizer.texts.clear()
    observation = {name.removeprefix("policy_in/"): value for name, value in z.items() if name.startswith("policy_in/")}
    observation.pop("noise", None)
    noise = z["policy_in/noise"]
    answer = policy.infer(observation, noise=noise)["actions"]
    assert tokenizer.texts == [str(text) for text in z[f"policy_{dtype}/encoded_text"]]
    within = 5e-5 if dtype == "float32" else 5e-2
    golden.close(answer, z[f"policy_{dtype}/actions"], within=within, what="actions")
    # Even the random numbers of later calls are the reference's.
    answer = policy.infer(observation)["actions"]
    golden.close(answer, z[f"policy_{dtype}/actions_own_rng_second_call"], within=within, what="second call")


def test_orbax_reads_what_we_write(saved: Saved, tmp_path: Path) -> None:
    """openpi restores `params` with plain Orbax: one tree `params`, each leaf under a last key `value`."""
    manifest = checkpoint.Manifest(family="pi05", variant="small", model={}, embodiments={}, step=7)
    path = checkpoint.write(tmp_path, manifest=manifest, params=saved.params, stats={})
    assert path == tmp_path / "7"
    assert [entry.name for entry in tmp_path.iterdir()] == ["7"]
    with ocp.PyTreeCheckpointer() as checkpointer:
        tree = checkpointer.restore(path / "params")
    assert set(tree) == {"params"}
    flat = traverse_util.flatten_dict(tree["params"], sep="/")
    assert set(flat) == {f"{name}/value" for name in saved.params}
    again = checkpoint.read_params(path)
    assert list(again) == list(saved.params)
    for name, leaf in saved.params.items():
        for copy in (flat[f"{name}/value"], again[name]):
            assert np.asarray(copy).dtype == leaf.dtype, name
            assert np.asarray(copy).tobytes() == leaf.tobytes(), name
