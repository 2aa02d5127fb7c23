"""Pi0 and Pi0.5 in the layout of lerobot's policies of these names, in both directions.

A folder with `config.json`, `model.safetensors` and the processors around the model, which
`PI0Policy.from_pretrained(folder)` or `PI05Policy` loads: lerobot 0.6. In float32 its actions differ from ours by 3e-5
of their range, because we add up and embed the flow's time in float32 as openpi does, and lerobot in float64; without
that difference, by 3e-7.
"""

import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs
import ml_dtypes
import numpy as np

from fla_models.configs import GEMMA_2B, GEMMA_300M, PALIGEMMA_VOCAB, SO400M, BackboneConfig, GemmaConfig, Pi0Config
from fla_models.formats import lerobot_policy, torch_names
from fla_models.formats.correspondence import Entry, Flat, entries, items, read
from fla_models.formats.safetensors import Item, Tensors, write
from fla_models.formats.torch_names import EXPERT, LANGUAGE, PROJECTOR, UNUSED, VISION
from fla_sdk.embodiment import Embodiment
from fla_sdk.errors import CheckpointError, ConfigError
from fla_sdk.model import Array
from fla_sdk.normalization import NormStats

EXPERTS: dict[str, GemmaConfig] = {"gemma_2b": GEMMA_2B, "gemma_300m": GEMMA_300M}
"""The transformers that lerobot can build, by its names for them."""

TOWER = SO400M
"""The only vision tower that lerobot builds."""

_ROOT = "paligemma_with_expert."
_SPELT = {
    VISION: f"{_ROOT}paligemma.model.vision_tower.vision_model.",
    PROJECTOR: f"{_ROOT}paligemma.model.multi_modal_projector.",
    # The output layer, which lerobot copies to the embedding when it loads; the file need not hold both.
    f"{LANGUAGE}embed_tokens.": f"{_ROOT}paligemma.lm_head.",
    LANGUAGE: f"{_ROOT}paligemma.model.language_model.",
    EXPERT: f"{_ROOT}gemma_expert.model.",
}
_OLD_STATISTICS = r"(un)?normalize_(inputs|targets|outputs)\..*"


def table(config: Pi0Config) -> list[Entry]:
    """Every parameter of a Pi0 or Pi0.5 without adapters. The width of actions is free."""
    width = config.expert.width
    rows = [("action_in_proj", "AW"), ("action_out_proj", "WA")]
    if config.pi05:
        rows += [("time_mlp_in", "XW"), ("time_mlp_out", "XW")]
    else:
        rows += [("state_proj", "AW"), ("action_time_mlp_in", "YW"), ("action_time_mlp_out", "XW")]
    both = [
        row
        for name, (i, o) in rows
        for row in (
            (f"{name}/kernel", f"{name}.weight", f"{i}{o}->{o},{i}"),
            (f"{name}/bias", f"{name}.bias", f"{o}->{o}"),
        )
    ]
    sizes = {"W": width, "X": width, "Y": 2 * width}
    return [
        *torch_names.backbone(config),
        *torch_names.gemma(config.expert, theirs=EXPERT, expert=1, adaptive=config.pi05),
        *entries(both, ours="", theirs="", sizes=sizes),
    ]


