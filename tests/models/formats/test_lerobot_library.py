"""Our policies in lerobot's own classes: the same observation and noise, the same actions in the robot's units."""

import functools
from pathlib import Path
from typing import Any

import attrs
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import fla_sdk as fla
from fla_models.configs import Pi0Config, spec, variants
from fla_models.formats import lerobot
from fla_models.parameters import assign
from fla_models.pi0 import Pi0
from fla_sdk.codec import Codec, collate_inputs
from fla_sdk.normalization import NormStats, Stats
from fla_sdk.sample import Sample
from fla_sdk.testing import CharacterTokenizer

pytestmark = pytest.mark.slow  # importing lerobot alone takes 10 s

ARM = fla.Embodiment(
    name="arm",
    state=fla.Space(fla.joints("hip", "knee"), fla.gripper()),
    action=fla.Space(fla.joints("hip", "knee", predict="relative"), fla.gripper()),
    cameras=(fla.Camera("wrist", slot="left_wrist_0_rgb"), fla.Camera("top", slot="base_0_rgb")),
    control_hz=20,
)
TASK = "pick up the red cup"
STEPS = 10


@pytest.fixture
def library(config: Pi0Config, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """lerobot that builds `config` where it would build the full sizes, and nothing else changed."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_LEROBOT_HOME", str(tmp_path / "lerobot"))
    pytest.importorskip("lerobot.policies", reason="needs the extra `lerobot`")
    import torch
    from lerobot.policies.pi0 import modeling_pi0
    from lerobot.policies.pi05 import modeling_pi05

    torch.set_num_threads(1)
    experts = {"gemma_2b": config.language, "gemma_300m": config.expert}
    vision = config.vision

    def sizes(name: str) -> Any:
        c = experts[name]
        return modeling_pi0.GemmaConfig(c.width, c.depth, c.mlp_dim, c.heads, c.kv_heads, c.head_dim)

    for module in (modeling_pi0, modeling_pi05):
        paligemma, expert = module.PaliGemmaForConditionalGenerationWithPiGemma, module.PiGemmaForCausalLM

        def small_paligemma(config: Any, build: Any = paligemma, vocab: int = config.vocab_size) -> Any:
            config.text_config.vocab_size, config.vision_config.projection_dim = vocab, config.text_config.hidden_size
            config.vision_config.hidden_size, config.vision_config.num_hidden_layers = vision.width, vision.depth
            config.vision_config.intermediate_size, config.vision_config.patch_size = vision.mlp_dim, vision.patch
            config.vision_config.num_attention_heads = vision.heads
            return build(config=config)

        def small_expert(config: Any, build: Any = expert, vocab: int = config.vocab_size) -> Any:
            config.vocab_size = vocab
            return build(config=config)

        monkeypatch.setattr(module, "get_gemma_config", sizes)
        monkeypatch.setattr(module, "PaliGemmaForConditionalGenerationWithPiGemma", small_paligemma)
        monkeypatch.setattr(module, "PiGemmaForCausalLM", small_expert)


class Characters:
    """Our test tokenizer, called as transformers' are."""

    def __call__(self, texts: list[str], *, max_length: int, **_: Any) -> dict[str, Any]:
        import torch

        ids = torch.zeros((len(texts), max_length), dtype=torch.long)
        mask = torch.zeros((len(texts), max_length), dtype=torch.long)
        for row, text in enumerate(texts):
            own = CharacterTokenizer().encode(text, bos=True)
            ids[row, : len(own)], mask[row, : len(own)] = torch.tensor(own), 1
        return {"input_ids": ids, "attention_mask": mask}


def _policy(config: Pi0Config) -> Any:
    from lerobot.policies.pi0.modeling_pi0 import PI0Policy
    from lerobot.policies.pi05.modeling_pi05 import PI05Policy

    return PI05Policy if config.pi05 else PI0Policy


def _theirs(config: Pi0Config, folder: Path, sample: Sample, noise: np.ndarray) -> np.ndarray:
    """Actions `[T, A]` that lerobot computes from what a robot sees."""
    import torch
    from lerobot.policies import make_pre_post_processors

    policy = _policy(config).from_pretrained(folder)
    overrides = {"tokenizer_processor": {"tokenizer": Characters(), "tokenizer_name": None}}
    before, after = make_pre_post_processors(
        policy.config, pretrained_path=str(folder), preprocessor_overrides=overrides
    )
    images = {
        f"observation.images.{name}": torch.tensor(image).permute(2, 0, 1).float() / 255
        for name, image in sample.images.items()
    }
    batch = before({**images, "observation.state": torch.tensor(sample.state), "task": sample.task})
    return after(policy.predict_action_chunk(batch, noise=torch.tensor(noise), num_steps=STEPS))[0].numpy()


def _ours(config: Pi0Config, parameters: dict[str, Any], codec: Codec, sample: Sample, noise: np.ndarray) -> np.ndarray:
    model = nnx.eval_shape(lambda: Pi0(config, rngs=nnx.Rngs(0)))
    assign(model, {path: jnp.asarray(array) for path, array in parameters.items()})
    graph, state = nnx.split(model)

    @functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})
    def run(state: Any, inputs: Any) -> jax.Array:
        return nnx.merge(graph, state).sample(jax.random.key(0), inputs, steps=STEPS, noise=jnp.asarray(noise))

    return codec.decode(np.asarray(run(state, collate_inputs([codec.encode(sample)])))[0], sample.state)


