"""`open_policy`: whatever a path or URI holds, as something that answers `infer`."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from fla_sdk.errors import ConfigError
from fla_sdk.plugins import Registry
from fla_sdk.policy.fetch import fetch, is_remote
from fla_sdk.policy.interface import PolicyLike
from fla_sdk.policy.policy import Policy


def open_policy(
    path: Path | str,
    registry: Registry,
    *,
    embodiment: str | None = None,
    denoising_steps: int = 10,
    guidance: float | None = None,
    assets: str | None = None,
    model_options: Mapping[str, Any] | None = None,
    max_batch: int = 1,
    rest: bool = True,
    progress: Callable[[str], None] | None = None,
) -> PolicyLike:
    """A plugin's policy (hook `fla_open_checkpoint`), or a checkpoint of `fla train`, compiled and ready.

    `denoising_steps` and `guidance` are those of `Policy`; `assets` names the statistics in a checkpoint that does not
    say whose they are; `model_options` are fields of the model's config to change. `max_batch`, `rest` and `progress`
    are those of `Policy.warm_up`.
    """
    place = fetch(path) if is_remote(path) else Path(path).expanduser()
    options: dict[str, Any] = {"denoising_steps": denoising_steps, "guidance": guidance}
    if assets is not None:
        options["assets"] = assets
    if model_options:
        options["model"] = dict(model_options)
    if (opened := registry.open_checkpoint(place, embodiment=embodiment, options=options)) is not None:
        if isinstance(opened, Policy):
            opened.warm_up(max_batch=max_batch, rest=rest, progress=progress)
        return opened
    if assets is not None:
        raise ConfigError(f"{place} says whose statistics it holds: leave out --assets {assets}")
    policy = Policy.load(
        place,
        plugins=registry,
        embodiment=embodiment,
        denoising_steps=denoising_steps,
        guidance=guidance,
        model_options=model_options,
    )
    policy.warm_up(max_batch=max_batch, rest=rest, progress=progress)
    return policy