def export(
    config: Pi0Config, parameters: Mapping[str, Array], robots: Sequence[tuple[Embodiment, NormStats]], out: Path
) -> None:
    """Make the folder `out`, for one robot or for none: then states and actions are the model's own, normalized.

    Parameters keep their type. Raises `ConfigError` for what lerobot has no place for.
    """
    out = out.absolute()
    check_fits(config, parameters)
    if len(robots) > 1:
        names = ", ".join(embodiment.name for embodiment, _ in robots)
        raise ConfigError(f"a lerobot policy is for one robot, this checkpoint is for {names}: choose one")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ConfigError(f"{out} exists and is not an empty folder: give another place")
    robot = robots[0] if robots else None
    files = lerobot_policy.files(config, robot, experts=(_name(config.language), _name(config.expert)))
    partial = out.with_name(f".{out.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        for name, content in files.items():
            if isinstance(content, str):
                (partial / name).write_text(content)
            else:
                arrays = [Item(key, a.shape, a.dtype, lambda a=a: a) for key, a in content.items()]
                write(partial / name, arrays, metadata={"format": "pt"})
        write(partial / "model.safetensors", tensors(config, parameters), metadata={"format": "pt"})
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    if out.exists():
        out.rmdir()
    partial.rename(out)


def tensors(config: Pi0Config, parameters: Mapping[str, Array]) -> Iterator[Item]:
    """The arrays of `model.safetensors`, to be written one by one."""
    for item in items(table(config), parameters):
        yield item._replace(name=f"model.{_spell(item.name)}")
    # lerobot refuses files without this layer, which nothing ever uses. Zeros are zeros in half the space too.
    shape, dtype = (config.vocab_size, config.expert.width), np.dtype(ml_dtypes.bfloat16)
    yield Item(f"model.{_ROOT}gemma_expert.lm_head.weight", shape, dtype, lambda: np.zeros(shape, dtype))


def check_fits(config: Pi0Config, parameters: Mapping[str, Array]) -> None:
    """Raise `ConfigError` with everything about the model that lerobot cannot hold."""
    if not isinstance(config, Pi0Config):
        raise ConfigError(f"lerobot's layout is written for pi0 and pi05 alone, not for a {type(config).__name__}")
    if config.language.has_lora or config.expert.has_lora or any("lora" in path for path in parameters):
        raise ConfigError("lerobot has no place for these adapters: merge them into the weights first (--merge-lora)")
    problems = [
        f"{part} is {getattr(config, part)}, lerobot builds {' or '.join(EXPERTS)}"
        for part in ("language", "expert")
        if getattr(config, part) not in EXPERTS.values()
    ]
    for what, ours, theirs in (
        ("vision", attrs.evolve(config.vision, position_init=TOWER.position_init), TOWER),
        ("vocab_size", config.vocab_size, PALIGEMMA_VOCAB),
        ("tokenizer", config.tokenizer, "paligemma"),
        ("causal_prompt", config.causal_prompt, False),
    ):
        if ours != theirs:
            problems.append(f"{what} is {ours}, lerobot has {theirs}")
    if config.image_size[0] != config.image_size[1]:
        problems.append(f"image_size is {config.image_size}, lerobot takes squares")
    if problems:
        raise ConfigError("lerobot cannot build this model:\n  " + "\n  ".join(problems))
    paths = {entry.path for entry in table(config)}
    if paths != parameters.keys():
        missing, extra = sorted(paths - parameters.keys()), sorted(parameters.keys() - paths)
        raise ConfigError(
            "lerobot's layout needs exactly the parameters of a plain model: "
            + "; ".join(
                f"{what} {', '.join(some[:4])}" for what, some in (("missing", missing), ("extra", extra)) if some
            )
        )


def read_weights(path: Path, config: BackboneConfig) -> Flat | None:
    """Parameters of a lerobot policy or of openpi's PyTorch port, in the types of the file; None when it is neither.

    `path` is the folder or the `.safetensors` file. Raises `CheckpointError` when it is damaged or of another model.
    """
    stored = _open(path)
    if stored is None:
        return None
    holds = "pi05" if _is_pi05(stored) else "pi0"
    if not isinstance(config, Pi0Config) or config.pi05 != (holds == "pi05"):
        wanted = ("pi05" if config.pi05 else "pi0") if isinstance(config, Pi0Config) else type(config).__name__
        raise CheckpointError(f"{path} holds a {holds} model, not a {wanted}: choose a variant of family {holds}")
    return read(table(config), stored, unused=rf"{UNUSED}|{_OLD_STATISTICS}|expert\.embed_tokens\.weight")


def config_of(path: Path) -> tuple[str, Pi0Config] | None:
    """Family and config of a policy's folder, from its `config.json` and the shapes of its arrays; None for others."""
    stored = _open(path) if (path / "config.json").is_file() else None
    if stored is None:
        return None
    file = path / "config.json"
    try:
        given: dict[str, Any] = dict(json.loads(file.read_text()))
        language, expert = EXPERTS[given["paligemma_variant"]], EXPERTS[given["action_expert_variant"]]
        pi05, width = _is_pi05(stored), stored.shape("action_in_proj.weight")[1]
        config = Pi0Config(
            pi05=pi05,
            vision=TOWER,
            language=language,
            expert=expert,
            vocab_size=PALIGEMMA_VOCAB,
            action_dim=width,
            horizon=int(given.get("chunk_size", given.get("action_horizon", 50))),
            max_tokens=int(given.get("tokenizer_max_length", 200 if pi05 else 48)),
            image_size=tuple(given.get("image_resolution", (224, 224))),  # pyright: ignore[reportArgumentType]
            dtype="bfloat16" if given.get("dtype", given.get("precision")) == "bfloat16" else "float32",
            time_alpha=float(given.get("time_sampling_beta_alpha", 1.5)),
            state_in_prompt=not pi05 or lerobot_policy.has_state_in_prompt(path),
        )
    except (ValueError, KeyError, TypeError) as error:
        raise CheckpointError(
            f"{file} is damaged or of another kind of policy: {type(error).__name__}: {error}"
        ) from error
    if given.get("max_state_dim", width) != width:
        raise CheckpointError(
            f"{path} has room for {given['max_state_dim']} state and {width} action dimensions; ours are of one width"
        )
    return "pi05" if pi05 else "pi0", config


def _open(path: Path) -> Tensors | None:
    stored = Tensors.open(path)
    if stored is None or not any(name.removeprefix("model.").startswith(_ROOT) for name in stored.places):
        return None
    stored = stored.renamed(_tower)
    table, tied = f"{LANGUAGE}embed_tokens.weight", ("lm_head.weight", f"{LANGUAGE}lm_head.weight")
    if table not in stored.places:
        stored = stored.renamed(lambda name: table if name in tied else name)
    return stored


def _tower(name: str) -> str:
    name = name.removeprefix("model.")
    if name.startswith(start := f"{_ROOT}gemma_expert."):
        return EXPERT + name.removeprefix(start).removeprefix("model.")
    if name.startswith(start := f"{_ROOT}paligemma."):
        return torch_names.tower(name.removeprefix(start))
    return name


def _spell(name: str) -> str:
    return next((there + name.removeprefix(here) for here, there in _SPELT.items() if name.startswith(here)), name)


def _is_pi05(stored: Tensors) -> bool:
    return "time_mlp_in.weight" in stored.places


def _name(config: GemmaConfig) -> str:
    return next(name for name, known in EXPERTS.items() if known == config)