@pytest.fixture
def codec(config: Pi0Config) -> Codec:
    numbers = np.random.default_rng(5)
    state, actions = (Stats.of(numbers.normal(0.2, 0.5, (200, 3))) for _ in range(2))
    stats = NormStats(state=state, actions=actions)
    return Codec(embodiment=ARM, spec=spec(config), stats=stats, tokenizer=CharacterTokenizer())


@pytest.fixture
def sample() -> Sample:
    numbers = np.random.default_rng(6)
    images = {camera.name: numbers.integers(0, 256, (8, 8, 3), np.uint8) for camera in ARM.cameras}
    return Sample(images=images, state=np.array([0.3, -0.8, 0.6], np.float32), task=TASK)


@pytest.mark.usefixtures("library")
def test_the_same_actions(
    config: Pi0Config, codec: Codec, sample: Sample, random_parameters: Any, tmp_path: Path, capsys: Any
) -> None:
    config = attrs.evolve(config, max_tokens=100)
    codec = attrs.evolve(codec, spec=spec(config))
    parameters = random_parameters(config)
    lerobot.export(config, parameters, [(ARM, codec.stats)], tmp_path / "policy")
    noise = np.random.default_rng(7).standard_normal((1, config.horizon, config.action_dim), np.float32)
    theirs = _theirs(config, tmp_path / "policy", sample, noise)
    assert "All keys loaded successfully" in capsys.readouterr().out
    ours = _ours(config, parameters, codec, sample, noise)
    assert theirs.shape == ours.shape == (config.horizon, 3)
    assert np.abs(theirs - ours).max() < 1e-4 * np.abs(ours).max()


@pytest.mark.usefixtures("library")
def test_what_lerobot_saves_we_read(config: Pi0Config, random_parameters: Any, tmp_path: Path) -> None:
    before = random_parameters(config)
    lerobot.export(config, before, [], tmp_path / "policy")
    _policy(config).from_pretrained(tmp_path / "policy").save_pretrained(tmp_path / "saved")
    assert lerobot.config_of(tmp_path / "saved") == ("pi05" if config.pi05 else "pi0", config)
    after = lerobot.read_weights(tmp_path / "saved", config)
    assert after is not None and after.keys() == before.keys()
    assert all(np.array_equal(after[path], before[path]) for path in before)


@pytest.mark.parametrize("family", ["pi0", "pi05"])
def test_the_published_sizes_have_lerobots_names_and_shapes(family: str, golden_trees: Any) -> None:
    """Nothing is allocated: openpi's recorded tree on our side, meta tensors on lerobot's."""
    torch = pytest.importorskip("torch", reason="needs the extra `lerobot`")
    pytest.importorskip("lerobot.policies", reason="needs the extra `lerobot`")
    from lerobot.policies.pi0 import modeling_pi0
    from lerobot.policies.pi05 import modeling_pi05

    config = variants(pi05=family == "pi05")["base"]
    tree = {path: jax.ShapeDtypeStruct(shape, np.float32) for path, (shape, _) in golden_trees[family].items()}
    ours = {item.name: item.shape for item in lerobot.tensors(config, tree)}
    with torch.device("meta"):
        if family == "pi05":
            model = modeling_pi05.PI05Pytorch(modeling_pi05.PI05Config(device="cpu"))
        else:
            model = modeling_pi0.PI0Pytorch(modeling_pi0.PI0Config(device="cpu"))
    theirs = {f"model.{name}": tuple(array.shape) for name, array in model.state_dict().items()}
    table = "model.paligemma_with_expert.paligemma.model.language_model.embed_tokens.weight"
    assert theirs.pop(table) == (257152, 2048)  # filled from the output layer when lerobot loads
    assert ours == theirs
