"""The `fla` command: one module per subcommand, and those that plugins add."""

import argparse
import sys
from collections.abc import Sequence
from importlib.metadata import version

from fla_sdk.cli import (
    data,
    embodiments,
    evaluate,
    export,
    models,
    ping,
    plan,
    plugins,
    recipes,
    record,
    runs,
    serve,
    stats,
    train,
)
from fla_sdk.errors import FlaError
from fla_sdk.plugins import Registry, load_plugins
from fla_sdk.records import Command

BUILT_IN = (
    plugins.COMMAND,
    embodiments.COMMAND,
    models.COMMAND,
    recipes.COMMAND,
    record.COMMAND,
    data.COMMAND,
    stats.COMMAND,
    plan.COMMAND,
    train.COMMAND,
    runs.COMMAND,
    serve.COMMAND,
    ping.COMMAND,
    evaluate.COMMAND,
    export.COMMAND,
)

EXTRAS = {
    **dict.fromkeys(("av", "flax", "grain", "h5py", "jax", "matplotlib", "optax", "orbax", "pyarrow", "yaml"), "train"),
    **dict.fromkeys(("filelock", "google_crc32c", "huggingface_hub", "rich", "safetensors"), "train"),
    **dict.fromkeys(("scipy", "sentencepiece", "simplejpeg", "tokenizers"), "train"),
    **dict.fromkeys(("gym_aloha", "gymnasium", "mujoco"), "sim"),
    **dict.fromkeys(("diffusers", "lerobot", "torch"), "lerobot"),
    "ray": "ray",
    "rerun": "view",
    "wandb": "track",
}
"""Top-level module that a light installation lacks -> the extra that brings it."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run `fla` with `argv` (default: the process's arguments) and return its exit status.

    0 done, 1 an error that was explained, 2 wrong usage, 130 interrupted.
    """
    try:
        registry = load_plugins()
        for broken in registry.broken:
            print(f"fla: warning: {broken}", file=sys.stderr)
        arguments = _parser(registry).parse_args(argv)
        if "run" not in arguments:
            _parser(registry).print_help()
            return 0
        return int(arguments.run(arguments, registry) or 0)
    except FlaError as error:
        print(f"fla: error: {error}", file=sys.stderr)
        return 1
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] not in EXTRAS:
            raise
        extra = EXTRAS[str(error.name).split(".")[0]]
        print(f'fla: error: this needs {error.name}: pip install "fla-sdk[{extra}]"', file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("fla: interrupted", file=sys.stderr)
        return 130


def _parser(registry: Registry) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="fla", description="Fine-tune vision-language-action models on any robot.", allow_abbrev=False
    )
    parser.add_argument("--version", action="version", version=f"fla-sdk {version('fla-sdk')}")
    subcommands = parser.add_subparsers(metavar="COMMAND")
    for command in (*BUILT_IN, *_added(registry)):
        one = subcommands.add_parser(command.name, help=command.help, description=command.help, allow_abbrev=False)
        command.configure(one)
        one.set_defaults(run=command.run)
    return parser


def _added(registry: Registry) -> list[Command]:
    """Commands of plugins; one that takes a built-in's name is left out with a warning."""
    taken = {command.name for command in BUILT_IN}
    for name in sorted(taken & registry.commands.keys()):
        source = registry.provider("command", name).source
        print(f"fla: warning: {source}: command {name!r} exists already and was left out", file=sys.stderr)
    return [command for name, command in registry.commands.items() if name not in taken]
