"""What this plugin offers to the SDK: folders that lerobot's `save_pretrained` wrote, as policies."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fla_sdk.errors import ConfigError
from fla_sdk.hookspecs import hookimpl
from fla_sdk.plugins import Registry

if TYPE_CHECKING:
    from fla_plugins.lerobot_policies.policy import LeRobotPolicy

_INSIDE = ("", "pretrained_model", "last/pretrained_model", "checkpoints/last/pretrained_model")
"""Where a policy lies in what a user may name: itself, a step, the steps, or a whole run of `lerobot-train`."""


def find(path: Path) -> Path | None:
    """The folder of a policy of lerobot's at `path`; None where there is none."""
    return next((folder for folder in (path / inner for inner in _INSIDE) if _is_policy(folder)), None)


def _is_policy(folder: Path) -> bool:
    try:
        config = json.loads((folder / "config.json").read_text())
    except (OSError, ValueError):
        return False
    return isinstance(config, dict) and {"type", "input_features", "output_features"} <= config.keys()


@hookimpl(tryfirst=True)  # a run of lerobot-train has numbered folders under checkpoints, as ours have
def fla_open_checkpoint(
    path: Path, registry: Registry, embodiment: str | None, options: Mapping[str, Any]
) -> "LeRobotPolicy | None":
    """Any policy of the installed lerobot, for the robot that the user names, or under its own names of features."""
    if (folder := find(path)) is None:
        return None
    for name, meant in (("guidance", "--guidance"), ("assets", "--assets")):
        if options.get(name) is not None:
            raise ConfigError(f"{folder} is a policy of lerobot's, which has no use for {meant}: leave it out")
    robot = None if embodiment is None else registry.embodiment(embodiment)
    from fla_plugins.lerobot_policies.policy import LeRobotPolicy

    return LeRobotPolicy(folder, robot=robot, changes=options.get("model", {}))
