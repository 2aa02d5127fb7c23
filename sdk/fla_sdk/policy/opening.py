"""`open_policy`: whatever a path holds, as something that answers `infer`."""

from pathlib import Path

from fla_sdk.plugins import Registry
from fla_sdk.policy.interface import PolicyLike
from fla_sdk.policy.policy import Policy


def open_policy(
    path: Path, registry: Registry, *, embodiment: str | None = None, denoising_steps: int = 10
) -> PolicyLike:
    """A plugin's policy (hook `fla_open_checkpoint`), or a checkpoint of `fla train`, compiled and ready."""
    if (opened := registry.open_checkpoint(path)) is not None:
        return opened
    policy = Policy.load(path, plugins=registry, embodiment=embodiment, denoising_steps=denoising_steps)
    policy.warm_up()
    return policy
