"""Checkpoints of openpi as policies: `params/` and `assets/` alone, without a word about what they are.

The family and all sizes are read from the shapes, the rest from the name of the folder, or told by the user.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fla_models.published import NAMES, named_after
from fla_sdk.config import override
from fla_sdk.errors import CheckpointError, ConfigError, UnknownNameError, nearest
from fla_sdk.normalization import NormStats
from fla_sdk.plugins import Registry
from fla_sdk.records import ModelFamily

if TYPE_CHECKING:
    from fla_sdk.policy.parameters import Flat
    from fla_sdk.policy.policy import Policy

TOLD: Mapping[str, tuple[str, ...]] = {
    "pi0": ("horizon",),
    "pi05": ("horizon", "state_in_prompt"),
    "pi0_fast": ("horizon", "action_dim"),
}
"""Family -> fields of the config that neither shapes nor an unknown name show, and that no default may guess."""

ASSETS = {"aloha": "trossen", "libero": "physical-intelligence/libero", "ur5": "ur5e"}
"""Embodiment -> openpi's name for its statistics, where that is another one."""


def open_checkpoint(
    path: Path, registry: Registry, *, embodiment: str | None, options: Mapping[str, Any]
) -> "Policy | None":
    """A policy for one robot that answers as openpi's server does; None when `path` is no checkpoint of openpi.

    `options` as in the hook `fla_open_checkpoint`. With the field `compat` set to `fixed`, what openpi rounds is exact.
    """
    from fla_sdk.policy import checkpoint
    from fla_sdk.policy.policy import Policy

    if not checkpoint.is_checkpoint(path) or ((folder := checkpoint.find(path)) / "fla.json").exists():
        return None
    shapes = {name: tuple(leaf.shape) for name, leaf in checkpoint.read_shapes(folder).items()}
    if (family := _family(shapes, registry)) is None or family.recognise is None:
        return None
    config = complete(family.recognise(shapes), folder, options.get("model", {}), family=family.name)
    name, named = named_after(folder) or (folder.name, None)
    if named is not None and named.unfit:
        raise CheckpointError(f"no policy can be made of {name}: {named.unfit}")
    robot, stats = choose_robot(folder, registry, embodiment=embodiment, assets=options.get("assets"))

    def read() -> "Flat":
        flat = checkpoint.read_params(folder)
        if config.compat == "openpi":
            import ml_dtypes

            # openpi rounds all parameters when it loads them, whatever it then computes in.
            flat = {path: value.astype(ml_dtypes.bfloat16) for path, value in flat.items()}
        return flat

    return Policy.assemble(
        family,
        config,
        robots=[(registry.embodiment(robot), stats)],
        read=read,
        where=folder,
        description=f"{family.name} of openpi ({name})",
        denoising_steps=options.get("denoising_steps", 10),
        guidance=options.get("guidance"),
    )


def _family(shapes: Mapping[str, tuple[int, ...]], registry: Registry) -> ModelFamily | None:
    families = [registry.models[name] for name in TOLD if name in registry.models]
    return next((one for one in families if one.recognise is not None and one.recognise(shapes) is not None), None)


def complete(config: Any, folder: Path, changes: Mapping[str, Any], *, family: str) -> Any:
    """The config of the checkpoint in `folder`: as recognised, as its name says, as told.

    Raises `ConfigError` that says what has to be told, and `CheckpointError` when the name is that of another family.
    """
    options: Mapping[str, Any] = {}
    if (found := named_after(folder)) is not None:
        name, named = found
        options = named.options
        if named.family != family:
            raise CheckpointError(f"{folder} is called {name}, which is a {named.family}, but holds a {family}")
    elif missing := [field for field in TOLD[family] if field not in changes]:
        hint = f" (or is it {close!r}?)" if (close := nearest(folder.name, NAMES)) else ""
        raise ConfigError(
            f"{folder} is a {family} checkpoint of openpi, but neither its shapes nor its name show "
            f"{' and '.join(missing)}: give {' '.join(f'--model-option {field}=...' for field in missing)}{hint}. "
            f"Known names: {', '.join(NAMES)}"
        )
    return override(config, {"compat": "openpi", **options, **changes}, where=f"--model-option for {folder}")


def choose_robot(
    folder: Path, registry: Registry, *, embodiment: str | None, assets: str | None
) -> tuple[str, NormStats]:
    """The robot to be driven and its statistics in `assets/`, by name.

    Without `embodiment` it is the one robot that statistics belong to. Statistics that belong to another known robot
    are taken only when `assets` says so.
    """
    root = folder / "assets"
    ids = sorted(str(file.parent.relative_to(root)) for file in root.rglob("norm_stats.json"))
    if not ids:
        raise CheckpointError(f"{folder} has no statistics: expected {root}/<name>/norm_stats.json")
    listing = f"(statistics in the checkpoint: {', '.join(ids)})"
    owners = {ASSETS.get(name, name): name for name in registry.embodiments}
    if embodiment is None:
        candidates = [owners[one] for one in ids if one in owners]
        if len(candidates) != 1:
            raise ConfigError(f"which robot is {folder} to drive? give --embodiment NAME {listing}")
        (embodiment,) = candidates
    registry.embodiment(embodiment)
    if assets is None:
        own = ASSETS.get(embodiment, embodiment)
        foreign = [one for one in ids if one in owners]
        if own in ids:
            assets = own
        elif len(ids) == 1 and not foreign:
            (assets,) = ids
        else:
            raise ConfigError(f"which statistics of {folder} are those of {embodiment}? give --assets NAME {listing}")
    if assets not in ids:
        raise UnknownNameError(f"statistics in {root}", assets, ids)
    return embodiment, NormStats.load(root / assets / "norm_stats.json")
